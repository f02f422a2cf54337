//! The paths from outside to published ports and to sockets of this host, with the packets on each.
//!
//! | path | hook | exists |
//! |---|---|---|
//! | [`Dnat`](Kind::Dnat) | forward | if NAT rules rewrite the published port |
//! | [`Proxy`](Kind::Proxy) | input | without such rules, if a process of the engine listens |
//! | [`Held`](Kind::Held) | input | without such rules, if the engine itself listens (`userland-proxy: false`) |
//! | [`HostNetwork`](Kind::HostNetwork) | input | for each socket of a container in the host's network |
//! | [`Service`](Kind::Service) | input | for each other socket of this host |
//! | [`Container`](Kind::Container) | forward | for a container's own address, if packets can be routed to it |
//! | [`Through`](Kind::Through) | forward | for addresses that are routed through a container |
//! | [`Forwarded`](Kind::Forwarded) | forward | for addresses that are routed elsewhere |
//! | [`Loopback`](Kind::Loopback) | forward, input | for a port of 127.0.0.1 that other hosts reach |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{Family, HostPorts, Protocol};
use crate::ruleset::{Direction, Hook};

use super::eval::{Arrival, Connection, Flow, Outgoing, Packet};
use super::surroundings::Surroundings;

/// A kind of path to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// DNAT rewrites the destination to the container's.
    Dnat,
    /// docker-proxy listens and relays the connection.
    Proxy,
    /// The engine holds the socket open and does not serve it: a client connects and gets no reply.
    Held,
    /// The container itself listens in the network of the host.
    HostNetwork,
    /// A service of this host listens.
    Service,
    /// The packet is routed to the container's own address.
    Container,
    /// The packet is routed through a container, to an address behind it.
    Through,
    /// The packet is routed elsewhere, not to a container.
    Forwarded,
    /// The packet comes from another host and is for a loopback address.
    Loopback,
}

impl Kind {
    /// Returns the name as shown to people.
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

    /// Returns the name in JSON documents.
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

/// The clients that can send packets into a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Clients that reach the host.
    Anybody,
    /// On-link hosts.
    OnLink,
    /// Clients with a route to the container's address through this host: on-link hosts can always add
    /// one.
    Routed,
}

impl Reach {
    /// Returns the name in JSON documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Routed => "routed",
            Self::OnLink => "on-link",
        }
    }

    /// Returns the condition as text, to follow the clients; empty if there is none.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Anybody => "",
            Self::Routed => " with a route to it",
            Self::OnLink => " on the same link",
        }
    }
}

/// The destination of a packet in another network namespace.
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
    /// The kind of path.
    pub kind: Kind,
    /// The clients that can send packets into the path.
    pub reach: Reach,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The destination address; an unspecified one is every address of the host in its family.
    pub address: IpAddr,
    /// The destination port; `None` for all ports of a container without a path of their own.
    pub port: Option<u16>,
    /// The container or service at its end, as text.
    pub title: String,
    /// The destination; `None` for a socket of this host.
    pub target: Option<Target>,
    /// The port of the socket, if NAT redirects packets to it from the destination port.
    pub redirected: Option<u16>,
}

impl Path {
    /// Returns a path to a socket of this host.
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

    /// Sets the title.
    #[must_use]
    pub fn titled(self, title: String) -> Self {
        Self { title, ..self }
    }

    /// Sets the clients that can send packets into the path.
    #[must_use]
    pub fn reached_by(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// Sets the destination of a forwarded path.
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

    /// Returns the paths of an unknown port of the host, as if a container behind Docker's default bridge
    /// published it.
    #[must_use]
    pub fn published(to: &HostPorts, family: Family) -> Self {
        let address = to.address.unwrap_or(family.unspecified());
        Self::to_socket(Kind::Dnat, to.protocol, address, to.first).to(
            documented(family),
            to.first,
            Some("docker0".to_owned()),
        )
    }

    /// Returns the family of the destination address.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Returns the hook on which dfw filters the packets.
    #[must_use]
    pub fn hook(&self) -> Hook {
        if self.target.is_some() {
            Hook::Forward
        } else {
            Hook::Input
        }
    }

    /// Returns the port as a policy writes it, or the address if it is all ports of a container.
    #[must_use]
    pub fn port_text(&self) -> String {
        let address = Some(self.address).filter(|address| !address.is_unspecified());
        match self.port {
            None => format!("{}, all other ports", self.address),
            Some(port) => HostPorts::one(address, self.protocol, port).to_string(),
        }
    }

    /// Returns the kind and the family as text.
    #[must_use]
    pub fn kind_text(&self) -> String {
        format!("{} ({})", self.kind.title(), self.family().title())
    }

    /// Returns the addresses of the host that clients ask on this path; one of the documentation if the host has
    /// none.
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

    /// Returns the first packets of a client on this path, as dfw's hook sees them: one for each interface and
    /// each address of the host.
    #[must_use]
    pub fn packets(&self, source: IpAddr, around: &Surroundings) -> Vec<Packet> {
        self.packets_to(&self.asked(around), source, around)
    }

    /// Returns the same for these addresses of the host.
    #[must_use]
    pub fn packets_to(
        &self,
        asked: &[IpAddr],
        source: IpAddr,
        around: &Surroundings,
    ) -> Vec<Packet> {
        let interfaces = around.interfaces.iter().flat_map(|interface| {
            asked.iter().map(move |address| Packet {
                strays: around.strays(source, interface),
                ..self.packet(source, interface, *address)
            })
        });
        interfaces.collect()
    }

    /// Returns the first packet of a client that arrives on an interface, for one address of the host.
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
            arrival: Some(Arrival {
                destination: original.destination,
                port: original.port,
                local: is_translated,
            }),
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

/// Returns a documentation address (RFC 5737, RFC 3849), for a host without addresses.
#[must_use]
pub(super) fn documented(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}
