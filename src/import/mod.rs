//! From the rules that people have to a policy: `iptables-save` text in, YAML out.
//!
//! The rules that stand before an engine's own (the chain DOCKER-USER, and what it calls) judge
//! packets *after* their destination was rewritten: they speak of a container's port. A policy
//! speaks of the host's. The DNAT rules in the same dump tell which is which, so every published
//! port is followed through the rules, with all sources at once, and who gets through is written
//! at the port of the host.
//!
//! What cannot be understood is told, line by line. A rule that lets somebody in is then left out,
//! which closes; one that refuses is left out as well, which opens, and is told first.

mod interface;
mod mistake;
mod named;
mod options;
mod parse;
mod port;
mod published;
mod question;
mod remark;
mod rule;
mod unfollowed;
mod verdict;
mod walk;
mod words;
mod write;

use thiserror::Error;

use crate::diagnostic::Diagnostic;
use crate::policy::{Policy, read_text};
use crate::source::{FileId, Sources};

use parse::Dump;
use rule::Family;
use verdict::Judge;

/// A policy made of rules.
#[derive(Debug)]
pub struct Import {
    /// The policy as YAML; the policy reader has read it without an error.
    pub text: String,
    /// What it read.
    pub policy: Policy,
    /// What should be known before the policy is used: first what it opens, then in the order of
    /// the dumps.
    pub remarks: Vec<Diagnostic>,
}

/// Why there is no policy.
#[derive(Debug, Error)]
pub enum Error {
    /// No text has a table of rules.
    #[error("no rules to import: this is not what `iptables-save` prints")]
    NoRules,
    /// The policy reader refuses what was made, which is a bug; with its first objection.
    #[error("the policy made of these rules is not valid: {0}")]
    Invalid(String),
}

/// Makes a policy of the rules in `files`, each the text of `iptables-save`, `ip6tables-save`, or
/// both.
///
/// # Errors
/// If no file has a table of rules, or if the policy would not be one, which is a bug.
pub fn import(sources: &Sources, files: &[FileId]) -> Result<Import, Error> {
    let dump = Dump::read(sources, files);
    if !Family::BOTH.into_iter().any(|family| dump.has(family)) {
        return Err(Error::NoRules);
    }
    let mut remarks = dump.remarks.clone();
    let mut published = published::find(&dump, &mut remarks);
    named::add_named(&dump, &mut published);
    let mut judge = Judge::new(&dump, &published);
    let ports = port::all(&mut judge);
    let deny = judge.restricts_others();
    remarks.extend(remark::all(&judge, &ports));
    // What opens more than the rules did comes first.
    remarks.sort_by_key(|remark| {
        let place = remark.primary.as_ref().map(|label| label.span.clone());
        (remark.slug != unfollowed::OPENS, place)
    });
    let text = write::policy(sources, &dump, &ports, deny);
    let policy = read_text("imported.yaml", &text).map_err(Error::Invalid)?;
    Ok(Import {
        text,
        policy,
        remarks,
    })
}
