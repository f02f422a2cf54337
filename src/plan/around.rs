//! What changes around a set, and whether the set can be changed in place beside it.
//!
//! A packet that is on its way through the old rules sees the new contents of a set that is changed
//! in place, and the new rules may for a moment see the old contents of a set of ranges. If more than
//! this one set changes of what the packet meets, it is judged by something that is neither the old
//! policy nor the new one. A set that is made anew is seen by nobody but the new rules, and whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Chain, Elements, Expression, Ruleset, Set, Statement, Verdict};

use super::SetChange;
use super::elements::Delta;
use super::sketch::Sketch;

/// What changes around a set.
pub(super) struct Around<'a> {
    /// Sets that are not all that changes for packets that are looked up in them.
    entangled: BTreeSet<&'a str>,
    /// Whether one set is all that changes.
    alone: bool,
}

impl<'a> Around<'a> {
    /// Returns when it is known what becomes of the sets.
    pub(super) fn of(
        installed: &'a Ruleset,
        wanted: &'a Ruleset,
        changes: &BTreeMap<&'a str, SetChange>,
    ) -> Self {
        let changes: BTreeMap<&str, &SetChange> = changes
            .iter()
            .filter(|(_, change)| **change != SetChange::Same)
            .map(|(name, change)| (*name, change))
            .collect();
        // Chains to which maps do not lead the same packets.
        let mut moved = BTreeSet::new();
        for (name, change) in &changes {
            let of = |rules: &'a Ruleset| rules.sets.get(*name).map(|set| &set.elements);
            let elements = match change {
                SetChange::Elements(delta) => [Some(&delta.removed), Some(&delta.added)],
                _ => [of(installed), of(wanted)],
            };
            let verdicts = elements.into_iter().flatten().flat_map(Elements::verdicts);
            moved.extend(verdicts.filter_map(Verdict::chain));
        }
        let mut entangled = BTreeSet::new();
        for (rules, others) in [(installed, wanted), (wanted, installed)] {
            for (name, chain) in &rules.chains {
                let mut sets = looked_up(rules, name);
                sets.retain(|set| changes.contains_key(set));
                let same = others.chains.get(name).is_some_and(|o| is_alike(chain, o));
                if sets.len() > 1 || !same || moved.contains(name.as_str()) {
                    entangled.append(&mut sets);
                }
            }
        }
        Self {
            entangled,
            alone: changes.len() == 1 && installed.chains == wanted.chains,
        }
    }

    /// Returns whether packets are misled if a set is changed in place.
    pub(super) fn misleads(&self, name: &str, delta: &Delta, set: &Set) -> bool {
        if set.elements.set_type().map {
            // It leads packets on to all that is there.
            return !self.alone;
        }
        let matters = match &set.elements {
            // What comes lets in only whom the new policy does, since it tells the port as well.
            Elements::PortIpv4(_) | Elements::PortIpv6(_) => !delta.removed.is_empty(),
            Elements::PortCounters(to) => delta.loses_ports(to),
            // Long lists are not filled anew for packets that are on their way at that very moment.
            _ => !Sketch::is_wanted(set),
        };
        matters && self.entangled.contains(name)
    }
}

/// Returns the sets that packets are looked up in that come to a chain: by its rules and by those
/// of the chains that these lead to.
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

/// Returns whether two chains do the same, wherever their rules come from.
fn is_alike(one: &Chain, other: &Chain) -> bool {
    let (one, other) = (one.rules.iter(), other.rules.iter());
    one.map(|rule| &rule.expressions)
        .eq(other.map(|rule| &rule.expressions))
}
