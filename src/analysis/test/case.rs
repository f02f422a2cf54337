//! One statement of `tests:`, put to every packet that it is about.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use crate::analysis::access::{Judge, Judged, destinations, ordinary};
use crate::analysis::eval::{Packet, Pool, Trace};
use crate::analysis::interfaces::{Class, Containers};
use crate::analysis::judgement::{Judgement, Verdict, judge};
use crate::analysis::path::{Kind, Path};
use crate::compile;
use crate::host::HostView;
use crate::net::{AddressSet, Family, HostPorts, Protocol, decisive};
use crate::policy::{Claim, Policy, PortPolicy, SourceName, SourceSelection, Statement, Target};
use crate::ruleset::Ruleset;

use super::BRIDGE;

/// Where clients come in if the port does not care.
const OUTSIDE: &str = "eth0";

/// A statement of a policy.
pub(super) struct Case<'a> {
    pub(super) policy: &'a Policy,
    pub(super) statement: &'a Statement,
    /// The host, if it is known.
    pub(super) host: Option<&'a HostView>,
}

/// Where a statement is not true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counterexample {
    /// The packet's source; `None` for a container of this host.
    pub(super) source: Option<IpAddr>,
    /// The port that is asked.
    pub(super) port: HostPorts,
    /// What the policy says of it.
    pub(super) key: Option<HostPorts>,
    pub(super) path: Path,
    pub(super) judgement: Judgement,
    pub(super) trace: Trace,
    /// The addresses that it is not true of at that port, this one among them.
    pub(super) others: Rc<AddressSet>,
}

/// What has become of a statement.
pub(super) enum Outcome {
    /// It is true of every packet that it is about.
    Holds,
    /// It is not.
    Fails(Box<Counterexample>),
    /// It is not known: it depends on what this source holds.
    Depends(SourceName),
}

/// Ports for which the same key decides, at one address of the host.
struct Segment {
    protocol: Protocol,
    first: u16,
    last: u16,
    key: Option<HostPorts>,
}

impl<'a> Case<'a> {
    /// Tries the statement on every path that each host has.
    pub(super) fn outcome(
        &self,
        pool: &mut Pool,
        judge: &mut Judge<'_>,
        ruleset: &Ruleset,
        incoming: &[Class],
    ) -> Outcome {
        if let Some(name) = self.unknown_source() {
            return Outcome::Depends(name.clone());
        }
        let mut depends = None;
        let allows = self.statement.expects_allow();
        for family in Family::ALL {
            for (source, sources) in self.sources(family) {
                if sources.is_empty() {
                    continue;
                }
                let sources = pool.keep(sources);
                for (address, segments) in self.segments(ruleset, family) {
                    for segment in segments {
                        let port = segment.key.and_then(|key| self.policy.ports.get(&key));
                        let interfaces = self.interfaces(source, port, incoming);
                        let question = Question {
                            source,
                            sources: &sources,
                            address,
                            interfaces: &interfaces,
                        };
                        let wrong = self.search(pool, judge, ruleset, &segment, &question);
                        // What such a source adds may allow what is denied without it, and takes nothing away.
                        let denied = wrong.is_some() == allows;
                        let unknown = port.filter(|_| denied && source == Origin::Outside);
                        let unknown = unknown.and_then(|port| self.adds(port, &sources));
                        match (unknown, wrong) {
                            (Some(name), _) => depends = depends.or(Some(name.clone())),
                            (None, Some(wrong)) => return Outcome::Fails(Box::new(wrong)),
                            (None, None) => {}
                        }
                    }
                }
            }
        }
        depends.map_or(Outcome::Holds, Outcome::Depends)
    }

    /// Returns whether it is about a port that no key covers.
    pub(super) fn has_uncovered(&self) -> bool {
        match self.statement.to {
            Target::Any | Target::Others => true,
            Target::Ports(ports) => Family::ALL.into_iter().any(|family| {
                let address = ports.address.unwrap_or_else(|| self.ordinary(family));
                let mut segments = self.cut(address, ports.protocol, (ports.first, ports.last));
                segments.any(|segment| segment.key.is_none())
            }),
        }
    }

