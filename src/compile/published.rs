//! What only the engine knows: ports that it publishes and no policy names, and which published
//! port is behind a container's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Compiler;
use super::names::Context;
use crate::host::engine::{PortRange, Transport};
use crate::host::{HostView, Publication};
use crate::policy::{DefaultAction, Policy, PortKey, Protocol};
use crate::ruleset::{Elements, Rule, Ruleset, Set, Verdict};

/// The chain for sockets of the engine at ports that no policy names.
pub(super) const UNNAMED: &str = "unnamed";

impl Compiler<'_> {
    /// The ports that an engine publishes and no policy names, as keys. The sockets there are the
    /// engine's, so `default: deny` means them; a port that a service of the host holds is never
    /// among them.
    pub(super) fn unnamed(&mut self) -> Vec<PortKey> {
        if self.policy.default == DefaultAction::Allow {
            return Vec::new();
        }
        let mut ports: BTreeMap<(Option<IpAddr>, Protocol), BTreeSet<u16>> = BTreeMap::new();
        for publication in unnamed(self.policy, self.host) {
            if publication.holder(self.host).is_none() {
                let PortRange {
                    address,
                    transport,
                    first: port,
                    ..
                } = publication.published.port();
                let place = (address, protocol(transport));
                ports.entry(place).or_default().insert(port);
            }
        }
        let remembered = self.host.remembered.iter().copied();
        for range in remembered.chain(self.host.proxied()) {
            let place = (range.address, protocol(range.transport));
            for port in range.first..=range.last {
                let single = PortRange {
                    first: port,
                    last: port,
                    ..range
                };
                if self.host.holder(&single, false).is_none() {
                    ports.entry(place).or_default().insert(port);
                }
            }
        }
        for ((address, protocol), ports) in &mut ports {
            ports.retain(|port| {
                let key = PortKey {
                    address: *address,
                    protocol: *protocol,
                    first: *port,
                    last: *port,
                };
                decisive(self.policy, &key).is_none()
            });
        }
        let keys: Vec<PortKey> = ports
            .iter()
            .flat_map(|((address, protocol), ports)| {
                ranges(ports).into_iter().map(|(first, last)| PortKey {
                    address: *address,
                    protocol: *protocol,
                    first,
                    last,
                })
            })
            .collect();
        if !keys.is_empty() {
            let rules = self.refuse_unnamed(&[]);
            self.chain(UNNAMED, rules);
        }
        keys
    }

    /// Rules for packets to containers' own addresses: judged as the published port is that leads
    /// there. Under `default: deny` only where the engine lets such packets through on purpose,
    /// under `default: allow` for all containers.
    pub(super) fn containers(&mut self) -> Vec<Rule> {
        let everywhere = self.policy.default == DefaultAction::Allow;
        let mut containers: BTreeMap<IpAddr, BTreeMap<(Protocol, u16), Verdict>> = BTreeMap::new();
        let (policy, mut judges) = (self.policy, BTreeSet::new());
        for endpoint in self.host.endpoints() {
            if !(everywhere || endpoint.direct) {
                continue;
            }
            let ports = containers.entry(endpoint.address).or_default();
            for published in &endpoint.container.published {
                let key = key(&published.port());
                let place = (key.protocol, published.container_port);
                match decisive(policy, &key) {
                    // Published twice, under a port that is named and one that is not: the policy
                    // has said something about this container's port.
                    Some(key) => {
                        let judge = Context::Host.port_chain(key);
                        ports.insert(place, Verdict::Goto(judge));
                        // The container's own port is not the one that shared sets know.
                        judges.insert(key);
                    }
                    None if everywhere => {
                        ports.entry(place).or_insert(Verdict::Accept);
                    }
                    None => {}
                }
            }
        }
        for key in judges {
            if let Some(port) = policy.ports.get(key).filter(|_| self.shared.contains(key)) {
                self.port_chain(Context::Host, key, port);
            }
        }
        containers.retain(|_, ports| !ports.is_empty());
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (address, ports) in containers {
            let chain = Context::Container.address_chain(address);
            match address {
                IpAddr::V4(address) => v4.push((address.into(), Verdict::Jump(chain.clone()))),
                IpAddr::V6(address) => v6.push((address.into(), Verdict::Jump(chain.clone()))),
            }
            let mut rules = Vec::new();
            for protocol in Protocol::ALL {
                let elements: Vec<_> = ports
                    .iter()
                    .filter(|((p, _), _)| *p == protocol)
                    .map(|((_, port), verdict)| (*port, *port, verdict.clone()))
                    .collect();
                if !elements.is_empty() {
                    let elements = Elements::PortVerdicts(elements);
                    rules.push(self.port_map(
                        Context::Container,
                        Some(address),
                        protocol,
                        elements,
                    ));
                }
            }
            self.chain(&chain, rules);
        }
        self.address_maps(Context::Container, v4, v6)
    }
}

