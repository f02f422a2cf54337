//! What becomes of a kind of packet in a chain, for all sources at once.
//!
//! Instead of one packet, the set of all sources that are still undecided walks through the rules.
//! A rule takes those out that it decides about; what is left goes on. So the outcome is exact for
//! any number of rules, as long as every condition is understood. Where one is not, the rule is
//! not followed, and the trail says so.

use std::collections::BTreeSet;

use super::parse::{Dump, Table};
use super::question::{Holds, Question};
use super::rule::{Family, Target};
use crate::policy::address::AddressSet;

/// How deep chains may call each other; the kernel allows no loops.
const DEEPEST: usize = 24;
/// How many rules are looked at for one answer. Chains that call each other over and over could
/// take for ever.
const MOST: usize = 200_000;

/// The rules that what goes to a container meets before the engine's own.
#[derive(Debug)]
pub(super) struct Base<'a> {
    dump: &'a Dump,
    table: &'a Table,
    rules: Vec<usize>,
    /// Whether the chain DOCKER-USER is there but nothing calls it.
    pub(super) uncalled: bool,
}

/// What became of the sources.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// These are let through.
    pub(super) allowed: AddressSet,
    pub(super) trail: Trail,
}

/// How it came to that.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Trail {
    /// The rules that decided about some source.
    pub(super) deciding: BTreeSet<usize>,
    /// The rules that refused some source in silence.
    pub(super) dropping: BTreeSet<usize>,
    /// The rules that refused some source with an answer.
    pub(super) rejecting: BTreeSet<usize>,
    /// Rules that were not followed, as they could not be understood.
    pub(super) skipped: BTreeSet<usize>,
    /// Whether some refusal was logged.
    pub(super) logged: bool,
    /// Whether the chains go too deep or too far to be followed: then nobody is let through.
    pub(super) lost: bool,
}

/// Sources that came to the end of a chain.
#[derive(Debug, Default)]
struct Outcome {
    allowed: AddressSet,
    /// Back in the calling chain.
    returned: AddressSet,
}

impl<'a> Base<'a> {
    /// The rules of a family, if there are any.
    pub(super) fn of(dump: &'a Dump, family: Family) -> Option<Self> {
        let table = dump.table(family, "filter")?;
        let user = table.get("DOCKER-USER");
        let forward = table.get("FORWARD").map_or(&[][..], Vec::as_slice);
        let calls = |number: &usize, name: &str| {
            let rule = dump.rules.get(*number);
            rule.is_some_and(|rule| is_call(&rule.target, |called| called == name))
        };
        let call = forward.iter().position(|n| calls(n, "DOCKER-USER"));
        let (rules, uncalled) = match (user, call) {
            // What is behind the call comes after the engine has let the packet through.
            (Some(_), Some(call)) => (forward.get(..=call).unwrap_or_default(), false),
            (Some(user), None) => (user.as_slice(), !forward.is_empty()),
            (None, _) => {
                let engine = |n: &usize| {
                    let rule = dump.rules.get(*n);
                    rule.is_some_and(|rule| is_call(&rule.target, is_engines))
                };
                let end = forward.iter().position(engine).unwrap_or(forward.len());
                (forward.get(..end).unwrap_or_default(), false)
            }
        };
        Some(Self {
            dump,
            table,
            rules: rules.to_vec(),
            uncalled,
        })
    }

    /// Every rule that a packet could come to.
    pub(super) fn reachable(&self) -> BTreeSet<usize> {
        self.leads_to(&self.rules)
    }

    /// Every rule that a packet in this chain could come to.
    pub(super) fn reachable_from(&self, chain: &str) -> BTreeSet<usize> {
        let rules = self.table.get(chain).map_or(&[][..], Vec::as_slice);
        self.leads_to(rules)
    }

