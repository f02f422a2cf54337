//! The packets that rules are asked about.

use std::net::IpAddr;

use crate::ruleset::{Direction, Hook, L4Protocol, Side, Tuple};

/// A packet at a hook: everything that a rule can ask of it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it is.
    pub hook: Hook,
    /// The name of the interface that it came in through.
    pub incoming: String,
    /// Where it leaves; `None` if it stays on this host.
    pub outgoing: Option<Outgoing>,
    /// Its protocol.
    pub protocol: L4Protocol,
    /// Where it comes from and goes to, as it is now.
    pub flow: Flow,
    /// How it came in, if it is the first packet of a connection from another host.
    pub arrival: Option<Arrival>,
    /// The port that it comes from; `None` for ICMP.
    pub source_port: Option<u16>,
    /// The connection that it belongs to; `None` where nothing is tracked.
    pub connection: Option<Connection>,
    /// Whether the route to its destination leads back out of the incoming interface.
    pub returns: bool,
    /// Whether no route to its source leads through the incoming interface, so that an answer would leave
    /// elsewhere or nowhere.
    pub strays: bool,
    /// Whether it is a segment in the middle of a TCP connection of which nothing was known before
    /// it came, from a port that servers use.
    pub resumes: bool,
    /// Whether its connection bears the note that this host opened it
    /// ([`OPENED`](crate::ruleset::OPENED)).
    pub opened: bool,
}

/// The interface that a packet leaves through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its name.
    pub name: String,
    /// Whether it is a bridge.
    pub bridge: bool,
}

/// Where packets come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The source.
    pub source: IpAddr,
    /// The destination, of the same family.
    pub destination: IpAddr,
    /// The destination port; `None` for ICMP.
    pub port: Option<u16>,
}

/// How a packet comes in, before connection tracking and any translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The destination address.
    pub destination: IpAddr,
    /// The destination port; `None` for ICMP.
    pub port: Option<u16>,
    /// Whether the destination is an address of this host.
    pub local: bool,
}

/// What connection tracking knows of a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Which way the packet goes.
    pub direction: Direction,
    /// Whether the destination of the connection was translated.
    pub dnat: bool,
    /// Whether the packet is no part of the connection but about it, such as an ICMP error.
    pub related: bool,
    /// The connection as it was opened, before any translation.
    pub original: Flow,
}

impl Packet {
    /// Returns the same packet from another source: the source of the packet and that of its connection.
    #[must_use]
    pub fn from_source(&self, source: IpAddr) -> Self {
        let connection = self.connection.map(|connection| Connection {
            original: Flow {
                source,
                ..connection.original
            },
            ..connection
        });
        Self {
            flow: Flow {
                source,
                ..self.flow
            },
            connection,
            ..self.clone()
        }
    }

    /// Returns the packet as it came in; `None` for one that opens no connection, or that this host sends.
    pub(super) fn arriving(&self) -> Option<Self> {
        let Arrival {
            destination, port, ..
        } = self.arrival?;
        Some(Self {
            hook: Hook::Prerouting,
            outgoing: None,
            flow: Flow {
                source: self.connection.map_or(self.flow, |c| c.original).source,
                destination,
                port,
            },
            connection: None,
            ..self.clone()
        })
    }

    /// Returns whether its destination is an address of this host.
    pub(super) fn is_local(&self) -> bool {
        match self.hook {
            Hook::Prerouting => self.arrival.is_some_and(|arrival| arrival.local),
            Hook::Input => true,
            Hook::Forward | Hook::Output => false,
        }
    }

    /// Returns whether it is the first segment of a TCP connection.
    pub(super) fn opens(&self) -> bool {
        match self.hook {
            Hook::Prerouting => self.protocol == L4Protocol::Tcp && self.arrival.is_some(),
            Hook::Input | Hook::Forward | Hook::Output => self.begins() && !self.resumes,
        }
    }

    /// Returns the name of an interface; empty where there is none, as in the kernel.
    pub(super) fn interface(&self, side: Side) -> &str {
        match side {
            Side::In => &self.incoming,
            Side::Out => self.outgoing.as_ref().map_or("", |out| &out.name),
        }
    }

    /// Returns where it goes, or its connection went before any translation.
    pub(super) fn flow(&self, tuple: Tuple) -> Option<Flow> {
        match tuple {
            Tuple::Packet => Some(self.flow),
            Tuple::Original => self.connection.map(|c| c.original),
        }
    }

    /// Returns where a packet of this protocol goes, and to which port.
    pub(super) fn port(&self, tuple: Tuple, protocol: L4Protocol) -> Option<(Flow, u16)> {
        let flow = self.flow(tuple)?;
        let port = flow.port.filter(|_| self.protocol == protocol)?;
        Some((flow, port))
    }

    /// Returns whether it begins a connection as connection tracking sees it.
    pub(super) fn is_first(&self) -> bool {
        self.connection
            .is_some_and(|c| c.direction == Direction::Original && !c.related)
    }

    /// Whether it begins a TCP connection as connection tracking sees it.
    fn begins(&self) -> bool {
        self.protocol == L4Protocol::Tcp && self.is_first()
    }

    /// Returns whether it is in the middle of a TCP connection that begins only for connection tracking.
    pub(super) fn is_resuming(&self) -> bool {
        self.resumes && self.begins()
    }

    /// Returns whether this host opens a TCP connection by it. What becomes of its connection's label is seen in
    /// later packets only ([`opened`](Self::opened)).
    pub(super) fn is_opening(&self) -> bool {
        self.hook == Hook::Output && self.begins()
    }

    /// Returns whether it answers on a connection that this host opened.
    pub(super) fn is_own_reply(&self) -> bool {
        let connection = self.connection;
        self.opened && connection.is_some_and(|c| c.direction == Direction::Reply)
    }
}