/// The ports that engines publish and no key of the policy is about, loopback left out: nobody
/// outside reaches those sockets.
pub fn unnamed<'a>(policy: &Policy, host: &'a HostView) -> impl Iterator<Item = Publication<'a>> {
    host.publications().filter(|publication| {
        !publication.published.address.is_loopback()
            && decisive(policy, &key(&publication.published.port())).is_none()
    })
}

/// Ports as a policy would name them.
#[must_use]
pub fn key(ports: &PortRange) -> PortKey {
    PortKey {
        address: ports.address,
        protocol: protocol(ports.transport),
        first: ports.first,
        last: ports.last,
    }
}

/// The most exact key of the policy that is about a port: one with its address before one without,
/// then the narrower range.
#[must_use]
pub fn decisive<'a>(policy: &'a Policy, port: &PortKey) -> Option<&'a PortKey> {
    let about = |key: &&PortKey| {
        key.protocol == port.protocol
            && key.first <= port.first
            && port.last <= key.last
            && (key.address.is_none() || key.address == port.address)
    };
    let exactness = |key: &&PortKey| (key.address.is_none(), key.last - key.first);
    policy.ports.keys().filter(about).min_by_key(exactness)
}

/// Whether there are any [`remembered`] ports in a ruleset, of which no elements need be known.
#[must_use]
pub fn remembers(ruleset: &Ruleset) -> bool {
    ruleset.chains.contains_key(UNNAMED)
}

/// The ports that a ruleset guards because an engine published them when it was compiled.
#[must_use]
pub fn remembered(ruleset: &Ruleset) -> Vec<PortRange> {
    let mut addresses = vec![None];
    for v4 in [true, false] {
        match ruleset.sets.get(&Context::Host.address_map(v4)) {
            Some(Set {
                elements: Elements::Ipv4Verdicts(map),
                ..
            }) => addresses.extend(map.iter().map(|(a, _)| Some(IpAddr::V4((*a).into())))),
            Some(Set {
                elements: Elements::Ipv6Verdicts(map),
                ..
            }) => addresses.extend(map.iter().map(|(a, _)| Some(IpAddr::V6((*a).into())))),
            _ => {}
        }
    }
    let mut ranges = Vec::new();
    for address in addresses {
        for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            let map = Context::Host.port_map(address, protocol(transport));
            let Some(Elements::PortVerdicts(map)) = ruleset.sets.get(&map).map(|s| &s.elements)
            else {
                continue;
            };
            let unnamed = map
                .iter()
                .filter(|(_, _, verdict)| verdict.chain() == Some(UNNAMED));
            ranges.extend(unnamed.map(|(first, last, _)| PortRange {
                address,
                transport,
                first: *first,
                last: *last,
            }));
        }
    }
    ranges
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        Transport::Sctp => Protocol::Sctp,
    }
}

/// Ascending ports as ranges.
fn ranges(ports: &BTreeSet<u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    ranges
}
