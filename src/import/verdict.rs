//! Who reaches a published port by the rules of a dump.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use super::interface::Incoming;
use super::named::singles;
use super::parse::Dump;
use super::published::{HostPort, Published, Way, bridges};
use super::question::{Question, Sort};
use super::rule::{Family, Kind, PortRange, Rule, WIDE, within};
use super::walk::{Answer, Base, Trail};
use crate::policy::Protocol;
use crate::policy::address::AddressSet;

/// A port that hardly a rule names, of a server.
const SOME_PORT: u16 = 20_000;
/// The same of a client: in `ip_local_port_range` of Linux.
const SOME_CLIENT_PORT: u16 = 40_000;

/// What the rules of one family do to one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Who gets in.
    pub(super) allowed: AddressSet,
    /// Through these interfaces only; empty if through all of them.
    pub(super) interfaces: Vec<String>,
    /// Whether the rules let more in through some interface than is said here.
    pub(super) stricter: bool,
    pub(super) trail: Trail,
}

/// The dumps as rules that can be asked.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) dump: &'a Dump,
    pub(super) published: &'a Published,
    pub(super) bases: BTreeMap<Family, Base<'a>>,
    outside: BTreeMap<Family, Vec<Incoming>>,
    /// Where answers may change from one port to the next.
    borders: Vec<u16>,
    /// Shared, as thousands of ports may have the same long answer.
    known: BTreeMap<Known, Rc<Verdict>>,
}

/// All that an answer depends on.
type Known = (
    Family,
    Protocol,
    Option<IpAddr>,
    usize,
    Option<IpAddr>,
    Option<usize>,
    Option<String>,
);

impl<'a> Judge<'a> {
    pub(super) fn new(dump: &'a Dump, published: &'a Published) -> Self {
        let bridges = bridges(published);
        let mut judge = Self {
            dump,
            published,
            bases: BTreeMap::new(),
            outside: BTreeMap::new(),
            borders: Vec::new(),
            known: BTreeMap::new(),
        };
        let mut borders = BTreeSet::new();
        for family in Family::BOTH {
            let Some(base) = Base::of(dump, family) else {
                continue;
            };
            judge.bases.insert(family, base);
            let rules: Vec<_> = judge.rules(family).map(|(_, rule)| rule).collect();
            for (first, last) in rules.iter().copied().flat_map(Rule::ports) {
                borders.insert(first);
                borders.extend(last.checked_add(1));
            }
            let outside = Incoming::outside(rules, &bridges);
            judge.outside.insert(family, outside);
        }
        judge.borders = borders.into_iter().collect();
        judge
    }

