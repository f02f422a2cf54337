//! Compares policies without the host that they are for.
//!
//! As for [tests](crate::analysis::test), only Docker's own bridge is known. What sources hold that depend on a
//! host is not, nor what a fetched source holds that was never fetched or cannot be read: they are compared as empty, and then once more
//! for each as if it held all that it may ever hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::difference::Difference;
use crate::analysis::eval::Pool;
use crate::analysis::test::BRIDGE;
use crate::analysis::threads::both;
use crate::compile;
use crate::host::HostView;
use crate::net::{AddressSet, Family};
use crate::policy::{OnHost, Policy, SourceName};
use crate::ruleset::Ruleset;

use super::{Policies, origin};

/// How many ports policies may have to be compiled one after the other.
const FEW: usize = 100;

/// Returns what a change of policies opens and closes, and the sources of which only a host knows what they
/// hold, as people read them.
#[must_use]
pub fn compared(pool: &mut Pool, old: &Policies, new: &Policies) -> (Difference, Vec<String>) {
    let host = HostView {
        container_bridges: BTreeSet::from([BRIDGE.to_owned()]),
        ..HostView::default()
    };
    let policies = [old, new];
    let takes_long = policies
        .iter()
        .all(|policies| policies.policy.ports.len() > FEW);
    let of = |pool: &mut Pool, compile: &(dyn Fn(&Policies) -> Ruleset + Sync)| {
        let [old, new] = both(takes_long, policies, compile);
        Difference::of(pool, &old, &new)
    };
    let mut difference = of(pool, &|policies| policies.compile(&host));
    let (mut interfaces, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for (name, _, on_host) in old.policy.on_host().chain(new.policy.on_host()) {
        unknown.insert(format!("{name} ({})", on_host.describe()));
        match on_host {
            OnHost::NetworksOf(names) => interfaces.extend(names.iter().cloned()),
        }
    }
    let all = everybody();
    for interface in interfaces {
        let host = HostView {
            networks: BTreeMap::from([(interface.as_str().to_owned(), all.clone())]),
            ..host.clone()
        };
        let full = of(pool, &|policies| policies.compile(&host));
        let source = OnHost::NetworksOf(BTreeSet::from([interface])).describe();
        difference.add_unknown(pool, &source, full);
    }
    let lists = |policies: &Policies| -> BTreeMap<SourceName, String> {
        let lists = policies.policy.unknown_lists();
        let lists = lists.map(|(name, source, _)| (name.clone(), source.describe(name)));
        lists.collect()
    };
    for (name, source) in lists(old).into_iter().chain(lists(new)) {
        if unknown.insert(source.clone()) {
            let full = of(pool, &|policies| {
                full(policies, &host, |other| *other == name)
            });
            difference.add_unknown(pool, &source, full);
        }
    }
    (difference, unknown.into_iter().collect())
}

/// Compiles policies as if some of the fetched sources of which nothing is known held all that they may.
pub(super) fn full(
    policies: &Policies,
    host: &HostView,
    is_full: impl Fn(&SourceName) -> bool,
) -> Ruleset {
    let all = everybody();
    let mut policy: Policy = policies.policy.clone();
    for (name, source) in &mut policy.sources {
        if let Some(fetched) = &source.fetched
            && fetched.list.unknown().is_some()
            && is_full(name)
        {
            source.addresses = fetched.within.as_ref().unwrap_or(&all).clone();
        }
    }
    compile::compile(&policy, host, &|span| origin(&policies.sources, span))
}

fn everybody() -> AddressSet {
    AddressSet::all(Family::V4).union(&AddressSet::all(Family::V6))
}
