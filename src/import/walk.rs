//! Evaluates a base chain for a kind of packet, for all sources at once.
//!
//! It passes the set of all undecided sources through the rules instead of one packet. Each rule removes the
//! sources that it decides for. The result is exact for any number of rules, as long as every condition is
//! supported. A rule with another condition is skipped and recorded in the trail.

use crate::net::Protocol;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::dump::{Chain, Dump, Table, reachable};
use super::interface::Incoming;
use super::outcome::Outcome;
use super::question::{Holds, Question, Sort, Stage};
use super::ranges::{Condition, Ranges};
use super::rule::{Rule, Target};
use super::trail::Trail;

/// The most levels of calls between chains; the kernel allows no loops.
const DEEPEST: usize = 24;
/// The most rules that are evaluated for one result: nested calls can take exponential time.
const MOST: usize = 500_000;

/// The result of a base chain.
#[derive(Debug)]
pub(super) struct End {
    /// The sources that the chain accepts.
    pub(super) passed: Ranges,
    /// The sources whose destination is rewritten, by rule.
    pub(super) translated: BTreeMap<usize, Ranges>,
    pub(super) trail: Trail,
}

/// Evaluates a base chain. In the table `nat` only DNAT leads to a container; sources that reach it only
/// possibly are treated as denied.
pub(super) fn walk(
    dump: &Dump,
    table: &Table,
    name: &str,
    question: &Question<'_>,
    is_nat: bool,
    memory: &RefCell<Memory>,
) -> End {
    let family = question.family;
    let mut walk = Walk {
        dump,
        table,
        question,
        is_nat,
        memory,
        trail: Trail::default(),
        logged: Ranges::none(family),
        steps: 0,
    };
    let mut end = Outcome::none(family);
    let mut policy = None;
    if let Some(chain) = table.get(name) {
        end = walk.through(chain, Ranges::all(family), 0);
        policy = chain.policy;
    } else {
        end.passed = Ranges::all(family);
    }
    match policy {
        Some(policy) if !end.returned.is_empty() => {
            walk.trail.deciding.insert(policy);
            walk.deny(policy, &end.returned, false);
        }
        _ => end.passed.add(end.returned),
    }
    if walk.trail.lost {
        end.passed = Ranges::none(family);
        end.translated.clear();
    }
    End {
        passed: end.passed,
        translated: end.translated,
        trail: walk.trail,
    }
}

/// Cached results of chains that treat all ports alike.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: BTreeMap<Key, Option<Rc<Remembered>>>,
}

/// The chain, and everything that its result depends on.
type Key = (usize, String, Protocol, Incoming, Sort, Stage);

#[derive(Debug)]
struct Remembered {
    outcome: Outcome,
    trail: Trail,
    logged: Ranges,
    steps: usize,
}

struct Walk<'a> {
    dump: &'a Dump,
    table: &'a Table,
    question: &'a Question<'a>,
    is_nat: bool,
    memory: &'a RefCell<Memory>,
    trail: Trail,
    /// Sources that a rule has logged.
    logged: Ranges,
    steps: usize,
}

