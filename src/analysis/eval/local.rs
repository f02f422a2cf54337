//! Whether base chains deny only what is for this host, by their rules.

use std::collections::BTreeMap;

use crate::ruleset::check::JUMP_MAX;
use crate::ruleset::{Address, Expression, Rule, Ruleset, Statement, Verdict};

/// Returns whether these base chains accept every packet whose destination is no address of this host, and contain
/// nothing that cannot be evaluated. Chains of which this is not known do not count as such.
pub(super) fn deny_local_only(ruleset: &Ruleset, bases: &[&str]) -> bool {
    let mut reading = Reading {
        ruleset,
        heights: BTreeMap::new(),
    };
    bases.iter().all(|base| {
        let height = reading.chain(base);
        height.is_some_and(|height| height <= JUMP_MAX)
    })
}

struct Reading<'a> {
    ruleset: &'a Ruleset,
    /// How many chains are below each other from a chain on; `None` for one that may deny such a packet, and for one
    /// that is being read.
    heights: BTreeMap<&'a str, Option<usize>>,
}

impl<'a> Reading<'a> {
    fn chain(&mut self, name: &'a str) -> Option<usize> {
        if let Some(known) = self.heights.get(name) {
            return *known;
        }
        self.heights.insert(name, None);
        let mut below = 0;
        for rule in &self.ruleset.chains.get(name)?.rules {
            below = below.max(self.rule(rule)?);
        }
        let height = Some(below + 1);
        self.heights.insert(name, height);
        height
    }

    fn rule(&mut self, rule: &'a Rule) -> Option<usize> {
        let mut below = 0;
        for expression in &rule.expressions {
            match expression {
                // What follows is for packets to this host.
                Expression::Address(Address::Local) => break,
                Expression::Statement(Statement::Reject(_)) => return None,
                _ if !expression.fits(self.ruleset) => return None,
                Expression::Statement(Statement::Verdict(verdict)) => {
                    below = below.max(self.verdict(verdict)?);
                }
                Expression::Interface(_)
                | Expression::Conntrack(_)
                | Expression::Address(_)
                | Expression::Port(_)
                | Expression::PerSource(_)
                | Expression::Statement(_)
                | Expression::Unknown { .. } => {
                    let set = expression.set();
                    let set = set.and_then(|set| self.ruleset.sets.get(set));
                    for verdict in set.into_iter().flat_map(|set| set.elements.verdicts()) {
                        below = below.max(self.verdict(verdict)?);
                    }
                }
            }
        }
        Some(below)
    }

    fn verdict(&mut self, verdict: &'a Verdict) -> Option<usize> {
        match verdict {
            Verdict::Accept | Verdict::Return => Some(0),
            Verdict::Drop => None,
            Verdict::Jump(chain) | Verdict::Goto(chain) => self.chain(chain),
        }
    }
}
