//! Converts iptables rules to a policy: `iptables-save` text in, YAML out.
//!
//! The path of a packet to a published port is evaluated as in the kernel: PREROUTING of raw and mangle, the
//! DNAT in nat, FORWARD of mangle, filter and security, with every chain that these jump to and the policies
//! of the base chains, for all sources at once. Rules behind the DNAT match a container's port, a policy the
//! host's; the DNAT rules map one to the other.
//!
//! No chain is known by name: a rule is imported if dfw understands all of it, and reported with its line if
//! not. An accept rule that is not imported closes a port; a drop rule that is not imported opens it, and is
//! reported first. If that could go unreported, no policy is made.

mod dump;
mod format;
mod found;
mod group;
mod interface;
mod judge;
mod mistake;
mod options;
mod outcome;
mod path;
mod port;
mod published;
mod question;
mod ranges;
mod remark;
mod rule;
mod section;
mod trail;
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

/// A policy converted from rules.
#[derive(Debug)]
pub struct Import {
    /// The policy as valid YAML.
    pub text: String,
    /// The parsed policy.
    pub policy: Policy,
    /// The remarks to read before the policy is used: first ports that it opens, then in the order of the dumps.
    pub remarks: Vec<Diagnostic>,
}

/// Reasons why no policy can be made.
#[derive(Debug, Error)]
pub enum Error {
    /// The input is not a dump, or the policy could allow more than the rules. The first diagnostic gives the
    /// reason; others are the rules that would be lost.
    #[error("cannot make a policy from these rules")]
    Rejected(Vec<Diagnostic>),
    /// The policy made from the rules is not valid, which is a bug; with the first error.
    #[error("the policy made from these rules is not valid: {0}")]
    Invalid(String),
}

/// Converts the rules in `files`, each the output of `iptables-save`, `ip6tables-save`, or both, to a policy.
///
/// # Errors
/// If a file is not a dump, if the policy could allow more than the rules because a dump is incomplete, or
/// if the policy is not valid, which is a bug.
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