    /// Returns the verdict that it expects.
    pub(super) fn expected(&self) -> Verdict {
        if self.statement.expects_allow() {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }

    /// Returns the sources of a family that it is about, apart by where they are.
    pub(super) fn sources(&self, family: Family) -> Vec<(Origin, AddressSet)> {
        let all = AddressSet::all(family);
        match &self.statement.claim {
            Claim::Only(only) => {
                vec![(Origin::Outside, all.difference(&self.addresses(only)))]
            }
            Claim::Each { from, except, .. } => {
                let from_outside = self.addresses(from).intersection(&all);
                let outside = from_outside.difference(&self.addresses(except));
                let container: IpAddr = match family {
                    Family::V4 => Ipv4Addr::new(172, 17, 0, 2).into(),
                    Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(),
                };
                let inside = (from.containers && !except.containers).then(|| {
                    let set = AddressSet::from_entries([container.into()]);
                    (Origin::Container, set)
                });
                let outside = (Origin::Outside, outside);
                [Some(outside), inside].into_iter().flatten().collect()
            }
        }
    }

    pub(super) fn addresses(&self, selection: &SourceSelection) -> AddressSet {
        let all = Family::ALL.into_iter().filter(|_| selection.any);
        let named = selection.named.iter();
        let named = named.filter_map(|name| self.policy.sources.get(name));
        let held = named.map(|source| match self.host {
            Some(host) => compile::held(source, host).addresses,
            None => Cow::Borrowed(&source.addresses),
        });
        let first = selection.inline.clone();
        let named = held.fold(first, |all, addresses| all.union(&addresses));
        all.fold(named, |all, family| all.union(&AddressSet::all(family)))
    }

    /// The sources of which it is not known what they hold: without a host, those that depend on it; and fetched
    /// ones of which nothing is known.
    fn unknown(&self) -> impl Iterator<Item = &'a SourceName> {
        let on_host = self.policy.on_host().filter(|_| self.host.is_none());
        let lists = self.policy.unknown_lists();
        lists
            .map(|(name, ..)| name)
            .chain(on_host.map(|(name, ..)| name))
    }

