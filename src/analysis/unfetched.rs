//! Answers that depend on a source that was never fetched, or whose list cannot be read: nobody knows what it holds,
//! so they are not judged.
//!
//! Every answer is computed twice: as if such sources were empty, and as if each held all that it may ever hold. Such
//! a source can only allow, for under `except` it is an error; so whatever it holds, a
//! verdict that is the same in both answers is the true one.

use std::rc::Rc;

use crate::net::AddressSet;

use super::access::Access;
use super::audit::{Admits, Exposure, Report};
use super::explain::Walk;
use super::explain::to::{Block, Clients};
use super::judgement::{Judgement, Reason, Verdict};

/// Marks the walks whose verdict is another one with `full` sources as not judged.
pub fn doubt_walks(walks: &mut [Walk], full: &[Walk]) {
    for walk in walks {
        let verdict = walk.judgement.verdict();
        let mut same = full
            .iter()
            .filter(|other| other.path == walk.path && share(&other.addresses, &walk.addresses));
        let known = |other: &Walk| other.judgement.verdict() == verdict;
        if !(same.next().is_some_and(known) && same.all(known)) {
            walk.judgement = Judgement::NotJudged(Reason::UnknownList);
        }
    }
}

/// Marks the clients whose verdict is another one with `full` sources as not judged.
pub fn doubt_clients(clients: &mut Clients, full: &Clients) {
    for block in &mut clients.blocks {
        let same = full.blocks.iter().filter(|other| overlap(block, other));
        let accesses = same.flat_map(|other| &other.accesses);
        let allowed = accesses.filter(|access| access.verdict() != Verdict::Deny);
        let allowed = allowed.fold(AddressSet::default(), |all, access| {
            all.union(&access.sources)
        });
        let mut unknown = Vec::new();
        for access in &mut block.accesses {
            let open = access.sources.intersection(&allowed);
            if access.verdict() != Verdict::Deny || open.is_empty() {
                continue;
            }
            let mut part = access.clone();
            part.judgement = Judgement::NotJudged(Reason::UnknownList);
            access.sources = Rc::new(access.sources.difference(&open));
            part.sources = Rc::new(open);
            unknown.push(part);
        }
        block.accesses.retain(|access| !access.sources.is_empty());
        let denied = |access: &Access| access.verdict() == Verdict::Deny;
        let first = block.accesses.iter().position(denied);
        let first = first.unwrap_or(block.accesses.len());
        block.accesses.splice(first..first, unknown);
    }
}

/// Returns whether some packet is of both blocks.
fn overlap(one: &Block, other: &Block) -> bool {
    share(&one.paths, &other.paths)
        && share(&one.addresses, &other.addresses)
        && share(&one.entrances, &other.entrances)
}

/// Returns whether some of these are among the others. Those of which there is none at all are the same.
fn share<T: PartialEq>(some: &[T], others: &[T]) -> bool {
    some == others || some.iter().any(|one| others.contains(one))
}

/// Marks the paths that other sources may use with `full` sources as not judged.
pub fn doubt_exposures(report: &mut Report, full: &Report) {
    let known = |exposure: &Exposure, full: &[Exposure]| {
        let mut full = full.iter();
        full.any(|other| (&other.path, &other.admits) == (&exposure.path, &exposure.admits))
    };
    let kinds = [
        (&mut report.exposures, &full.exposures),
        (&mut report.services, &full.services),
    ];
    for (exposures, full) in kinds {
        for exposure in exposures {
            // Who is allowed without a policy is allowed whatever a source holds.
            if exposure.admits != Admits::Any && !known(exposure, full) {
                exposure.admits = Admits::NotJudged(Reason::UnknownList);
            }
        }
    }
}
