//! The ways on which somebody outside can reach what containers publish, as engines build them
//! today: which of them this host has, for which port, and what a packet looks like there.
//!
//! | door | hook | there is one |
//! |---|---|---|
//! | [`Dnat`](Door::Dnat) | forward | where the engine translates the published port |
//! | [`Proxy`](Door::Proxy) | input | where it does not, and a process of the engine listens |
//! | [`HostNetwork`](Door::HostNetwork) | input | for each socket of a container in the host's network |
//! | [`Container`](Door::Container) | forward | where packets routed to a container's own address pass |
//! | [`Loopback`](Door::Loopback) | forward | for a port of 127.0.0.1 that is translated before the kernel looks where the packet comes from |
//!
//! Measured on Docker 20.10, 26.1 and 28.5 and on Podman 5.4; the matrix of tests asks real
//! engines each time.

use crate::net::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::analysis::eval::{Connection, Flow, Outgoing, Packet};
use crate::host::engine::{Container, Engine, GatewayMode, Kind, Published};
use crate::host::listener::{Listener, Role};
use crate::host::{EndpointView, HostView, Publisher};
use crate::ruleset::{Direction, Hook, L4Protocol};

/// From this version on Docker drops what is routed straight to a container behind NAT, and what
/// comes over a wire for a loopback address.
const DOCKER_CLOSES_SIDE_DOORS: u32 = 28;

/// A way to a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Door {
    /// The engine translates the destination to the container's.
    Dnat,
    /// A process of the engine listens and passes the bytes on.
    Proxy,
    /// The container itself listens in the network of the host.
    HostNetwork,
    /// The packet is routed to the container's own address.
    Container,
    /// The packet is for a loopback address and comes over a wire nevertheless.
    Loopback,
}

/// Who gets as far as a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Whoever reaches the host.
    Anybody,
    /// Neighbours on a common link.
    Neighbours,
    /// Whoever has a route to the container's address through this host: neighbours on a common
    /// link can always make one.
    Routed,
}

/// One way, to one port or to all ports of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Which kind of way.
    pub door: Door,
    /// Who gets there.
    pub reach: Reach,
    /// The protocol.
    pub protocol: Protocol,
    /// The address that is asked; an unspecified one is every address of the host in its family.
    pub address: IpAddr,
    /// The port that is asked; `None` for all ports of a container.
    pub port: Option<u16>,
    /// What is behind it, as people call it.
    pub title: String,
    /// The container's address and port, where the packet ends up in another network namespace.
    target: Option<(IpAddr, u16)>,
    /// The bridge that it leaves through.
    bridge: Option<String>,
}

/// What else decides which doors there are, beside engines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces through which packets come from outside, by name.
    pub interfaces: Vec<String>,
    /// The addresses of the host that are asked from outside.
    pub addresses: Vec<IpAddr>,
    /// Whether there are rules of engines that translate destinations.
    pub translates: Families,
    /// Whether the host forwards packets at all.
    pub forwards: Families,
    /// Whether forwarding is refused by default, by the policy of another base chain.
    pub refuses: Families,
}

/// One thing of each address family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// That of the family of an address.
    #[must_use]
    pub fn of(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// All ways that this host has: by who gets there, then in the order of ports.
#[must_use]
pub fn ways(host: &HostView, around: &Surroundings) -> Vec<Way> {
    let mut ways = Vec::new();
    for engine in &host.engines {
        for container in engine.containers.iter().filter(|c| c.running) {
            for published in families(engine, container) {
                ways.extend(to_published(host, around, engine, container, published));
            }
        }
        for service in &engine.services {
            for published in &service.published {
                if published.address.is_ipv4() && around.translates.v4 {
                    let title = Publisher::Service(service).title();
                    let gateway = engine.network("docker_gwbridge");
                    ways.push(Way {
                        target: Some((unspecified(true), published.first)),
                        bridge: gateway.and_then(|network| network.bridge.clone()),
                        ..way(Door::Dnat, Reach::Anybody, published, title)
                    });
                }
            }
        }
    }
    for endpoint in host.endpoints() {
        ways.extend(to_container(around, host, &endpoint));
    }
    for listener in &host.listeners {
        ways.extend(to_socket(host, listener));
    }
    ways.sort_by(|a, b| key(a).cmp(&key(b)));
    ways.dedup();
    ways
}

fn key(way: &Way) -> impl Ord + use<'_> {
    (
        way.reach,
        way.port.is_none(),
        way.port,
        way.protocol,
        way.address,
        way.door,
        &way.title,
    )
}

