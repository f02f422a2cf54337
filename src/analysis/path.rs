//! The paths from outside to what containers publish and to what listens on this host, and what a packet
//! looks like on each.
//!
//! | path | hook | there is one |
//! |---|---|---|
//! | [`Dnat`](Kind::Dnat) | forward | where somebody translates the published port |
//! | [`Proxy`](Kind::Proxy) | input | where nobody does, and a process of the engine listens |
//! | [`Held`](Kind::Held) | input | where nobody does, and the engine itself listens, with `userland-proxy: false` |
//! | [`HostNetwork`](Kind::HostNetwork) | input | for each socket of a container in the host's network |
//! | [`Service`](Kind::Service) | input | for each other socket of this host |
//! | [`Container`](Kind::Container) | forward | where packets routed to a container's own address pass |
//! | [`Through`](Kind::Through) | forward | for addresses that are routed through a container |
//! | [`Forwarded`](Kind::Forwarded) | forward | for addresses that are routed elsewhere |
//! | [`Loopback`](Kind::Loopback) | forward, input | for a port of 127.0.0.1 that answers who asks over a wire |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{Family, HostPorts, Protocol};
use crate::ruleset::{Direction, Hook};

use super::eval::{Connection, Flow, Outgoing, Packet};
use super::surroundings::Surroundings;

/// A kind of path to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The destination is translated to the container's.
    Dnat,
    /// A process of the engine listens and passes the bytes on.
    Proxy,
    /// The engine keeps the port and serves nobody there: a client is connected, and hears nothing.
    Held,
    /// The container itself listens in the network of the host.
    HostNetwork,
    /// A service of this host listens.
    Service,
    /// The packet is routed to the container's own address.
    Container,
    /// The packet is routed through a container, to an address behind it.
    Through,
    /// The packet is routed elsewhere, past containers.
    Forwarded,
    /// The packet is for a loopback address and comes over a wire nevertheless.
    Loopback,
}

impl Kind {
    /// Its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Dnat => "DNAT",
            Self::Proxy => "docker-proxy",
            Self::Held => "kept by the engine",
            Self::HostNetwork => "host network",
            Self::Service => "service of the host",
            Self::Container => "straight to the container",
            Self::Through => "routed through a container",
            Self::Forwarded => "forwarded",
            Self::Loopback => "127.0.0.1 over the wire",
        }
    }

    /// Its name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dnat => "dnat",
            Self::Proxy => "proxy",
            Self::Held => "held",
            Self::HostNetwork => "host-network",
            Self::Service => "service",
            Self::Container => "container",
            Self::Through => "through",
            Self::Forwarded => "forwarded",
            Self::Loopback => "loopback",
        }
    }
}

/// Who gets as far as the beginning of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Clients that reach the host.
    Anybody,
    /// On-link hosts.
    Neighbours,
    /// Clients with a route to the container's address through this host: on-link hosts can always add
    /// one.
    Routed,
}

impl Reach {
    /// Its name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Routed => "routed",
            Self::Neighbours => "neighbours",
        }
    }

    /// Its condition for people, to follow who gets there; empty if there is none.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Anybody => "",
            Self::Routed => " with a route to it",
            Self::Neighbours => " on the same link",
        }
    }
}

/// Where a packet ends up in another network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address behind this host.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// The bridge, or the interface, that the packet leaves through.
    pub bridge: Option<String>,
}

/// A path to one port, or to all ports of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Which kind of path.
    pub kind: Kind,
    /// Who gets there.
    pub reach: Reach,
    /// The protocol.
    pub protocol: Protocol,
    /// The address that is asked; an unspecified one is every address of the host in its family.
    pub address: IpAddr,
    /// The port that is asked; `None` for all ports of a container that no other path leads to.
    pub port: Option<u16>,
    /// What is at its end, as people call it.
    pub title: String,
    /// Where it leads; `None` if it ends at a socket of this host.
    pub target: Option<Target>,
    /// The port of that socket, where packets are redirected to it from the port that is asked.
    pub redirected: Option<u16>,
}

