//! Tests that are true whatever the policy says.

use crate::net::{AddressSet, Family};
use crate::policy::port::{self, SourceSelection};
use crate::policy::source;
use crate::policy::tests::{Claim, Statement, Target};
use crate::text::diagnostic::Diagnostic;

use super::addresses;
use super::keys::have_all_ports;

/// Returns a warning about each test that is about no packet.
pub(super) fn empty(
    ports: &port::Draft,
    sources: &source::Draft,
    tests: &[Statement],
) -> Vec<Diagnostic> {
    let all_ports = tests.iter().any(|test| test.to == Target::Others) && have_all_ports(ports);
    let empty = tests.iter().filter_map(|test| {
        let why = if test.to == Target::Others && all_ports {
            "no port is left: keys have all of them"
        } else if is_from_nobody(sources, test) {
            match test.claim {
                Claim::Only(_) => "nobody else is left",
                Claim::Each { .. } => "no source is left",
            }
        } else {
            return None;
        };
        let message = "this test is true whatever the policy says";
        let warning = Diagnostic::warning("empty-test", message)
            .at(test.origin.clone(), why)
            .help("state something of a source and a port, or remove it");
        Some(warning)
    });
    empty.collect()
}

/// Returns whether a test is about no source at all.
fn is_from_nobody(sources: &source::Draft, test: &Statement) -> bool {
    let families = Family::ALL.into_iter().filter(|family| match test.to {
        Target::Ports(to) => to.address.is_none_or(|to| Family::of(to) == *family),
        Target::Any | Target::Others => true,
    });
    let about: AddressSet = families
        .flat_map(|family| AddressSet::all(family).iter().collect::<Vec<_>>())
        .collect();
    match &test.claim {
        Claim::Only(only) => {
            held(sources, only).is_some_and(|only| about.difference(&only).is_empty())
        }
        Claim::Each { from, except, .. } => {
            if from.containers && !except.containers {
                return false;
            }
            let Some(from) = held(sources, from) else {
                return false;
            };
            let from = from.intersection(&about);
            // What only a host can tell may take nothing away.
            let except = held(sources, except);
            from.is_empty() || except.is_some_and(|except| from.difference(&except).is_empty())
        }
    }
}

/// The addresses of a choice of sources; `None` if only a host can tell them.
fn held(sources: &source::Draft, selection: &SourceSelection) -> Option<AddressSet> {
    if selection.any {
        let all = Family::ALL.map(AddressSet::all);
        return Some(all.iter().flat_map(AddressSet::iter).collect());
    }
    let mut all = selection.inline.clone();
    for name in &selection.named {
        all = all.union(addresses(sources, name)?);
    }
    Some(all)
}