    /// The rules that packets to containers may meet, with their numbers.
    pub(super) fn rules(
        &self,
        family: Family,
    ) -> impl Iterator<Item = (usize, &'a Rule)> + use<'a> {
        let reachable = self.bases.get(&family).map(Base::reachable);
        let dump = self.dump;
        let rule = move |number| Some((number, dump.rules.get(number)?));
        reachable.unwrap_or_default().into_iter().filter_map(rule)
    }

    /// Who reaches the published port, asked at an address of the host.
    pub(super) fn port(
        &mut self,
        family: Family,
        port: HostPort,
        host: Option<IpAddr>,
        way: &Way,
    ) -> Rc<Verdict> {
        let known = (
            family,
            port.protocol,
            host,
            self.between(port.number),
            way.container,
            way.port.map(|port| self.between(port)),
            way.bridge.clone(),
        );
        if let Some(verdict) = self.known.get(&known) {
            return Rc::clone(verdict);
        }
        let verdict = self.verdict(&Question {
            family,
            protocol: port.protocol,
            sort: Sort::New,
            incoming: &Incoming::Other,
            host,
            host_port: port.number,
            container: way.container,
            port: way.port,
            bridge: way.bridge.as_deref(),
        });
        let verdict = Rc::new(verdict);
        self.known.insert(known, Rc::clone(&verdict));
        verdict
    }

    /// Between which borders a port lies.
    fn between(&self, port: u16) -> usize {
        self.borders.partition_point(|border| *border <= port)
    }

    /// Whether a port that no rule names would be refused to somebody.
    pub(super) fn restricts_others(&self) -> bool {
        let families = self.bases.keys();
        families.into_iter().any(|&family| {
            let (container, bridge) = self.some_container(family);
            [Protocol::Tcp, Protocol::Udp].into_iter().any(|protocol| {
                let port = self.unnamed(SOME_PORT);
                let verdict = self.verdict(&Question {
                    family,
                    protocol,
                    sort: Sort::New,
                    incoming: &Incoming::Other,
                    host: None,
                    host_port: port,
                    container,
                    port: Some(port),
                    bridge,
                });
                verdict.allowed != family.all() || !verdict.interfaces.is_empty()
            })
        })
    }

    /// The rules that refuse answers to what containers ask servers outside.
    pub(super) fn refuses_answers(&self, family: Family) -> BTreeSet<usize> {
        let (container, bridge) = self.some_container(family);
        let answers = self.answers(&Question {
            family,
            protocol: Protocol::Tcp,
            sort: Sort::Answer,
            incoming: &Incoming::Other,
            host: None,
            host_port: self.unnamed(SOME_PORT),
            container,
            port: Some(self.unnamed(SOME_CLIENT_PORT)),
            bridge,
        });
        let sure = answers.into_iter().map(|(_, answer)| answer.trail);
        sure.filter(|trail| trail.skipped.is_empty())
            .flat_map(|trail| trail.dropping.into_iter().chain(trail.rejecting))
            .collect()
    }

    /// A container beside those of which rules speak: its address and its bridge.
    fn some_container(&self, family: Family) -> (Option<IpAddr>, Option<&'a str>) {
        let ways = self.published.values().filter_map(|ways| ways.get(&family));
        let known = ways.into_iter().find_map(|way| Some((way.container?, way)));
        let (base, bridge) = known.map_or_else(
            || {
                let address = match family {
                    Family::V4 => IpAddr::from([172, 17, 0, 2]),
                    Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]),
                };
                (address, None)
            },
            |(address, way)| (address, way.bridge.as_deref()),
        );
        let rules: Vec<_> = self.rules(family).map(|(_, rule)| rule).collect();
        let named = |address: IpAddr| {
            let matches = rules.iter().flat_map(|rule| &rule.matches);
            { matches }.any(|found| match &found.kind {
                Kind::Destination(set) => set.contains(address) && singles(set).next().is_some(),
                _ => false,
            })
        };
        let next = |steps: u8| match base {
            IpAddr::V4(base) => {
                let [a, b, c, d] = base.octets();
                IpAddr::from([a, b, c, d ^ steps])
            }
            IpAddr::V6(base) => IpAddr::from((u128::from(base) ^ u128::from(steps)).to_be_bytes()),
        };
        let other = (1..=u8::MAX).map(next).find(|address| !named(*address));
        (other.or(Some(base)), bridge)
    }

    /// A port from `start` on of which no rule speaks.
    fn unnamed(&self, start: u16) -> u16 {
        let rules = Family::BOTH
            .into_iter()
            .flat_map(|family| self.rules(family));
        let named: Vec<PortRange> = rules
            .flat_map(|(_, rule)| rule.ports())
            .filter(|(first, last)| last - first < WIDE)
            .collect();
        let mut ports = start..=u16::MAX;
        ports.find(|port| !within(&named, *port)).unwrap_or(start)
    }

    fn answers(&self, question: &Question<'_>) -> Vec<(&Incoming, Answer)> {
        let Some(base) = self.bases.get(&question.family) else {
            return Vec::new();
        };
        let outside = self.outside.get(&question.family).into_iter().flatten();
        outside
            .map(|incoming| {
                let mut question = question.clone();
                question.incoming = incoming;
                (incoming, base.ask(&question))
            })
            .collect()
    }

    fn verdict(&self, question: &Question<'_>) -> Verdict {
        join(question.family, &self.answers(question))
    }
}

/// Brings together what is let through by the interface it comes in through.
///
/// A policy can say two things: these sources through all interfaces, or these sources through
/// those interfaces and nobody through others. Where neither is just what the rules say, the
/// strictest is taken.
fn join(family: Family, answers: &[(&Incoming, Answer)]) -> Verdict {
    let mut trail = Trail::default();
    for (_, answer) in answers {
        trail.add(&answer.trail);
    }
    let open = || {
        answers
            .iter()
            .filter(|(_, answer)| !answer.allowed.is_empty())
    };
    let closed = answers.len() - open().count();
    let common = |answers: &mut dyn Iterator<Item = &(&Incoming, Answer)>| {
        answers.fold(family.all(), |all, (_, answer)| {
            all.intersection(&answer.allowed)
        })
    };
    let names: Option<Vec<String>> = open()
        .filter(|(incoming, _)| **incoming != Incoming::Other)
        .map(|(incoming, _)| match incoming {
            Incoming::Named(name) if is_plain(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    let (allowed, interfaces) = match names {
        Some(names) if closed > 0 && !names.is_empty() => {
            let has_name = |(incoming, _): &&(&Incoming, Answer)| **incoming != Incoming::Other;
            (common(&mut open().filter(has_name)), names)
        }
        _ => (common(&mut answers.iter()), Vec::new()),
    };
    let interfaces = if allowed.is_empty() {
        Vec::new()
    } else {
        interfaces
    };
    let stricter = answers.iter().any(|(incoming, answer)| {
        let through = match incoming {
            _ if interfaces.is_empty() => true,
            Incoming::Named(name) => interfaces.contains(name),
            _ => false,
        };
        answer.allowed
            != if through {
                allowed.clone()
            } else {
                AddressSet::default()
            }
    });
    Verdict {
        allowed,
        interfaces,
        stricter,
        trail,
    }
}

/// Whether a policy can name the interface without quotes.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 15
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&name)
}

impl Trail {
    fn add(&mut self, other: &Self) {
        self.deciding.extend(&other.deciding);
        self.dropping.extend(&other.dropping);
        self.rejecting.extend(&other.rejecting);
        self.skipped.extend(&other.skipped);
        self.logged |= other.logged;
        self.lost |= other.lost;
    }
}
