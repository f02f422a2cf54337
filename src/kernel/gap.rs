//! Closes ports for the moment in which one table takes the place of another.
//!
//! A table of the same name cannot exist beside it, so one transaction deletes it and creates the new one. The elements
//! of the new interval sets become visible a moment after the rules, and a port that is not found in the map of ports
//! is one that no policy names: a packet that both rulesets deny would pass. So the transaction also creates chains
//! behind the others that deny packets to all ports of the policy, by a hash, which is visible with the rules, and
//! another one right behind it deletes them. If there is none, the ports stay closed until the next change.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::plan::{Operation, Place};
use crate::ruleset::{
    Base, Conntrack, Counting, Direction, Elements, Expression, Hook, Interface, L4Protocol,
    NameMatch, Port, Rule, Ruleset, Set, Side, Statement, Tuple, Verdict,
};

/// The names of the set and of the chains. No compiled name is one of these.
const PORTS: &str = "gap/ports";
const CHAINS: [(&str, Hook); 2] = [("gap/input", Hook::Input), ("gap/forward", Hook::Forward)];

/// What closes the ports of a ruleset.
#[derive(Debug)]
pub(super) struct Gap {
    set: Set,
    chains: Vec<(&'static str, Base, Vec<Rule>)>,
}

impl Gap {
    /// Returns what closes the ports that a ruleset names; `None` if it names none.
    pub(super) fn of(ruleset: &Ruleset) -> Option<Self> {
        let ports = ports(ruleset);
        if ports.is_empty() {
            return None;
        }
        let counting = |key| Counting { key, comment: None };
        let set = Set {
            elements: Elements::PortCounters(ports.into_iter().map(counting).collect()),
            comment: None,
        };
        let chains = CHAINS.into_iter().filter_map(|(name, hook)| {
            let mut bases = ruleset.chains.values().filter_map(|chain| chain.base);
            let base = bases.find(|base| base.hook == hook)?;
            let priority = base.priority.saturating_add(1);
            Some((name, Base { priority, ..base }, rules(hook)))
        });
        Some(Self {
            set,
            chains: chains.collect(),
        })
    }

    /// Returns the operations that close the ports, in a transaction with others.
    pub(super) fn close(&self) -> impl Iterator<Item = Operation<'_>> {
        let set = [
            Operation::NewSet {
                name: Cow::Borrowed(PORTS),
                set: &self.set,
            },
            Operation::NewElements {
                set: Cow::Borrowed(PORTS),
                elements: Cow::Borrowed(&self.set.elements),
                counted: None,
                comment: None,
            },
        ];
        let chains = self.chains.iter().flat_map(|(name, base, rules)| {
            let chain = Operation::NewChain {
                name,
                base: Some(*base),
            };
            let rules = rules.iter().map(|rule| Operation::NewRule {
                chain: name,
                rule: Cow::Borrowed(rule),
                place: Place::Last,
                counter: None,
            });
            std::iter::once(chain).chain(rules)
        });
        set.into_iter().chain(chains)
    }

    /// Returns the operations that open them again.
    pub(super) fn open(&self) -> Vec<Operation<'_>> {
        let names = || self.chains.iter().map(|(name, ..)| *name);
        let rules = names().map(Operation::FlushChain);
        let chains = names().map(Operation::DeleteChain);
        let set = Operation::DeleteSet(Cow::Borrowed(PORTS));
        rules.chain(chains).chain([set]).collect()
    }
}

/// Returns the ports that maps of a ruleset name.
fn ports(ruleset: &Ruleset) -> BTreeSet<(L4Protocol, u16)> {
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    let maps = rules
        .flat_map(|rule| &rule.expressions)
        .filter_map(|e| match e {
            Expression::Port(Port::Map { protocol, map, .. }) => Some((*protocol, map)),
            _ => None,
        });
    let mut ports = BTreeSet::new();
    for (protocol, map) in maps {
        if let Some(Elements::PortVerdicts(rows)) = ruleset.sets.get(map).map(|map| &map.elements) {
            let ranges = rows.iter().map(|row| row.key.first..=row.key.last);
            ports.extend(ranges.flatten().map(|port| (protocol, port)));
        }
    }
    ports
}

/// Returns the rules of a chain behind that of a hook.
fn rules(hook: Hook) -> Vec<Rule> {
    let end = |verdict| Expression::Statement(Statement::Verdict(verdict));
    let closed = |tuple| {
        Expression::Port(Port::In {
            tuple,
            set: PORTS.to_owned(),
        })
    };
    let lo = Expression::Interface(Interface::Name {
        side: Side::In,
        name: NameMatch::Exact("lo".to_owned()),
        equal: true,
    });
    match hook {
        Hook::Forward => vec![Rule::new(
            vec![
                Expression::Conntrack(Conntrack::Direction(Direction::Original)),
                Expression::Conntrack(Conntrack::DestinationNat),
                closed(Tuple::Original),
                end(Verdict::Drop),
            ],
            None,
        )],
        _ => vec![
            Rule::new(vec![lo, end(Verdict::Accept)], None),
            Rule::new(vec![closed(Tuple::Packet), end(Verdict::Drop)], None),
        ],
    }
}
