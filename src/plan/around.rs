//! Decides whether a set can be changed in place, given what else changes around it.
//!
//! A packet that is on its way through the old rules sees the new contents of a set that is changed in place,
//! and the new rules may for a moment see the old contents of a set of ranges. If more than this one set
//! changes on the path of the packet, it is judged by a mixture of the old policy and the new one. A set that
//! is created anew is only seen by the new rules, and complete.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Chain, Elements, Expression, Ruleset, Set, Statement, Verdict};

use super::SetChange;
use super::elements::Delta;
use super::sketch::Sketch;

/// What changes around a set.
pub(super) struct Around<'a> {
    /// Sets beside which something else changes for the packets that are looked up in them.
    entangled: BTreeSet<&'a str>,
    /// Whether a single set is the only change.
    alone: bool,
}

impl<'a> Around<'a> {
    /// Returns the surroundings, once the change of each set is known.
    pub(super) fn of(
        installed: &'a Ruleset,
        desired: &'a Ruleset,
        changes: &BTreeMap<&'a str, SetChange>,
    ) -> Self {
        let changes: BTreeMap<&str, &SetChange> = changes
            .iter()
            .filter(|(_, change)| **change != SetChange::Same)
            .map(|(name, change)| (*name, change))
            .collect();
        // Chains that receive other packets through maps than before.
        let mut moved = BTreeSet::new();
        for (name, change) in &changes {
            let of = |rules: &'a Ruleset| rules.sets.get(*name).map(|set| &set.elements);
            let elements = match change {
                SetChange::Elements(delta) => [Some(&delta.removed), Some(&delta.added)],
                _ => [of(installed), of(desired)],
            };
            let verdicts = elements.into_iter().flatten().flat_map(Elements::verdicts);
            moved.extend(verdicts.filter_map(Verdict::chain));
        }
        let mut entangled = BTreeSet::new();
        for (rules, others) in [(installed, desired), (desired, installed)] {
            for (name, chain) in &rules.chains {
                let mut sets = looked_up(rules, name);
                sets.retain(|set| changes.contains_key(set));
                let same = others.chains.get(name).is_some_and(|o| is_alike(chain, o));
                if sets.len() > 1 || !same || moved.contains(name.as_str()) {
                    entangled.extend(sets);
                }
            }
        }
        Self {
            entangled,
            alone: changes.len() == 1 && installed.chains == desired.chains,
        }
    }

    /// Returns whether packets could get a wrong verdict if a set is changed in place.
    pub(super) fn misleads(&self, name: &str, delta: &Delta, set: &Set) -> bool {
        if set.elements.set_type().map {
            // It leads to every chain behind it.
            return !self.alone;
        }
        let matters = match &set.elements {
            // New elements include the port, so they admit only what the new policy allows.
            Elements::PortIpv4(_) | Elements::PortIpv6(_) => !delta.removed.is_empty(),
            Elements::PortCounters(to) => delta.loses_ports(to),
            // Long lists are not created anew for the sake of packets in flight.
            _ => !Sketch::is_wanted(set),
        };
        matters && self.entangled.contains(name)
    }
}

/// Returns the sets that the rules of a chain look up, and those of the chains that it jumps to.
fn looked_up<'a>(ruleset: &'a Ruleset, chain: &'a str) -> BTreeSet<&'a str> {
    let (mut sets, mut seen, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![chain]);
    while let Some(name) = next.pop() {
        let chain = ruleset.chains.get(name).filter(|_| seen.insert(name));
        let rules = chain.map_or(&[][..], |chain| &chain.rules);
        for expression in rules.iter().flat_map(|rule| &rule.expressions) {
            sets.extend(expression.set());
            if let Expression::Statement(Statement::Verdict(verdict)) = expression {
                next.extend(verdict.chain());
            }
        }
    }
    sets
}

/// Returns whether two chains have the same rules, comments aside.
fn is_alike(one: &Chain, other: &Chain) -> bool {
    let (one, other) = (one.rules.iter(), other.rules.iter());
    one.map(|rule| &rule.expressions)
        .eq(other.map(|rule| &rule.expressions))
}
