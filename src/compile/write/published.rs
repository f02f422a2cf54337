//! Rules from the answers of engines: published ports without a policy key, and the published ports behind a
//! container's own ports.

use crate::net::{Family, HostPorts, KeysByPort, Ports, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::names::{self, Context};
use super::{Compiler, own};
use crate::host::engine::Published;
use crate::host::listener::{Listener, Role};
use crate::host::sockets::Sockets;
use crate::host::{HostView, Publication};
use crate::policy::{DefaultAction, Policy};
use crate::ruleset::{Address, Elements, Expression, Interval, MapTo, Rule, Verdict};

/// Every address of IPv4, and of IPv6.
const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The protocol and address of a socket; the address may stand for a family.
type Place = (IpAddr, Protocol);

impl Compiler<'_> {
    /// Returns published ports without a policy key, as keys, and the denial of packets to them.
    pub(super) fn unnamed(&mut self) -> Vec<(HostPorts, Verdict)> {
        if self.policy.default == DefaultAction::Allow {
            return Vec::new();
        }
        let (mut keys, mut families) = (Vec::new(), BTreeSet::new());
        let mut add =
            |address: Option<IpAddr>, protocol: Protocol, ports: &Ports, family: Option<Family>| {
                families.extend((!ports.is_empty()).then_some(family));
                keys.extend(ports.ranges().iter().map(|&(first, last)| {
                    let key = HostPorts {
                        address,
                        protocol,
                        first,
                        last,
                    };
                    (key, Verdict::Goto(names::unnamed(family).to_owned()))
                }));
            };
        let mut closed = closed(self.policy, self.host);
        for protocol in Protocol::ALL {
            let mut take = |family| closed.remove(&(family, protocol)).unwrap_or_default();
            let (v4, v6) = (take(V4), take(V6));
            add(None, protocol, &v4.intersection(&v6), None);
            add(None, protocol, &v4.without(&v6), Some(Family::V4));
            add(None, protocol, &v6.without(&v4), Some(Family::V6));
        }
        for ((address, protocol), ports) in &closed {
            add(Some(*address), *protocol, ports, None);
        }
        for family in families {
            let matches = family.map(|family| Expression::Address(Address::Family(family)));
            let rules = self.deny_unnamed(matches.as_slice());
            self.chain(names::unnamed(family), rules);
        }
        keys
    }

    /// Returns the rules for packets to containers' own addresses, judged like the published port. With
    /// `default: deny` only for networks whose gateway mode accepts such packets, with `default: allow`
    /// for all containers.
    pub(super) fn containers(&mut self) -> Vec<Rule> {
        let everywhere = self.policy.default == DefaultAction::Allow;
        let mut containers: BTreeMap<IpAddr, BTreeMap<(Protocol, u16), Verdict>> = BTreeMap::new();
        let (policy, mut judges) = (self.policy, BTreeSet::new());
        let keys: KeysByPort<'_> = policy.ports.keys().collect();
        for endpoint in self.host.endpoints() {
            if !(everywhere || endpoint.direct) {
                continue;
            }
            let ports = containers.entry(endpoint.address).or_default();
            for published in &endpoint.container.published {
                let key = published.port().named();
                let place = (key.protocol, published.container_port);
                match keys.decisive(&key) {
                    // Published twice, with and without a key: the key applies to this container's
                    // port.
                    Some(key) => {
                        let judge = Context::Host.port_chain(key);
                        ports.insert(place, Verdict::Goto(judge));
                        // Shared sets have the published port, not the container's own.
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
                IpAddr::V4(address) => {
                    v4.push(MapTo::new(address.into(), Verdict::Jump(chain.clone())));
                }
                IpAddr::V6(address) => {
                    v6.push(MapTo::new(address.into(), Verdict::Jump(chain.clone())));
                }
            }
            let mut rules = Vec::new();
            for protocol in Protocol::ALL {
                let elements: Vec<_> = ports
                    .iter()
                    .filter(|((p, _), _)| *p == protocol)
                    .map(|((_, port), verdict)| {
                        MapTo::new(Interval::new(*port, *port), verdict.clone())
                    })
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

/// Returns published ports without a policy key, except on loopback addresses, which are not reachable from
/// outside.
pub fn unnamed<'a>(
    policy: &'a Policy,
    host: &'a HostView,
) -> impl Iterator<Item = Publication<'a>> {
    let keys: KeysByPort<'_> = policy.ports.keys().collect();
    host.publications().filter(move |publication| {
        !publication.published.address.is_loopback()
            && keys
                .decisive(&publication.published.port().named())
                .is_none()
    })
}

/// Returns published ports that `default: deny` closes, by address: the ranges of each publication without a
/// key and without a service of the host.
#[must_use]
pub fn denied<'a>(policy: &Policy, host: &'a HostView) -> Vec<Publication<'a>> {
    if policy.default == DefaultAction::Allow {
        return Vec::new();
    }
    let closed = closed(policy, host);
    let mut denied = Vec::new();
    for publication in host.publications() {
        let port = publication.published.port();
        let own = Ports::from_iter([(port.first, port.last)]);
        for address in publication.addresses() {
            let place = (address, port.protocol);
            let Some(closed) = closed.get(&place) else {
                continue;
            };
            for &(first, last) in own.intersection(closed).ranges() {
                let published = Published {
                    address,
                    first,
                    last,
                    ..publication.published
                };
                denied.push(Publication {
                    published,
                    ..publication
                });
            }
        }
    }
    denied
}

/// Returns the ports of sockets that `default: deny` closes without a key: those that engines publish, those
/// that serve published ports of any engine, and those in the last answer of a silent engine. By address and
/// family, since a port of a service of the host stays open.
fn closed(policy: &Policy, host: &HostView) -> BTreeMap<Place, Ports> {
    let mut ranges: BTreeMap<Place, Vec<(u16, u16)>> = BTreeMap::new();
    let sockets = host.sockets();
    let automatic = Automatic::of(host);
    let mut add = |address: IpAddr, port: &HostPorts, ports: &Ports| {
        let place = (address, port.protocol);
        ranges.entry(place).or_default().extend(ports.ranges());
    };
    let published = |add: &mut dyn FnMut(IpAddr, &HostPorts, &Ports),
                     address: IpAddr,
                     port: &HostPorts,
                     running: bool| {
        let own =
            free(&sockets, address, port, running).without(automatic.of_protocol(port.protocol));
        // If no service has the other family, that is closed as well: an engine may publish in both
        // later.
        if let Some(other) = other(address) {
            let taken = own.intersection(&free(&sockets, other, port, running));
            add(other, port, &taken);
        }
        add(address, port, &own);
    };
    for publication in host.publications() {
        let port = publication.published.port();
        for address in publication
            .addresses()
            .filter(|address| !address.is_loopback())
        {
            published(&mut add, address, &port, publication.of.is_running());
        }
    }
    let remembered = host.remembered.iter();
    for port in remembered.filter(|port| !port.address.is_some_and(|a| a.is_loopback())) {
        let addresses = port.address.map_or(vec![V4, V6], |address| vec![address]);
        for address in addresses {
            published(&mut add, address, port, false);
        }
    }
    for listener in host.serving() {
        let port = HostPorts {
            address: Some(listener.address),
            protocol: listener.protocol,
            first: listener.port,
            last: listener.port,
        };
        let addresses = [listener.address].into_iter();
        for address in addresses.chain(listener.both_families.then_some(V4)) {
            if listener
                .owner
                .as_ref()
                .is_some_and(|owner| owner.role == Role::Proxy)
            {
                published(&mut add, address, &port, true);
            } else {
                add(address, &port, &free(&sockets, address, &port, true));
            }
        }
    }
    let closed = ranges.into_iter().map(|((address, protocol), ranges)| {
        let named = policy.ports.keys().filter(|key| {
            let same_place = key.address.is_none_or(|named| named == address);
            key.protocol == protocol && same_place
        });
        let named: Ports = named.map(|key| (key.first, key.last)).collect();
        let ports: Ports = ranges.into_iter().collect();
        ((address, protocol), ports.without(&named))
    });
    closed.filter(|(_, ports)| !ports.is_empty()).collect()
}

/// Returns the ports of stopped containers that `default: deny` closes only once they run, as ranges:
/// ephemeral ports that the kernel may choose meanwhile.
pub fn left_open<'a>(
    policy: &'a Policy,
    host: &'a HostView,
) -> impl Iterator<Item = (Publication<'a>, Vec<(u16, u16)>)> {
    let stopped = unnamed(policy, host).filter(|publication| !publication.of.is_running());
    let automatic = Automatic::of(host);
    stopped.filter_map(move |publication| {
        let port = publication.published.port();
        let all = Ports::from_iter([(port.first, port.last)]);
        let open = all.intersection(automatic.of_protocol(port.protocol));
        (!open.is_empty()).then(|| (publication, open.ranges().to_vec()))
    })
}

/// Returns the other family of an unspecified address.
fn other(address: IpAddr) -> Option<IpAddr> {
    match address {
        V4 => Some(V6),
        V6 => Some(V4),
        _ => None,
    }
}

/// Returns the ports that no service of the host holds at an address.
fn free(sockets: &Sockets<'_>, address: IpAddr, port: &HostPorts, engine_holds: bool) -> Ports {
    let held = sockets.holders(address, port, engine_holds);
    let held: Ports = held.map(|Listener { port, .. }| (*port, *port)).collect();
    let ports = Ports::from_iter([(port.first, port.last)]);
    ports.without(&held)
}

/// The ephemeral ports that no engine's socket holds: if they were filtered, replies to requests of this host would
/// be lost.
pub(super) struct Automatic([(Protocol, Ports); Protocol::ALL.len()]);

impl Automatic {
    pub(super) fn of(host: &HostView) -> Self {
        let automatic = own::automatic(&host.local_ports);
        Self(Protocol::ALL.map(|protocol| {
            let served = own::served(host, protocol);
            (protocol, automatic.without(&served))
        }))
    }

    /// Returns those of a protocol.
    pub(super) fn of_protocol(&self, protocol: Protocol) -> &Ports {
        let [first, others @ ..] = &self.0;
        let mut others = others.iter();
        let own = others.find(|(of, _)| *of == protocol);
        &own.unwrap_or(first).1
    }
}