impl Path {
    /// A path to a socket of this host.
    #[must_use]
    pub fn to_socket(kind: Kind, protocol: Protocol, address: IpAddr, port: u16) -> Self {
        Self {
            kind,
            reach: Reach::Anybody,
            protocol,
            address,
            port: Some(port),
            title: String::new(),
            target: None,
            redirected: None,
        }
    }

    /// The same, called so.
    #[must_use]
    pub fn titled(self, title: String) -> Self {
        Self { title, ..self }
    }

    /// The same, but for who gets there.
    #[must_use]
    pub fn reached_by(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// The same path, forwarded.
    #[must_use]
    pub fn to(self, address: IpAddr, port: u16, bridge: Option<String>) -> Self {
        Self {
            target: Some(Target {
                address,
                port,
                bridge,
            }),
            ..self
        }
    }

    /// The paths that a port of the host has where nothing is known of it: a container behind Docker's
    /// first bridge.
    #[must_use]
    pub fn published(to: &HostPorts, family: Family) -> Self {
        let address = to.address.unwrap_or(family.unspecified());
        Self::to_socket(Kind::Dnat, to.protocol, address, to.first).to(
            documented(family),
            to.first,
            Some("docker0".to_owned()),
        )
    }

    /// The family of the address that is asked.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// The hook of dfw's that packets come to.
    #[must_use]
    pub fn hook(&self) -> Hook {
        if self.target.is_some() {
            Hook::Forward
        } else {
            Hook::Input
        }
    }

    /// The port as a policy writes it; all ports of a container by its address.
    #[must_use]
    pub fn port_text(&self) -> String {
        let address = Some(self.address).filter(|address| !address.is_unspecified());
        match self.port {
            None => format!("{}, all other ports", self.address),
            Some(port) => HostPorts::one(address, self.protocol, port).to_string(),
        }
    }

    /// The kind and the family, for people.
    #[must_use]
    pub fn kind_text(&self) -> String {
        format!("{} ({})", self.kind.title(), self.family().title())
    }

    /// Returns the addresses of the host that a client may ask for on this path, never none.
    #[must_use]
    pub fn asked(&self, around: &Surroundings) -> Vec<IpAddr> {
        if !self.address.is_unspecified() {
            return vec![self.address];
        }
        let own = around.addresses.iter().copied();
        let own: Vec<_> = own
            .filter(|address| Family::of(*address) == self.family())
            .collect();
        if own.is_empty() {
            vec![documented(self.family())]
        } else {
            own
        }
    }

    /// The first packet of a client on this path, as dfw's hook sees it: one for each interface
    /// and each address of the host that it may be for.
    #[must_use]
    pub fn packets(&self, source: IpAddr, around: &Surroundings) -> Vec<Packet> {
        let asked = self.asked(around);
        let interfaces = around.interfaces.iter().flat_map(|interface| {
            asked.iter().map(move |address| Packet {
                strays: around.strays(source, interface),
                ..self.packet(source, interface, *address)
            })
        });
        interfaces.collect()
    }

    /// The first packet of a client that comes in through an interface and asks for an address.
    #[must_use]
    pub fn packet(&self, source: IpAddr, interface: &str, asked: IpAddr) -> Packet {
        let target = self.target.as_ref();
        let original = Flow {
            source,
            destination: asked,
            port: self.port.or(target.map(|target| target.port)),
        };
        let arrives = Flow {
            port: self.redirected.or(original.port),
            ..original
        };
        let flow = target.map_or(arrives, |target| Flow {
            destination: target.address,
            port: Some(target.port),
            ..original
        });
        let is_translated = !matches!(self.kind, Kind::Container | Kind::Through | Kind::Forwarded);
        Packet {
            hook: self.hook(),
            incoming: interface.to_owned(),
            outgoing: target.map(|target| Outgoing {
                name: target.bridge.clone().unwrap_or_default(),
                bridge: self.kind != Kind::Forwarded,
            }),
            protocol: self.protocol.into(),
            flow,
            connection: target.map(|_| Connection {
                direction: Direction::Original,
                dnat: is_translated,
                related: false,
                original,
            }),
            source_port: None,
            returns: false,
            strays: false,
            resumes: false,
            opened: false,
        }
    }
}

/// An address of the documentation (RFC 5737, RFC 3849), for a host that has none.
#[must_use]
pub(super) fn documented(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}
