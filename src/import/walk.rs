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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::super::interface::Incoming;
    use super::super::question::Sort;
    use super::*;
    use crate::policy::Protocol;
    use crate::policy::address::Entry;
    use crate::source::Sources;

    fn dump(filter: &str) -> Dump {
        let mut sources = Sources::in_memory::<&str, &str>([]);
        let file = sources.take("dump", format!("*filter\n{filter}\nCOMMIT\n").into());
        Dump::read(&sources, &[file])
    }

    fn question() -> Question<'static> {
        Question {
            family: Family::V4,
            protocol: Protocol::Tcp,
            sort: Sort::New,
            incoming: &Incoming::Other,
            host: None,
            host_port: 8080,
            container: Some(IpAddr::from([172, 17, 0, 2])),
            port: Some(80),
            bridge: Some("docker0"),
        }
    }

    fn allowed(filter: &str) -> (String, Trail) {
        let dump = dump(filter);
        let answer = Base::of(&dump, Family::V4).unwrap().ask(&question());
        let texts: Vec<_> = answer.allowed.iter().map(|e| e.to_string()).collect();
        (texts.join(" "), answer.trail)
    }

    #[test]
    fn rules_behind_the_call_come_too_late() {
        let (who, _) = allowed(
            "-A FORWARD -s 10.0.0.0/8 -j DROP\n-A FORWARD -s 0.0.0.0/1 -j DOCKER-USER\n\
             -A FORWARD -j DROP\n-A DOCKER-USER -s 11.0.0.0/8 -j ACCEPT\n\
             -A DOCKER-USER -s 0.0.0.0/1 -j DROP",
        );
        assert_eq!(who, "11.0.0.0/8 128.0.0.0/1");
    }

    #[test]
    fn a_permission_that_is_not_understood_opens_nothing() {
        let (who, trail) = allowed("-A DOCKER-USER -m geoip -j ACCEPT\n-A DOCKER-USER -j DROP");
        assert_eq!((who.as_str(), trail.skipped.len()), ("", 1));
        // Those who may have returned before they were let in are judged by what comes after.
        let (who, _) = allowed(
            "-A DOCKER-USER -j a\n-A DOCKER-USER -s 10.0.0.1 -j ACCEPT\n-A DOCKER-USER -j DROP\n\
             -A a -s 10.0.0.0/24 -m recent --rcheck -j RETURN\n-A a -s 10.0.0.0/23 -j ACCEPT",
        );
        assert_eq!(who, "10.0.0.1 10.0.1.0/24");
    }

    #[test]
    fn a_refusal_that_is_not_understood_is_left_out() {
        let (who, trail) = allowed("-A DOCKER-USER -m recent --update -j DROP");
        assert_eq!((who.as_str(), trail.skipped.len()), ("0.0.0.0/0", 1));
    }

    #[test]
    fn circles_and_explosions_end() {
        let (who, trail) = allowed("-A DOCKER-USER -j a\n-A a -j b\n-A b -j a");
        assert_eq!((who.as_str(), trail.lost), ("", true));
        let mut filter = String::from("-A DOCKER-USER -j c0\n");
        for chain in 0..22 {
            let call = format!("-A c{chain} -j c{}\n", chain + 1);
            filter.push_str(&call.repeat(4));
        }
        filter.push_str("-A c22 -s 10.0.0.1 -j DROP\n");
        let (who, trail) = allowed(&filter);
        assert_eq!((who.as_str(), trail.lost), ("", true));
    }

    #[test]
    fn what_is_logged_and_then_refused_is_logged() {
        let deny = "-A d -m limit --limit 3/min -j LOG\n-A d -s 10.0.0.1";
        let trail = |target| allowed(&format!("-A DOCKER-USER -j d\n{deny} -j {target}")).1;
        assert!(trail("DROP").logged && !trail("ACCEPT").logged);
        assert_eq!(trail("REJECT").rejecting.len(), 1);
    }

    /// The fate of one source, rule by rule: `Some(true)` if it is let in, `None` if it comes back.
    fn naive(dump: &Dump, chain: &[usize], source: &AddressSet) -> Option<bool> {
        let table = dump.table(Family::V4, "filter").unwrap();
        for (_, rule) in dump.rules_of(chain) {
            if question().holds(rule, source) != Holds::For(source.clone()) {
                continue;
            }
            match &rule.target {
                Target::Accept => return Some(true),
                Target::Drop | Target::Reject => return Some(false),
                Target::Return => return None,
                Target::Jump(name) => {
                    let fate = naive(dump, &table[name], source);
                    if fate.is_some() {
                        return fate;
                    }
                }
                Target::Goto(name) => return naive(dump, &table[name], source),
                _ => {}
            }
        }
        None
    }

    prop_compose! {
        /// A rule of the chain with this number, which calls chains with greater ones only.
        fn rule(chain: u8)(
            first in 0..16u8, bits in 28..=32u8, not in any::<bool>(), whom in any::<bool>(),
            port in 80..82u8, target in 0..7u8, called in chain + 1..=4,
        ) -> String {
            let source = format!("{}-s 10.0.0.{first}/{bits}", if not { "! " } else { "" });
            let source = if whom { source } else { String::new() };
            let target = match target {
                0 => "-j ACCEPT".to_owned(),
                1 => "-j DROP".to_owned(),
                2 => "-j RETURN".to_owned(),
                3 => "-j LOG".to_owned(),
                4 => format!("-g c{called}"),
                _ => format!("-j c{called}"),
            };
            format!("-A c{chain} -p tcp {source} --dport {port} {target}\n")
        }
    }

    proptest! {
        #[test]
        fn all_sources_at_once_fare_as_each_alone(
            rules in prop::collection::vec((0..4u8).prop_flat_map(rule), 0..24),
        ) {
            let text = format!(
                ":c1 -\n:c2 -\n:c3 -\n:c4 -\n-A DOCKER-USER -j c0\n:c0 -\n{}",
                rules.concat()
            );
            let dump = dump(&text);
            let answer = Base::of(&dump, Family::V4).unwrap().ask(&question());
            for last in 0..20u8 {
                let address = IpAddr::from([10, 0, 0, last]);
                let number = 0x0a00_0000 + u32::from(last);
                let source = AddressSet::from_entries([Entry::V4(number, number)]);
                let start = &dump.table(Family::V4, "filter").unwrap()["DOCKER-USER"];
                let fate = naive(&dump, start, &source).unwrap_or(true);
                prop_assert_eq!(answer.allowed.contains(address), fate, "{} {}", address, text);
            }
        }
    }
}
