//! Who reaches a published port by the rules of a dump.

use crate::net::{AddressSet, Entry, Family, HostPorts, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use super::dump::Dump;
use super::interface::{Incoming, is_containers};
use super::path::Path;
use super::published::{Published, Way};
use super::question::{Question, Sort, Stage};
use super::ranges::Ranges;
use super::rule::{Kind, Rule, WIDE, is_any_protocol, protocol_of, within};
use super::trail::Trail;
use super::verdict::{Answer, Verdict};

/// A server port that rules rarely match.
const SOME_PORT: u16 = 20_000;
/// A client port that rules rarely match, in `ip_local_port_range` of Linux.
const SOME_CLIENT_PORT: u16 = 40_000;
/// The most host addresses that are evaluated one by one. If rules distinguish more, the result is reported as
/// dependent on the address.
const HOSTS: usize = 4096;

/// The evaluator of the dumps' rules.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    dump: &'a Dump,
    published: &'a Published,
    paths: &'a BTreeMap<Family, Path<'a>>,
    views: BTreeMap<Family, View>,
    /// The ports at which results can change.
    borders: Vec<u16>,
    passes: BTreeMap<Pass, Rc<(Ranges, Trail)>>,
    /// The distinct results.
    different: Vec<Rc<(Ranges, Trail)>>,
    /// The verdicts, shared because thousands of ports can have the same long one.
    verdicts: BTreeMap<Vec<Route>, Rc<Verdict>>,
}

/// The addresses and interfaces that the rules of a family distinguish.
#[derive(Debug)]
struct View {
    outside: Vec<Incoming>,
    /// Addresses of the host with the rules that match them.
    hosts: BTreeSet<(IpAddr, usize)>,
    /// Addresses that an otherwise unknown host does not have.
    others: BTreeSet<IpAddr>,
}

/// The key of a cached result of some base chains. The last parts are a container's address, the interval of
/// its port, and its bridge; they are empty before DNAT.
type Pass = (
    Family,
    Protocol,
    Incoming,
    Option<IpAddr>,
    usize,
    Option<(Option<IpAddr>, Option<usize>, Option<String>)>,
);

/// The key of a cached result for one interface: the arriving sources, the result of `nat`, and the sources
/// that continue from each DNAT rule. Shared parts are identified by index.
type Route = (usize, Trail, Vec<(usize, Ranges)>);

impl<'a> Judge<'a> {
    pub(super) fn new(
        dump: &'a Dump,
        published: &'a Published,
        paths: &'a BTreeMap<Family, Path<'a>>,
    ) -> Self {
        let bridges = &published.bridges;
        let mut borders = BTreeSet::new();
        let mut views = BTreeMap::new();
        for (&family, path) in paths {
            let rules = || path.rules().map(|(_, rule)| rule);
            let passed = path.arriving.iter().chain(&path.onward);
            let ports = dump.rules_of(passed).flat_map(|(_, rule)| rule.ports());
            for (first, last) in ports {
                borders.insert(first);
                borders.extend(last.checked_add(1));
            }
            let is_bridge = |name: &str| is_containers(name) || bridges.contains(name);
            let mut others = published.containers.clone();
            for (_, rule) in dump.rules_of(&path.arriving) {
                if rule.is_engine_isolation(is_bridge) {
                    let addresses = destinations(rule).flat_map(singles);
                    // An address of the host may be written about in the same form.
                    others.extend(addresses.filter(|a| published.bridge_of(*a).is_some()));
                }
            }
            let early = path.arriving.iter().chain(&path.nat);
            let early = dump.rules_of(early).flat_map(|(number, rule)| {
                destinations(rule).flat_map(move |set| singles(set).map(move |a| (a, number)))
            });
            let original = path.rules().flat_map(|(number, rule)| {
                let sets = rule.matches.iter().filter_map(|found| match &found.kind {
                    Kind::OriginalDestination(set) => Some(set),
                    _ => None,
                });
                sets.flat_map(move |set| singles(set).map(move |a| (a, number)))
            });
            let hosts: BTreeSet<_> = early
                .chain(original)
                .filter(|(address, _)| !address.is_loopback() && !others.contains(address))
                .take(HOSTS)
                .collect();
            others.extend(hosts.iter().map(|(address, _)| address));
            let view = View {
                outside: Incoming::outside(rules(), bridges),
                hosts,
                others,
            };
            views.insert(family, view);
        }
        Self {
            dump,
            published,
            paths,
            views,
            borders: borders.into_iter().collect(),
            passes: BTreeMap::new(),
            different: Vec::new(),
            verdicts: BTreeMap::new(),
        }
    }

