//! From the rules that people have to a policy: `iptables-save` text in, YAML out.
//!
//! A packet to a published port is followed as the kernel has it: PREROUTING of raw and mangle, the
//! DNAT in nat, FORWARD of mangle, filter and security, with every chain that these call and the
//! policies of the base chains. All sources walk at once. The rules behind the DNAT speak of a
//! container's port and a policy of the host's; the DNAT tells which is which.
//!
//! Nothing on this way is known by the name of its chain: a rule is carried over if all that it says
//! is understood, and told at its line if not. A rule that lets somebody in is then left out, which
//! closes; one that denies is left out as well, which opens, and is told first. Where no such
//! remark could be made, there is no policy.

mod dump;
mod format;
mod found;
mod group;
mod interface;
mod judge;
mod mistake;
mod options;
mod path;
mod port;
mod published;
mod question;
mod ranges;
mod remark;
mod rule;
mod section;
mod unfollowed;
mod verdict;
mod walk;
mod words;
mod write;

use crate::net::Family;
use std::collections::BTreeMap;

use thiserror::Error;

use crate::policy::{Policy, read_text};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap};

use dump::Dump;
use found::Found;
use judge::Judge;
use path::Path;
use port::Port;
use published::Published;

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
    /// These are no dumps, or a policy of them could be more open than the rules are. The first
    /// diagnostic says why; others are the rules that would be lost.
    #[error("no policy can be made of these rules")]
    Rejected(Vec<Diagnostic>),
    /// The policy reader denies what was made, which is a bug; with its first objection.
    #[error("the policy made of these rules is not valid: {0}")]
    Invalid(String),
}

/// Makes a policy of the rules in `files`, each the text of `iptables-save`, `ip6tables-save`, or
/// both.
///
/// # Errors
/// If a file is no dump, if what the dumps lack could make the policy more open than the rules are,
/// or if the policy would not be one, which is a bug.
pub fn import(sources: &SourceMap, files: &[FileId]) -> Result<Import, Error> {
    let foreign: Vec<_> = files
        .iter()
        .filter_map(|&file| format::foreign(sources, file))
        .collect();
    if !foreign.is_empty() {
        return Err(Error::Rejected(foreign));
    }
    let dump = Dump::read(sources, files).map_err(|error| Error::Rejected(vec![*error]))?;
    let families: Vec<_> = Family::ALL
        .into_iter()
        .filter(|family| dump.has(*family))
        .collect();
    if families.is_empty() {
        return Err(Error::Rejected(vec![format::nothing()]));
    }
    let paths: BTreeMap<_, _> = families
        .iter()
        .map(|&family| (family, Path::of(&dump, family)))
        .collect();
    let published = Published::find(&dump, &paths);
    let mut judge = Judge::new(&dump, &published, &paths);
    let ports = port::all(&mut judge, &published);
    let found = Found {
        sources,
        dump: &dump,
        paths: &paths,
        published: &published,
        ports: &ports,
    };
    let mut remarks = dump.remarks.clone();
    remarks.extend(remark::all(&found, &judge));
    let mut remarks = group::grouped(sources, remarks);
    if !ports.iter().any(Port::is_published) {
        let has_nat = families.iter().any(|f| dump.table(*f, "nat").is_some());
        let denies = paths
            .values()
            .flat_map(Path::rules)
            .any(|(_, r)| r.denies());
        if !has_nat || denies {
            let why = if has_nat {
                format::nothing_published(published.uncalled)
            } else {
                format::no_nat(&families)
            };
            return Err(Error::Rejected([vec![why], remarks].concat()));
        }
        remarks.insert(0, remark::nothing_published());
    }
    let restricts = judge.restricts_others(port::samples(&ports));
    let nowhere = |port: &Port| port.is_published() && port.ways.values().all(Vec::is_empty);
    let deny = restricts || !published.left_out.is_empty() || ports.iter().any(nowhere);
    let text = write::policy(sources, &dump, &ports, deny);
    let policy = read_text("imported.yaml", &text).map_err(Error::Invalid)?;
    Ok(Import {
        text,
        policy,
        remarks,
    })
}