    fn leads_to(&self, rules: &[usize]) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut next = rules.to_vec();
        while let Some(number) = next.pop() {
            if !seen.insert(number) {
                continue;
            }
            if let Some(rule) = self.dump.rules.get(number)
                && let Target::Jump(name) | Target::Goto(name) = &rule.target
                && let Some(chain) = self.table.get(name)
            {
                next.extend(chain);
            }
        }
        seen
    }

    /// Whether a chain of this name is there.
    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Who is let through.
    pub(super) fn ask(&self, question: &Question<'_>) -> Answer {
        let mut walk = Walk {
            base: self,
            question,
            trail: Trail::default(),
            logged: AddressSet::default(),
            steps: 0,
        };
        let outcome = walk.through(&self.rules, question.family.all(), 0);
        // What comes back from the last rule is the engine's business, which lets it through.
        let mut allowed = outcome.allowed.union(&outcome.returned);
        if walk.trail.lost {
            allowed = AddressSet::default();
        }
        Answer {
            allowed,
            trail: walk.trail,
        }
    }
}

fn is_call(target: &Target, named: impl Fn(&str) -> bool) -> bool {
    match target {
        Target::Jump(name) | Target::Goto(name) => named(name),
        _ => false,
    }
}

/// Whether an engine fills the chain of this name.
fn is_engines(name: &str) -> bool {
    name == "DOCKER"
        || name.starts_with("DOCKER-")
        || name.starts_with("NETAVARK")
        || name.starts_with("CNI-")
}

struct Walk<'a> {
    base: &'a Base<'a>,
    question: &'a Question<'a>,
    trail: Trail,
    /// Sources that a rule has logged.
    logged: AddressSet,
    steps: usize,
}

impl Walk<'_> {
    fn through(&mut self, rules: &[usize], entering: AddressSet, depth: usize) -> Outcome {
        let mut here = entering;
        let mut outcome = Outcome::default();
        // Those that may have left by a rule that is not understood.
        let mut doubtful = AddressSet::default();
        if depth > DEEPEST {
            self.trail.lost = true;
        }
        for &number in rules {
            self.steps += 1;
            if self.steps > MOST {
                self.trail.lost = true;
            }
            if here.is_empty() || self.trail.lost {
                break;
            }
            let Some(rule) = self.base.dump.rules.get(number) else {
                continue;
            };
            let (sources, sure) = match self.question.holds(rule, &here) {
                Holds::For(sources) => (sources, true),
                Holds::Perhaps(sources) => (sources, false),
            };
            if sources.is_empty() {
                continue;
            }
            match &rule.target {
                Target::Passive => {}
                Target::Log => self.logged = self.logged.union(&sources),
                Target::Return if !sure => {
                    self.trail.skipped.insert(number);
                    doubtful = doubtful.union(&sources);
                }
                _ if !sure => {
                    self.trail.skipped.insert(number);
                }
                Target::Accept => {
                    self.trail.deciding.insert(number);
                    here = here.difference(&sources);
                    outcome.allowed = outcome.allowed.union(&sources);
                }
                Target::Return => {
                    // At the end of a chain it says nothing.
                    if !rule.matches.is_empty() {
                        self.trail.deciding.insert(number);
                    }
                    here = here.difference(&sources);
                    outcome.returned = outcome.returned.union(&sources);
                }
                Target::Drop | Target::Reject => {
                    self.trail.deciding.insert(number);
                    self.refuse(number, &sources, rule.target == Target::Reject);
                    here = here.difference(&sources);
                }
                Target::Dnat(_) => {
                    self.trail.skipped.insert(number);
                }
                Target::Jump(name) | Target::Goto(name) => {
                    let Some(chain) = self.base.table.get(name) else {
                        self.trail.skipped.insert(number);
                        continue;
                    };
                    here = here.difference(&sources);
                    let called = self.through(chain, sources, depth + 1);
                    outcome.allowed = outcome.allowed.union(&called.allowed);
                    if matches!(rule.target, Target::Jump(_)) {
                        here = here.union(&called.returned);
                    } else {
                        outcome.returned = outcome.returned.union(&called.returned);
                    }
                }
            }
        }
        outcome.returned = outcome.returned.union(&here);
        // Whoever may have left before it was let in is judged by the calling chain.
        let doubted = outcome.allowed.intersection(&doubtful);
        outcome.allowed = outcome.allowed.difference(&doubted);
        outcome.returned = outcome.returned.union(&doubted);
        outcome
    }

    fn refuse(&mut self, number: usize, sources: &AddressSet, answer: bool) {
        self.trail.logged |= self.logged.intersects(sources);
        let how = if answer {
            &mut self.trail.rejecting
        } else {
            &mut self.trail.dropping
        };
        how.insert(number);
    }
}