    /// Returns the host addresses that rules about this port distinguish.
    pub(super) fn hosts(&self, port: HostPorts) -> BTreeSet<(Family, IpAddr)> {
        let views = self.views.iter();
        let named = views.flat_map(|(family, view)| {
            let onward = self.paths.get(family).map(|path| path.onward.as_slice());
            let about = view.hosts.iter().filter(move |(_, number)| {
                let early = onward.unwrap_or_default().binary_search(number).is_err();
                let rule = self.dump.rules.get(*number);
                rule.is_none_or(|rule| is_about(rule, port, early))
            });
            about.map(|(address, _)| (*family, *address))
        });
        named.collect()
    }

    /// Returns the verdict on a port at an address of the host, and its destination; `None` if it is not
    /// published in this family.
    pub(super) fn port(
        &mut self,
        family: Family,
        port: HostPorts,
        host: Option<IpAddr>,
    ) -> Option<(Rc<Verdict>, Vec<Way>)> {
        let paths = self.paths;
        let path = paths.get(&family)?;
        // At one address of the host it is what it is at all, unless rules say otherwise.
        let everywhere = HostPorts {
            address: None,
            ..port
        };
        let mut found = [port, everywhere].iter().any(|port| {
            let known = self.published.ports.get(port);
            known.is_some_and(|families| families.contains(&family))
        });
        // One that translates for some only closes it to all others.
        let left_out = self.published.left_out.iter();
        let left_out = left_out.filter(|(of, _)| *of == family);
        found |= self
            .dump
            .rules_of(left_out.map(|(_, number)| number))
            .any(|(_, rule)| rule.destination_ports().is_some() && is_about(rule, port, true));
        let mut ways = BTreeSet::new();
        let mut parts = Vec::new();
        for incoming in self.views.get(&family)?.outside.clone() {
            let view = self.views.get(&family)?;
            let end = path.translate(&question(family, port, host, &incoming, &view.others));
            found |= !end.translated.is_empty() || !end.trail.skipped.is_empty();
            let arrived = self.pass(family, port, host, &incoming, None)?;
            let mut onward = Vec::new();
            for (number, sources) in end.translated {
                let rule = self.dump.rules.get(number)?;
                let way = self.published.way(number, rule, port.first);
                let passed = self.pass(family, port, host, &incoming, Some(&way))?;
                onward.push((passed, sources));
                ways.insert(way);
            }
            parts.push((incoming, arrived, end.trail, onward));
        }
        let place = |shared: &Rc<(Ranges, Trail)>| Rc::as_ptr(shared).addr();
        let key = parts.iter().map(|(_, arrived, trail, onward)| {
            let onward = onward
                .iter()
                .map(|(p, sources)| (place(p), sources.clone()));
            (place(arrived), trail.clone(), onward.collect())
        });
        let verdict = self.verdicts.entry(key.collect()).or_insert_with(|| {
            let answers = parts.into_iter().map(|(incoming, arrived, trail, onward)| {
                let mut answer = Answer {
                    allowed: AddressSet::default(),
                    trail,
                };
                answer.trail.add(&arrived.1);
                let mut all = Ranges::none(family);
                for (passed, sources) in onward {
                    answer.trail.add(&passed.1);
                    all.add(sources.intersection(&passed.0).intersection(&arrived.0));
                }
                answer.allowed = all.to_set();
                (incoming, answer)
            });
            Rc::new(Verdict::join(family, &answers.collect::<Vec<_>>()))
        });
        found.then(|| (Rc::clone(verdict), ways.into_iter().collect()))
    }