    /// Returns a source of the statement's own of which it is not known what it holds.
    pub(super) fn unknown_source(&self) -> Option<&'a SourceName> {
        let named: Vec<&SourceName> = match &self.statement.claim {
            Claim::Each { from, except, .. } => from.named.iter().chain(&except.named).collect(),
            Claim::Only(only) => only.named.iter().collect(),
        };
        self.unknown().find(|name| named.contains(name))
    }

    /// A source of which it is not known what it holds, and that may allow some of these at a port.
    fn adds(&self, port: &PortPolicy, sources: &AddressSet) -> Option<&'a SourceName> {
        let name = self
            .unknown()
            .find(|name| port.allow.named.contains(*name))?;
        let excepted = self.addresses(&port.except);
        (!sources.difference(&excepted).is_empty()).then_some(name)
    }

    /// The interfaces that packets of a source come in through.
    fn interfaces(
        &self,
        source: Origin,
        port: Option<&PortPolicy>,
        incoming: &[Class],
    ) -> Vec<String> {
        if source == Origin::Container {
            return vec![BRIDGE.to_owned()];
        }
        if !self.statement.expects_allow() {
            let outside = incoming
                .iter()
                .filter(|class| class.containers != Containers::Always);
            return outside.map(|class| class.name.clone()).collect();
        }
        let named = port.iter().flat_map(|port| &port.interfaces);
        let named: Vec<String> = named.map(|name| name.as_str().to_owned()).collect();
        if named.is_empty() {
            vec![OUTSIDE.to_owned()]
        } else {
            named
        }
    }

    fn ordinary(&self, family: Family) -> IpAddr {
        let named = self.policy.ports.keys().filter_map(|key| key.address);
        ordinary(family, &named.collect())
    }

    /// The addresses of the host that are asked, with the ports there: at an address that a key names only those
    /// that such a key decides, for the others are as everywhere.
    fn segments(&self, ruleset: &Ruleset, family: Family) -> BTreeMap<IpAddr, Vec<Segment>> {
        let (address, protocols, ports) = match self.statement.to {
            Target::Ports(to) => (to.address, vec![to.protocol], (to.first, to.last)),
            Target::Any | Target::Others => (None, Protocol::ALL.to_vec(), (1, u16::MAX)),
        };
        let everywhere = self.ordinary(family);
        let asked: BTreeSet<IpAddr> = match address {
            Some(address) => BTreeSet::from([address]),
            // What is allowed need not be at addresses with keys of their own.
            None if self.statement.expects_allow() => BTreeSet::from([everywhere]),
            None => {
                let named = destinations(&[ruleset]).into_iter();
                named.chain([everywhere]).collect()
            }
        };
        let asked = asked
            .into_iter()
            .filter(|asked| Family::of(*asked) == family);
        let of = |at: IpAddr| {
            let all = protocols
                .iter()
                .flat_map(|protocol| self.cut(at, *protocol, ports));
            let wanted = all.filter(|segment| {
                let own = segment.key.is_some_and(|key| key.address == Some(at));
                let others = self.statement.to == Target::Others;
                (own || at == everywhere || address == Some(at))
                    && !(others && segment.key.is_some())
            });
            (at, wanted.collect())
        };
        asked.map(of).collect()
    }

    /// Ports apart by the key that decides at an address.
    fn cut(
        &self,
        address: IpAddr,
        protocol: Protocol,
        (first, last): (u16, u16),
    ) -> impl Iterator<Item = Segment> {
        let keys: Vec<HostPorts> = self
            .policy
            .ports
            .keys()
            .filter(|key| key.protocol == protocol && key.address.is_none_or(|a| a == address))
            .copied()
            .collect();
        let edges = keys
            .iter()
            .flat_map(|key| [Some(key.first), key.last.checked_add(1)]);
        let inside = edges
            .flatten()
            .filter(|edge| first < *edge && *edge <= last);
        let starts: BTreeSet<u16> = inside.chain([first]).collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([last]);
        let ranges: Vec<(u16, u16)> = starts.iter().copied().zip(ends).collect();
        ranges.into_iter().map(move |(first, last)| {
            let asked = HostPorts::one(Some(address), protocol, first);
            Segment {
                protocol,
                first,
                last,
                key: decisive(&keys, &asked).copied(),
            }
        })
    }

    /// The first packet that it is not true of.
    fn search(
        &self,
        pool: &mut Pool,
        judge_of: &mut Judge<'_>,
        ruleset: &Ruleset,
        segment: &Segment,
        question: &Question<'_>,
    ) -> Option<Counterexample> {
        let address = question.address;
        let container = match address {
            IpAddr::V4(_) => Ipv4Addr::new(172, 17, 0, 3).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into(),
        };
        // The host's own sockets are not dfw's business unless the policy names their port.
        let kinds = [Some(Kind::Dnat), segment.key.map(|_| Kind::Service)];
        for kind in kinds.into_iter().flatten() {
            for incoming in question.interfaces {
                let mut port = segment.first;
                loop {
                    let path = Path::to_socket(kind, segment.protocol, address, port);
                    let path = match kind {
                        Kind::Dnat => path.to(container, port, Some(BRIDGE.to_owned())),
                        _ => path,
                    };
                    let packet = path.packet(Family::of(address).unspecified(), incoming, address);
                    let judged = judge_of.packet(pool, &path, &packet, question.sources);
                    let next = judged.ports.1.checked_add(1);
                    let probe = Probe {
                        origin: question.source,
                        port: HostPorts::one(None, segment.protocol, port),
                        asked: address,
                        key: segment.key,
                    };
                    let wrong = self.wrong(pool, ruleset, (&path, &packet), judged, &probe);
                    if wrong.is_some() {
                        return wrong;
                    }
                    match next {
                        Some(next) if next <= segment.last => port = next.max(port + 1),
                        _ => break,
                    }
                }
            }
        }
        None
    }

    /// A port as people ask for it: with the address if one was written or is one of the policy's.
    fn asked(&self, port: HostPorts, address: IpAddr) -> HostPorts {
        let written = match self.statement.to {
            Target::Ports(to) => to.address.is_some(),
            Target::Any | Target::Others => false,
        };
        let is_own = written
            || self
                .policy
                .ports
                .keys()
                .any(|key| key.address == Some(address));
        HostPorts {
            address: is_own.then_some(address),
            ..port
        }
    }

    /// Tries the statement on a path of the host, from outside.
    pub(super) fn on_path(
        &self,
        pool: &mut Pool,
        judge_of: &mut Judge<'_>,
        ruleset: &Ruleset,
        path: &Path,
    ) -> Option<Counterexample> {
        let port = path.port?;
        let asked = match self.statement.to {
            Target::Ports(to) => to.address.unwrap_or(path.address),
            Target::Any | Target::Others => path.address,
        };
        let family = Family::of(asked);
        let asked = if asked.is_unspecified() {
            self.ordinary(family)
        } else {
            asked
        };
        for (source, sources) in self.sources(family) {
            let interface = match source {
                Origin::Outside => OUTSIDE,
                Origin::Container => BRIDGE,
            };
            let sources = pool.keep(sources);
            let packet = path.packet(family.unspecified(), interface, asked);
            let judged = judge_of.packet(pool, path, &packet, &sources);
            let probe = Probe {
                origin: source,
                port: HostPorts::one(None, path.protocol, port),
                asked,
                key: None,
            };
            let wrong = self.wrong(pool, ruleset, (path, &packet), judged, &probe);
            if wrong.is_some() {
                return wrong;
            }
        }
        None
    }

    /// Returns one source that the statement is not true of, with all others for which it is not.
    fn wrong(
        &self,
        pool: &mut Pool,
        ruleset: &Ruleset,
        (path, packet): (&Path, &Packet),
        judged: Judged,
        probe: &Probe,
    ) -> Option<Counterexample> {
        let expected = self.expected();
        let wrong = judged.accesses.into_iter();
        let mut wrong = wrong.filter(|access| access.verdict() != expected);
        let first = wrong.next()?;
        let all = wrong.fold(Rc::clone(&first.sources), |all, access| {
            pool.union(&all, &access.sources)
        });
        let address = example(&first.sources)?;
        let (judgement, trace) = judge(ruleset, path, &packet.from_source(address));
        Some(Counterexample {
            source: (probe.origin == Origin::Outside).then_some(address),
            port: self.asked(probe.port, probe.asked),
            key: probe.key,
            path: path.clone(),
            judgement,
            trace,
            others: all,
        })
    }

    /// Returns whether a path to a socket is one to what is asked for.
    pub(super) fn leads(&self, path: &Path) -> bool {
        let Some(port) = path.port else {
            return false;
        };
        let covers = |to: &HostPorts| {
            let same_address = to
                .address
                .is_none_or(|address| path.address == address || path.address.is_unspecified());
            to.protocol == path.protocol && to.has(port) && same_address
        };
        match &self.statement.to {
            Target::Ports(to) => covers(to),
            Target::Any | Target::Others => true,
        }
    }

    /// Returns what the policy says of a port of a path.
    pub(super) fn key_of(&self, path: &Path) -> Option<HostPorts> {
        let address = match path.address {
            any if any.is_unspecified() => self.ordinary(Family::of(any)),
            address => address,
        };
        let asked = HostPorts::one(Some(address), path.protocol, path.port?);
        decisive(self.policy.ports.keys(), &asked).copied()
    }
}