/// What a container publishes, by family. Podman says `0.0.0.0` and means both.
fn families(engine: &Engine, container: &Container) -> Vec<Published> {
    let mut all = container.published.clone();
    if engine.kind == Kind::Podman {
        let both = all.iter().filter(|p| p.address == unspecified(true));
        let v6: Vec<_> = both
            .map(|p| Published {
                address: unspecified(false),
                ..*p
            })
            .collect();
        all.extend(v6);
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn way(door: Door, reach: Reach, published: &Published, title: String) -> Way {
    Way {
        door,
        reach,
        protocol: published.protocol,
        address: published.address,
        port: Some(published.first),
        title,
        target: None,
        bridge: None,
    }
}

/// The ways to a port of the host that a running container publishes.
fn to_published(
    host: &HostView,
    around: &Surroundings,
    engine: &Engine,
    container: &Container,
    published: Published,
) -> Option<Way> {
    let v4 = published.address.is_ipv4();
    let translated = around
        .translates
        .of(published.address)
        .then(|| nat_endpoint(host, engine, container, v4))
        .flatten();
    let door = if published.address.is_loopback() {
        Door::Loopback
    } else {
        Door::Dnat
    };
    if let Some((address, bridge)) = translated {
        if door == Door::Loopback && !opens_loopback(engine) {
            return None;
        }
        let reach = match door {
            Door::Loopback => Reach::Neighbours,
            _ => Reach::Anybody,
        };
        return Some(Way {
            target: Some((address, published.container_port)),
            bridge,
            ..way(door, reach, &published, container.title())
        });
    }
    let served = host.listeners.iter().any(|listener| {
        listener.protocol == published.protocol
            && listener.port == published.first
            && listener.takes(published.address)
            && listener.serves_publication()
    });
    (served && door != Door::Loopback)
        .then(|| way(Door::Proxy, Reach::Anybody, &published, container.title()))
}

/// Whether the engine translates a loopback address also for who asks over a wire.
fn opens_loopback(engine: &Engine) -> bool {
    engine.kind == Kind::Podman || engine.major_version() < DOCKER_CLOSES_SIDE_DOORS
}

/// The address of a container to which the engine translates, and the bridge before it.
fn nat_endpoint(
    host: &HostView,
    engine: &Engine,
    container: &Container,
    v4: bool,
) -> Option<(IpAddr, Option<String>)> {
    host.endpoints()
        .filter(|endpoint| endpoint.container.id == container.id)
        .filter(|endpoint| endpoint.address.is_ipv4() == v4)
        .find(|endpoint| mode(endpoint) != GatewayMode::Routed)
        .map(|endpoint| {
            let network = endpoint.network.or_else(|| engine.networks.first());
            (
                endpoint.address,
                network.and_then(|network| network.bridge.clone()),
            )
        })
}

fn mode(endpoint: &EndpointView<'_>) -> GatewayMode {
    endpoint.network.map_or(GatewayMode::Nat, |network| {
        if endpoint.address.is_ipv4() {
            network.mode_v4
        } else {
            network.mode_v6
        }
    })
}

/// The ways to a container past the ports of the host.
fn to_container(around: &Surroundings, host: &HostView, endpoint: &EndpointView<'_>) -> Vec<Way> {
    let address = endpoint.address;
    let (Some(network), true) = (endpoint.network, around.forwards.of(address)) else {
        return Vec::new();
    };
    let engine = host
        .engines
        .iter()
        .find(|engine| engine.networks.iter().any(|own| own.id == network.id));
    if network.driver != "bridge" || !endpoint.container.running {
        return Vec::new();
    }
    let guards =
        engine.is_some_and(|engine| engine.kind == Kind::Docker) && around.translates.of(address);
    let closes = engine.is_some_and(|e| e.major_version() >= DOCKER_CLOSES_SIDE_DOORS);
    let is_podman = engine.is_some_and(|engine| engine.kind == Kind::Podman);
    let (all, published) = match mode(endpoint) {
        // Docker refuses it, and Podman's containers have no way back.
        _ if network.internal && (guards || is_podman) => (false, false),
        GatewayMode::Isolated => (false, false),
        GatewayMode::NatUnprotected if guards => (true, true),
        GatewayMode::Routed if guards => (false, true),
        GatewayMode::Nat if guards && closes => (false, false),
        GatewayMode::Nat if guards => (!around.refuses.of(address), true),
        // The engine has no rules for this family.
        GatewayMode::Nat | GatewayMode::NatUnprotected | GatewayMode::Routed => {
            let all = !around.refuses.of(address);
            (all, all)
        }
    };
    let to = |protocol: Protocol, port: Option<u16>, target: u16| Way {
        door: Door::Container,
        reach: Reach::Routed,
        protocol,
        address,
        port,
        title: endpoint.container.title(),
        target: Some((address, target)),
        bridge: network.bridge.clone(),
    };
    let own = &endpoint.container.published;
    let mut ways = Vec::new();
    if published {
        let mut ports: Vec<_> = own.iter().map(|p| (p.protocol, p.container_port)).collect();
        ports.sort_unstable();
        ports.dedup();
        ways.extend(
            ports
                .iter()
                .map(|(protocol, port)| to(*protocol, Some(*port), *port)),
        );
    }
    if all {
        // Any port stands for all that the container does not publish.
        let other = (1..=u16::MAX).find(|port| own.iter().all(|p| p.container_port != *port));
        ways.push(to(Protocol::Tcp, None, other.unwrap_or(1)));
    }
    ways
}

/// The way to a socket of a container in the network of the host, or of an engine that was not
/// asked.
fn to_socket(host: &HostView, listener: &Listener) -> Vec<Way> {
    let Some(owner) = &listener.owner else {
        return Vec::new();
    };
    if listener.address.is_loopback() {
        return Vec::new();
    }
    let (door, title) = match host.container_of(owner) {
        Some(container) if container.host_network => (Door::HostNetwork, container.title()),
        None => match owner.role {
            Role::Rootless => {
                let title = format!("a rootless engine ({}, process {})", owner.name, owner.pid);
                (Door::Proxy, title)
            }
            Role::Proxy if !host.is_explained(listener) => {
                let title = format!("an engine that was not asked (process {})", owner.pid);
                (Door::Proxy, title)
            }
            Role::Proxy | Role::Engine | Role::Other => return Vec::new(),
        },
        Some(_) => return Vec::new(),
    };
    let both = listener.both_families.then_some(unspecified(true));
    [Some(listener.address), both]
        .into_iter()
        .flatten()
        .map(|address| Way {
            door,
            reach: Reach::Anybody,
            protocol: listener.protocol,
            address,
            port: Some(listener.port),
            title: title.clone(),
            target: None,
            bridge: None,
        })
        .collect()
}

impl Way {
    /// A way to a port of which nothing is known, such as a port that nobody publishes yet.
    #[must_use]
    pub fn in_general(
        door: Door,
        reach: Reach,
        protocol: Protocol,
        address: Option<IpAddr>,
        v4: bool,
        port: u16,
    ) -> Self {
        let forwarded = matches!(door, Door::Dnat | Door::Container | Door::Loopback);
        Self {
            door,
            reach,
            protocol,
            address: address.unwrap_or_else(|| unspecified(v4)),
            port: Some(port),
            title: String::new(),
            target: forwarded.then(|| (some(v4), port)),
            bridge: forwarded.then(|| "docker0".to_owned()),
        }
    }

    /// The first packet of a stranger on this way, as dfw's hook sees it: one for each interface
    /// and each address of the host that it may be for.
    #[must_use]
    pub fn packets(&self, source: IpAddr, around: &Surroundings) -> Vec<Packet> {
        let asked: Vec<IpAddr> = if self.address.is_unspecified() {
            let own = around.addresses.iter().copied();
            let own: Vec<_> = own
                .filter(|address| address.is_ipv4() == self.address.is_ipv4())
                .collect();
            if own.is_empty() {
                vec![some(self.address.is_ipv4())]
            } else {
                own
            }
        } else {
            vec![self.address]
        };
        let interfaces = around.interfaces.iter().flat_map(|interface| {
            asked
                .iter()
                .map(move |address| self.packet(source, interface, *address))
        });
        interfaces.collect()
    }

    fn packet(&self, source: IpAddr, interface: &str, asked: IpAddr) -> Packet {
        let original = Flow {
            source,
            destination: asked,
            port: self.port.or(self.target.map(|(_, port)| port)),
        };
        let forwarded = match self.door {
            Door::Dnat | Door::Container | Door::Loopback => true,
            Door::Proxy | Door::HostNetwork => false,
        };
        let flow = match self.target {
            Some((destination, port)) => Flow {
                destination,
                port: Some(port),
                ..original
            },
            None => original,
        };
        Packet {
            hook: if forwarded {
                Hook::Forward
            } else {
                Hook::Input
            },
            incoming: interface.to_owned(),
            outgoing: forwarded.then(|| Outgoing {
                name: self.bridge.clone().unwrap_or_default(),
                bridge: true,
            }),
            protocol: match self.protocol {
                Protocol::Tcp => L4Protocol::Tcp,
                Protocol::Udp => L4Protocol::Udp,
                Protocol::Sctp => L4Protocol::Sctp,
            },
            flow,
            connection: forwarded.then_some(Connection {
                direction: Direction::Original,
                dnat: self.door != Door::Container,
                related: false,
                original,
            }),
            source_port: None,
            returns: false,
            resumes: false,
            opened: false,
        }
    }
}

fn unspecified(v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// An address of the documentation (RFC 5737, RFC 3849), for a host that has none.
fn some(v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(192, 0, 2, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    }
}