    /// Returns the verdict that a port would have if it were published, from rules that match its number.
    pub(super) fn unpublished(&self, family: Family, port: HostPorts) -> Option<Verdict> {
        let (path, view) = (self.paths.get(&family)?, self.views.get(&family)?);
        let answers = view.outside.iter().map(|incoming| {
            let question = question(family, port, None, incoming, &view.others);
            let (passed, trail) = path.go_on(&question);
            let allowed = passed.to_set();
            (incoming.clone(), Answer { allowed, trail })
        });
        Some(Verdict::join(family, &answers.collect::<Vec<_>>()))
    }

    /// Returns the sources that pass the chains before, or after, DNAT.
    fn pass(
        &mut self,
        family: Family,
        port: HostPorts,
        host: Option<IpAddr>,
        incoming: &Incoming,
        way: Option<&Way>,
    ) -> Option<Rc<(Ranges, Trail)>> {
        let behind = way.map(|way| {
            let port = way.port.map(|port| self.between(port));
            (way.container, port, way.bridge.clone())
        });
        let number = self.between(port.first);
        let key = (
            family,
            port.protocol,
            incoming.clone(),
            host,
            number,
            behind,
        );
        if let Some(known) = self.passes.get(&key) {
            return Some(Rc::clone(known));
        }
        let (path, view) = (self.paths.get(&family)?, self.views.get(&family)?);
        let mut question = question(family, port, host, incoming, &view.others);
        let passed = match way {
            None => path.arrive(&question),
            Some(way) => {
                question.container = way.container;
                question.port = way.port;
                question.bridge = way.bridge.as_deref();
                path.go_on(&question)
            }
        };
        let same = self.different.iter().find(|known| ***known == passed);
        let passed = same.cloned().unwrap_or_else(|| {
            let new = Rc::new(passed);
            self.different.push(Rc::clone(&new));
            new
        });
        self.passes.insert(key, Rc::clone(&passed));
        Some(passed)
    }

    /// Returns the index of the interval of ports with the same result.
    fn between(&self, port: u16) -> usize {
        self.borders.partition_point(|border| *border <= port)
    }

    /// Returns whether a port without a rule would deny some source if it were published like one of the
    /// samples.
    pub(super) fn restricts_others(
        &self,
        samples: impl IntoIterator<Item = (Family, HostPorts)>,
    ) -> bool {
        let number = self.unnamed(SOME_PORT);
        samples.into_iter().any(|(family, sample)| {
            [Protocol::Tcp, Protocol::Udp].into_iter().any(|protocol| {
                let other = HostPorts::one(None, protocol, number);
                let verdict = self.other(family, sample, other);
                verdict.is_none_or(|verdict| {
                    verdict.allowed != AddressSet::all(family) || !verdict.interfaces.is_empty()
                })
            })
        })
    }

    /// Returns the verdict on a port of another container that is published like `sample`.
    fn other(&self, family: Family, sample: HostPorts, other: HostPorts) -> Option<Verdict> {
        let (path, view) = (self.paths.get(&family)?, self.views.get(&family)?);
        let mut answers = Vec::new();
        for incoming in &view.outside {
            let asked = question(family, sample, sample.address, incoming, &view.others);
            let end = path.translate(&asked);
            let mut question = question(family, other, None, incoming, &view.others);
            let (arrived, mut trail) = path.arrive(&question);
            let mut allowed = Ranges::none(family);
            for (number, sources) in end.translated {
                let rule = self.dump.rules.get(number)?;
                let way = self.published.way(number, rule, sample.first);
                let (container, port) = (way.container?, way.port?);
                question.stands_for = Some((sample.protocol, container, port));
                question.container = Some(self.neighbour(family, container));
                question.port = Some(other.first);
                let question = Question {
                    bridge: way.bridge.as_deref(),
                    ..question.clone()
                };
                let (passed, more) = path.go_on(&question);
                trail.add(&more);
                allowed.add(sources.intersection(&passed).intersection(&arrived));
            }
            let allowed = allowed.to_set();
            answers.push((incoming.clone(), Answer { allowed, trail }));
        }
        Some(Verdict::join(family, &answers))
    }