/// Where a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Outside,
    /// A container of this host.
    Container,
}

/// What is asked of ports.
struct Question<'q> {
    source: Origin,
    sources: &'q Rc<AddressSet>,
    address: IpAddr,
    interfaces: &'q [String],
}

/// What a packet is of.
struct Probe {
    origin: Origin,
    /// The port, whatever the address.
    port: HostPorts,
    /// The address of the host.
    asked: IpAddr,
    /// What the policy says of the port.
    key: Option<HostPorts>,
}

/// Returns an address of a set for people: one of the documentation (RFC 5737, RFC 3849) if there is one, else the
/// first that a host can have.
fn example(set: &AddressSet) -> Option<IpAddr> {
    let documented: [IpAddr; 4] = [
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv4Addr::new(198, 51, 100, 1).into(),
        Ipv4Addr::new(203, 0, 113, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ];
    let known = documented
        .into_iter()
        .find(|address| set.contains(*address));
    // 0.0.0.0/8 and `::` are no hosts.
    let v4 = set
        .v4()
        .iter()
        .map(|(first, last)| first.max(0x0100_0000).min(last));
    let v6 = set.v6().iter().map(|(first, last)| first.max(2).min(last));
    let v4 = v4.map(|address| IpAddr::V4(address.into()));
    let v6 = v6.map(|address| IpAddr::V6(address.into()));
    known.or_else(|| v4.chain(v6).next())
}