impl Walk<'_> {
    fn through(&mut self, chain: &Chain, entering: Ranges, depth: usize) -> Outcome {
        let family = self.question.family;
        let mut here = entering;
        let mut outcome = Outcome::none(family);
        // Those that may have left by a rule that is not understood.
        let mut doubtful = Ranges::none(family);
        self.trail.lost |= depth > DEEPEST;
        for (number, rule) in self.dump.rules_of(&chain.rules) {
            self.steps += 1;
            self.trail.lost |= self.steps > MOST;
            if here.is_empty() || self.trail.lost {
                break;
            }
            let conditions = match self.question.holds(rule) {
                Holds::Never => continue,
                Holds::Perhaps(conditions) => {
                    let left = self.pass_over((number, rule), &conditions, &mut here);
                    doubtful.add(left);
                    continue;
                }
                Holds::For(conditions) => conditions,
            };
            let chain = rule.called().map(|name| self.table.get(name));
            match &rule.target {
                Target::Passive => continue,
                Target::Log => {
                    self.logged.add(here.select(&conditions));
                    continue;
                }
                Target::Jump(_) | Target::Goto(_) if matches!(chain, Some(None)) => {
                    if here.select(&conditions).is_empty() {
                        continue;
                    }
                    self.trail.skipped.insert(number);
                    if self.is_nat {
                        here.take(&conditions);
                    }
                    continue;
                }
                _ => {}
            }
            let sources = here.take(&conditions);
            if sources.is_empty() {
                continue;
            }
            match &rule.target {
                Target::Accept => {
                    if rule.as_engine_accept().is_none() {
                        self.trail.deciding.insert(number);
                    }
                    outcome.passed.add(sources);
                }
                Target::Return => {
                    // At the end of a chain it says nothing.
                    if !rule.is_unconditional() {
                        self.trail.deciding.insert(number);
                    }
                    outcome.returned.add(sources);
                }
                Target::Drop | Target::Reject => {
                    self.trail.deciding.insert(number);
                    self.deny(number, &sources, rule.target == Target::Reject);
                }
                Target::Dnat(_) if self.is_nat => outcome.translate(number, sources),
                Target::Dnat(_) => {
                    self.trail.skipped.insert(number);
                    here.add(sources);
                }
                Target::Jump(_) | Target::Goto(_) => {
                    let Some(chain) = chain.flatten() else {
                        continue;
                    };
                    let called = if depth == 0 && sources.is_all() && self.logged.is_empty() {
                        self.remember(rule, chain)
                    } else {
                        self.through(chain, sources, depth + 1)
                    };
                    if self.is_nat && !conditions.is_empty() && !called.translated.is_empty() {
                        self.trail.deciding.insert(number);
                    }
                    outcome.passed.add(called.passed);
                    for (rule, sources) in called.translated {
                        outcome.translate(rule, sources);
                    }
                    if matches!(rule.target, Target::Jump(_)) {
                        here.add(called.returned);
                    } else {
                        outcome.returned.add(called.returned);
                    }
                }
                Target::Passive | Target::Log => {}
            }
        }
        outcome.returned.add(here);
        if !doubtful.is_empty() {
            outcome.doubt(&doubtful.to_set(), self.is_nat);
        }
        outcome
    }

    /// Returns the result of a chain for all sources, from the cache if possible.
    fn remember(&mut self, rule: &Rule, chain: &Chain) -> Outcome {
        let all = Ranges::all(self.question.family);
        let name = rule.called().unwrap_or_default();
        let question = self.question;
        let key = (
            std::ptr::from_ref(self.table).addr(),
            name.to_owned(),
            question.protocol,
            question.incoming.clone(),
            question.sort,
            question.stage,
        );
        let known = self.memory.borrow().known.get(&key).cloned();
        let known = match known {
            Some(Some(known)) => known,
            Some(None) => return self.through(chain, all, 1),
            None => {
                let rules = reachable(self.dump, self.table, &[name]);
                let blind = self.dump.rules_of(&rules).all(|(_, rule)| rule.is_blind());
                let known = blind.then(|| {
                    let before = (std::mem::take(&mut self.trail), self.steps);
                    let outcome = self.through(chain, all.clone(), 1);
                    let logged = Ranges::none(question.family);
                    let remembered = Remembered {
                        outcome,
                        trail: std::mem::replace(&mut self.trail, before.0),
                        logged: std::mem::replace(&mut self.logged, logged),
                        steps: self.steps - before.1,
                    };
                    self.steps = before.1;
                    Rc::new(remembered)
                });
                self.memory.borrow_mut().known.insert(key, known.clone());
                match known {
                    Some(known) => known,
                    None => return self.through(chain, all, 1),
                }
            }
        };
        self.steps += known.steps;
        self.trail.add(&known.trail);
        self.logged = known.logged.clone();
        known.outcome.clone()
    }

    /// Skips a rule that may match some sources; returns the sources that may have left the chain by it.
    fn pass_over(
        &mut self,
        (number, rule): (usize, &Rule),
        conditions: &[Condition<'_>],
        here: &mut Ranges,
    ) -> Ranges {
        let none = Ranges::none(self.question.family);
        if rule.target == Target::Log {
            self.logged.add(here.select(conditions));
        }
        let silent = matches!(rule.target, Target::Passive | Target::Log);
        if silent || !conditions.is_empty() && here.select(conditions).is_empty() {
            return none;
        }
        self.trail.skipped.insert(number);
        if self.diverts(rule) {
            here.take(conditions);
            return none;
        }
        if matches!(rule.target, Target::Return | Target::Goto(_)) {
            return here.select(conditions);
        }
        none
    }

    /// Returns whether a rule of `nat` redirects the packets that match, or calls a chain that may.
    fn diverts(&self, rule: &Rule) -> bool {
        let is_unknown = |name: &str| !self.table.contains_key(name);
        let ends = |rule: &Rule| {
            matches!(rule.target, Target::Accept | Target::Dnat(_))
                || rule.called().is_some_and(is_unknown)
        };
        let may_end =
            |rule: &Rule| ends(rule) && !matches!(self.question.holds(rule), Holds::Never);
        let called = |name| {
            let rules = reachable(self.dump, self.table, &[name]);
            self.dump.rules_of(&rules).any(|(_, rule)| may_end(rule))
        };
        self.is_nat && (ends(rule) || rule.called().is_some_and(called))
    }

    fn deny(&mut self, number: usize, sources: &Ranges, answer: bool) {
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
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::net::{AddressSet, Entry, Family};
    use crate::text::SourceMap;

    const NONE: &BTreeSet<IpAddr> = &BTreeSet::new();

    fn dump(filter: &str) -> Dump {
        let mut sources = SourceMap::in_memory::<&str, &str>([]);
        let file = sources.take("dump", format!("*filter\n{filter}\nCOMMIT\n").into());
        Dump::read(&sources, &[file]).unwrap()
    }

    fn question() -> Question<'static> {
        Question {
            family: Family::V4,
            protocol: Protocol::Tcp,
            sort: Sort::New,
            stage: Stage::Translated,
            others: NONE,
            stands_for: None,
            incoming: &Incoming::Other,
            host: None,
            host_port: 8080,
            container: Some(IpAddr::from([172, 17, 0, 2])),
            port: Some(80),
            bridge: Some("docker0"),
        }
    }

    /// Returns the sources that pass FORWARD and DOCKER-USER.
    fn allowed(filter: &str) -> (String, Trail) {
        let filter = format!("-A FORWARD -j DOCKER-USER\n{filter}");
        let dump = dump(&filter);
        let table = dump.table(Family::V4, "filter").unwrap();
        let end = walk(
            &dump,
            table,
            "FORWARD",
            &question(),
            false,
            &RefCell::default(),
        );
        let texts: Vec<_> = end.passed.to_set().iter().map(|e| e.to_string()).collect();
        (texts.join(" "), end.trail)
    }

    #[test]
    fn every_rule_of_the_chain_counts_and_so_does_its_policy() {
        let (who, trail) = allowed(
            ":FORWARD DROP [0:0]\n-A FORWARD -s 10.0.0.0/8 -j DROP\n\
             -A FORWARD -s 0.0.0.0/1 -j ACCEPT\n-A DOCKER-USER -s 10.0.0.1 -j ACCEPT",
        );
        assert_eq!(
            who,
            "0.0.0.0-9.255.255.255 10.0.0.1 11.0.0.0-127.255.255.255"
        );
        assert_eq!(trail.dropping.len(), 2);
    }

    #[test]
    fn a_chain_with_a_skipped_rule_accepts_nobody() {
        let (who, trail) = allowed(
            "-A DOCKER-USER -j a\n-A DOCKER-USER -j DROP\n-A a -m recent --rcheck -g b\n\
             -A a -j ACCEPT\n-A b -s 10.0.0.1 -j ACCEPT",
        );
        assert_eq!((who.as_str(), trail.skipped.len()), ("", 1));
    }

    #[test]
    fn in_nat_only_a_translation_leads_on() {
        let dump = dump(
            "-A PREROUTING -m recent --rcheck -p udp -j ACCEPT\n-A PREROUTING -s 10.0.0.1 -j REDIRECT\n\
             -A PREROUTING -s 10.0.0.2 -j RETURN\n-A PREROUTING -s 10.0.0.0/24 -j D\n\
             -A D -s 10.0.0.3 -j RETURN\n-A D -j DNAT --to-destination 172.17.0.2:80",
        );
        let table = dump.table(Family::V4, "filter").unwrap();
        let end = walk(
            &dump,
            table,
            "PREROUTING",
            &question(),
            true,
            &RefCell::default(),
        );
        let who: Vec<_> = end.translated.into_values().map(|r| r.to_set()).collect();
        let texts: Vec<_> = who[0].iter().map(|e| e.to_string()).collect();
        assert_eq!(texts.join(" "), "10.0.0.0 10.0.0.4-10.0.0.255");
        let unsure = walk(
            &dump,
            table,
            "PREROUTING",
            &Question {
                protocol: Protocol::Udp,
                ..question()
            },
            true,
            &RefCell::default(),
        );
        assert!(unsure.translated.is_empty());
    }

    #[test]
    fn in_nat_nobody_is_translated_who_may_go_elsewhere() {
        let who = |nat: &str| {
            let dump = dump(&format!(
                "{nat}\n-A PREROUTING -j DNAT --to-destination 172.17.0.3:80\n\
                 -A D -s 10.0.0.0/31 -j DNAT --to-destination 172.17.0.2:80"
            ));
            let table = dump.table(Family::V4, "filter").unwrap();
            let memory = RefCell::default();
            let end = walk(&dump, table, "PREROUTING", &question(), true, &memory);
            let ends = end.translated.into_values().map(|r| r.to_set());
            let has = |last: u8| IpAddr::from([10, 0, 0, last]);
            let ends: Vec<_> = ends
                .map(|set| [0, 1, 2].map(|last| set.contains(has(last))))
                .collect();
            ends
        };
        // By the last rule of PREROUTING, and by that of D.
        assert_eq!(
            who("-A PREROUTING -j D"),
            [[false, false, true], [true, true, false]]
        );
        // Those who may have returned before the chain translates them.
        let doubtful = "-A PREROUTING -j D\n-A D -s 10.0.0.1 -m recent --rcheck -j RETURN";
        assert_eq!(who(doubtful), [[false, false, true], [true, false, false]]);
        let accepted =
            "-A PREROUTING -j E\n-A E -s 10.0.0.1 -m recent --rcheck -j RETURN\n-A E -j ACCEPT";
        assert_eq!(who(accepted), Vec::<[bool; 3]>::new());
        // A chain that may be called translates them.
        for call in ["-j D", "-g D"] {
            let perhaps = format!("-A PREROUTING -s 10.0.0.1 -m recent --rcheck {call}");
            assert_eq!(who(&perhaps), [[true, false, true]]);
        }
        let other = "-A PREROUTING -s 10.0.0.1 -m recent --rcheck -j E\n-A E -p udp -j ACCEPT";
        assert_eq!(who(other), [[true, true, true]]);
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
    fn a_denial_that_is_not_understood_is_left_out() {
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
    fn what_is_logged_and_then_denied_is_logged() {
        let deny = "-A d -m limit --limit 3/min -j LOG\n-A d -s 10.0.0.1";
        let trail = |target| allowed(&format!("-A DOCKER-USER -j d\n{deny} -j {target}")).1;
        assert!(trail("DROP").logged && !trail("ACCEPT").logged);
        assert_eq!(trail("REJECT").rejecting.len(), 1);
    }

    /// Evaluates one source rule by rule: `Some(true)` if it is accepted, `None` if it returns.
    fn naive(dump: &Dump, chain: &Chain, source: &AddressSet) -> Option<bool> {
        let table = dump.table(Family::V4, "filter").unwrap();
        for (_, rule) in dump.rules_of(&chain.rules) {
            let question = question();
            let Holds::For(conditions) = question.holds(rule) else {
                continue;
            };
            let meets = |(set, not): &(&AddressSet, bool)| set.intersects(source) != *not;
            if !conditions.iter().all(meets) {
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
        /// Returns a rule of the chain with this number, which calls chains with greater ones only.
        fn rule(chain: u8)(
            first in 0..16u8, bits in 28..=32u8, not in any::<bool>(), of in any::<bool>(),
            port in 80..82u8, target in 0..7u8, called in chain + 1..=4,
        ) -> String {
            let source = format!("{}-s 10.0.0.{first}/{bits}", if not { "! " } else { "" });
            let source = if of { source } else { String::new() };
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
            let table = dump.table(Family::V4, "filter").unwrap();
            let memory = RefCell::default();
            let passed = walk(&dump, table, "DOCKER-USER", &question(), false, &memory);
            let passed = passed.passed.to_set();
            for last in 0..20u8 {
                let address = IpAddr::from([10, 0, 0, last]);
                let number = 0x0a00_0000 + u32::from(last);
                let source = AddressSet::from_entries([Entry::V4(number, number)]);
                let start = &table["DOCKER-USER"];
                let fate = naive(&dump, start, &source).unwrap_or(true);
                prop_assert_eq!(passed.contains(address), fate, "{} {}", address, text);
            }
        }
    }
}