    /// Returns the rules that deny replies to connections that containers open.
    pub(super) fn denies_answers(&self, family: Family) -> BTreeSet<usize> {
        let (Some(path), Some(view)) = (self.paths.get(&family), self.views.get(&family)) else {
            return BTreeSet::new();
        };
        let mut denying = BTreeSet::new();
        let published = self.dump.rules_of(&path.nat);
        let way = { published }
            .map(|(number, rule)| self.published.way(number, rule, SOME_PORT))
            .find(|way| way.container.is_some());
        let Some((container, bridge)) = way.and_then(|way| Some((way.container?, way.bridge)))
        else {
            return denying;
        };
        let server = HostPorts::one(None, Protocol::Tcp, self.unnamed(SOME_PORT));
        for incoming in &view.outside {
            let mut question = question(family, server, None, incoming, &view.others);
            question.sort = Sort::Answer;
            question.container = Some(self.neighbour(family, container));
            question.port = Some(self.unnamed(SOME_CLIENT_PORT));
            question.bridge = bridge.as_deref();
            let (_, trail) = path.go_on(&question);
            if trail.skipped.is_empty() {
                denying.extend(trail.dropping.into_iter().chain(trail.rejecting));
            }
        }
        denying.retain(|number| path.onward.binary_search(number).is_ok());
        denying
    }

    /// Returns an address near `base` that no rule matches.
    fn neighbour(&self, family: Family, base: IpAddr) -> IpAddr {
        let mut named = BTreeSet::new();
        let rules = self.paths.get(&family).into_iter().flat_map(Path::rules);
        for (_, rule) in rules {
            named.extend(destinations(rule).flat_map(singles));
        }
        let next = |steps: u8| match base {
            IpAddr::V4(base) => {
                let [a, b, c, d] = base.octets();
                IpAddr::from([a, b, c, d ^ steps])
            }
            IpAddr::V6(base) => IpAddr::from((u128::from(base) ^ u128::from(steps)).to_be_bytes()),
        };
        let mut others = (1..=u8::MAX).map(next);
        others.find(|other| !named.contains(other)).unwrap_or(base)
    }

    /// Returns the first port from `start` that no rule matches.
    fn unnamed(&self, start: u16) -> u16 {
        let rules = self.paths.values().flat_map(Path::rules);
        let ports = rules.flat_map(|(_, rule)| rule.ports());
        let mut named = vec![false; usize::from(u16::MAX) + 1];
        for (first, last) in ports.filter(|(first, last)| last - first < WIDE) {
            let range = usize::from(first)..=usize::from(last);
            named.get_mut(range).into_iter().for_each(|n| n.fill(true));
        }
        let mut ports = start..=u16::MAX;
        let free = |port: &u16| named.get(usize::from(*port)) == Some(&false);
        ports.find(free).unwrap_or(start)
    }
}

fn question<'q>(
    family: Family,
    port: HostPorts,
    host: Option<IpAddr>,
    incoming: &'q Incoming,
    others: &'q BTreeSet<IpAddr>,
) -> Question<'q> {
    Question {
        family,
        protocol: port.protocol,
        sort: Sort::New,
        stage: Stage::Arriving,
        incoming,
        host,
        others,
        host_port: port.first,
        container: None,
        port: None,
        bridge: None,
        stands_for: None,
    }
}

/// Returns whether a rule can match a port of the host; `early` if it is evaluated before DNAT.
fn is_about(rule: &Rule, port: HostPorts, early: bool) -> bool {
    rule.matches.iter().all(|found| match &found.kind {
        _ if found.negated => true,
        Kind::Protocol(name) => is_any_protocol(name) || protocol_of(name) == Some(port.protocol),
        Kind::OriginalPorts(ports) => within(ports, port.first),
        Kind::DestinationPorts(ports) if early => within(ports, port.first),
        _ => true,
    })
}

/// Returns the single addresses in a set.
fn singles(set: &AddressSet) -> impl Iterator<Item = IpAddr> + '_ {
    set.iter().filter_map(|entry| match entry {
        Entry::V4(first, last) if first == last => Some(IpAddr::V4(first.into())),
        Entry::V6(first, last) if first == last => Some(IpAddr::V6(first.into())),
        _ => None,
    })
}

/// Returns the destination addresses of a rule.
fn destinations(rule: &Rule) -> impl Iterator<Item = &AddressSet> {
    rule.matches.iter().filter_map(|found| match &found.kind {
        Kind::Destination(set) => Some(set),
        _ => None,
    })
}
