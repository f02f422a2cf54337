//! A packet as it was drawn, made one that can be sent, with what is so true of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dfw::analysis::eval::{Arrival, Connection, Flow, Outgoing, Packet};
use dfw::ruleset::{Direction, EPHEMERAL, Hook, L4Protocol};

use super::frame::{Flags, Payload, packet};
use super::world::{Fate, TRANSLATED, behind, is_bridge, is_own, name, number};

/// A packet to send.
#[derive(Debug)]
pub(super) struct Sent {
    /// What is true of it at the hook.
    pub(super) packet: Packet,
    /// What opens its connection beforehand, before there are any rules.
    pub(super) openers: Vec<(Fate, Vec<u8>)>,
    /// Itself.
    pub(super) frame: (Fate, Vec<u8>),
    /// Both ends of its connection, ascending; `None` for ICMP.
    pub(super) connection: Option<[(IpAddr, u16); 2]>,
    /// Its ports at the hook.
    pub(super) ports: Option<(u16, u16)>,
}

/// Who tells of packets that were too big.
const ROUTERS: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 77),
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x77),
);

impl Sent {
    /// As much of a drawn packet as can be sent, by a number of its own from 1; `None` if its
    /// addresses are none that a kernel takes from a wire.
    pub(super) fn of(drawn: &Packet, id: u16, server_port: Option<u16>) -> Option<Self> {
        let flow = drawn.connection.map_or(drawn.flow, |c| c.original);
        let v4 = flow.source.is_ipv4();
        let protocol = match drawn.protocol {
            L4Protocol::Icmp | L4Protocol::Icmp6 if v4 => L4Protocol::Icmp,
            L4Protocol::Icmp | L4Protocol::Icmp6 => L4Protocol::Icmp6,
            // Not every kernel tracks SCTP.
            L4Protocol::Sctp if id.is_multiple_of(2) => L4Protocol::Tcp,
            L4Protocol::Sctp => L4Protocol::Udp,
            other => other,
        };
        if !is_sendable(flow.source) || !is_sendable(flow.destination) {
            return None;
        }
        let draft = Draft {
            id,
            protocol,
            flow,
            client_port: server_port.unwrap_or(if id.is_multiple_of(4) {
                EPHEMERAL + id
            } else {
                1024 + id
            }),
            incoming: number(&drawn.incoming),
            outgoing: drawn.outgoing.as_ref().map_or(0, |out| number(&out.name)),
            resumes: drawn.resumes || id.is_multiple_of(5),
        };
        let ends = draft.port().map(|port| {
            let mut ends = [(flow.source, draft.client_port), (flow.destination, port)];
            ends.sort_unstable();
            ends
        });
        let mut sent = match (drawn.hook, drawn.connection) {
            // Nothing is drawn that this host sends, or that has not come further.
            (Hook::Output | Hook::Prerouting, _) => return None,
            (Hook::Input, _) => draft.at_home(),
            (Hook::Forward, None) => draft.untracked(drawn.returns),
            (Hook::Forward, Some(c)) => match (draft.port(), c.direction) {
                (None, direction) if id.is_multiple_of(2) => {
                    draft.about(c.dnat, direction, drawn.returns)
                }
                (_, Direction::Original) => {
                    draft.forth(c.dnat, drawn.returns, id.is_multiple_of(3))
                }
                (_, Direction::Reply) => draft.back(c.dnat),
            },
        };
        sent.connection = ends;
        sent.packet.source_port = sent.ports.map(|(from, _)| from);
        Some(sent)
    }
}

/// Whether a kernel takes a packet from or to such an address from a wire.
fn is_sendable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_broadcast() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
    }
}

/// Whether the host's routes to an address, without a mark, lead through that interface.
fn is_behind(interface: u8, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [10, 201, interface],
        IpAddr::V6(v6) => v6.segments()[..4] == [0xfd01, 0, 0, interface.into()],
    }
}

struct Draft {
    id: u16,
    protocol: L4Protocol,
    /// Where its connection was opened from and to.
    flow: Flow,
    /// The port that it was opened from.
    client_port: u16,
    incoming: u8,
    outgoing: u8,
    resumes: bool,
}

impl Draft {
    /// The destination port as it was opened; `None` for ICMP.
    fn port(&self) -> Option<u16> {
        let icmp = [L4Protocol::Icmp, L4Protocol::Icmp6].contains(&self.protocol);
        self.flow.port.filter(|_| !icmp)
    }

    fn flow_to(&self, destination: IpAddr, port: Option<u16>) -> Flow {
        Flow {
            source: self.flow.source,
            destination,
            port,
        }
    }

    fn fate(&self) -> Fate {
        Fate {
            id: self.id,
            incoming: self.incoming,
            outgoing: self.outgoing,
            translated: None,
            untracked: false,
        }
    }

    /// Whether no route to the source leads back through the incoming interface. The mark that sends a packet out
    /// through an interface sends what has the same mark there, too.
    fn strays(&self, source: IpAddr) -> bool {
        let is_link_local =
            matches!(source, IpAddr::V6(v6) if v6.segments()[..4] == [0xfe80, 0, 0, 0]);
        let leads_back = match self.outgoing {
            0 => is_behind(self.incoming, source),
            outgoing => outgoing == self.incoming,
        };
        !leads_back && !is_link_local
    }

    fn payload(&self, flags: Flags, ports: Option<(u16, u16)>) -> Payload {
        match (ports, self.protocol) {
            (None, _) => Payload::Echo {
                reply: flags == Flags::SynAck,
                id: self.id,
            },
            (Some(ports), L4Protocol::Tcp) => Payload::Tcp { ports, flags },
            (Some(ports), _) => Payload::Udp { ports },
        }
    }

    fn packet(&self, flow: Flow, connection: Option<Connection>, returns: bool) -> Packet {
        Packet {
            hook: if self.outgoing == 0 {
                Hook::Input
            } else {
                Hook::Forward
            },
            incoming: name(self.incoming).to_owned(),
            outgoing: (self.outgoing != 0).then(|| Outgoing {
                name: name(self.outgoing).to_owned(),
                bridge: is_bridge(self.outgoing),
            }),
            protocol: self.protocol,
            flow,
            arrival: None,
            source_port: None,
            connection,
            returns,
            strays: self.strays(flow.source),
            resumes: false,
            opened: false,
        }
    }

    /// How a first packet arrives.
    fn arrival(&self, original: Flow, flags: Flags) -> Option<Arrival> {
        let opens = self.protocol != L4Protocol::Tcp || flags == Flags::Syn;
        opens.then(|| Arrival {
            destination: original.destination,
            port: self.port(),
            local: is_own(original.destination),
        })
    }

    /// To a socket of the host.
    fn at_home(self) -> Sent {
        let flow = self.flow_to(self.flow.destination, self.port());
        let ports = self.port().map(|to| (self.client_port, to));
        let bytes = packet(
            flow.source,
            flow.destination,
            &self.payload(Flags::Syn, ports),
        );
        let connection = Connection {
            direction: Direction::Original,
            dnat: false,
            related: false,
            original: flow,
        };
        Sent {
            packet: Packet {
                arrival: self.arrival(flow, Flags::Syn),
                ..self.packet(flow, Some(connection), false)
            },
            openers: Vec::new(),
            frame: (self.fate(), bytes),
            connection: None,
            ports,
        }
    }

    /// Past connection tracking.
    fn untracked(self, returns: bool) -> Sent {
        let destination = if returns {
            behind(self.incoming, self.flow.source.is_ipv4())
        } else {
            self.flow.destination
        };
        let flow = self.flow_to(destination, self.port());
        let ports = self.port().map(|to| (self.client_port, to));
        let bytes = packet(flow.source, destination, &self.payload(Flags::Ack, ports));
        let fate = Fate {
            untracked: true,
            ..self.fate()
        };
        Sent {
            packet: self.packet(flow, None, returns),
            openers: Vec::new(),
            frame: (fate, bytes),
            connection: None,
            ports,
        }
    }

    /// Where its connection was opened to, where it was translated to, and by which fate.
    fn ends(&self, dnat: bool, returns: bool) -> (Flow, Flow, Fate) {
        let v4 = self.flow.source.is_ipv4();
        let home = if returns { self.incoming } else { 0 };
        let asked = match (dnat, returns) {
            (false, true) => behind(home, v4),
            _ => self.flow.destination,
        };
        let original = self.flow_to(asked, self.port());
        if dnat {
            let port = self.port().map(|_| TRANSLATED);
            let fate = Fate {
                translated: Some(home),
                ..self.fate()
            };
            (original, self.flow_to(behind(home, v4), port), fate)
        } else {
            (original, original, self.fate())
        }
    }

    /// From the client of a connection: its first packet or a later one.
    fn forth(self, dnat: bool, returns: bool, later: bool) -> Sent {
        let (original, translated, fate) = self.ends(dnat, returns);
        let asked = self.port().map(|to| (self.client_port, to));
        let flags = if later || self.resumes {
            Flags::Ack
        } else {
            Flags::Syn
        };
        let bytes = |flags| {
            packet(
                original.source,
                original.destination,
                &self.payload(flags, asked),
            )
        };
        let mut openers = Vec::new();
        if later {
            openers.push((Fate { id: 0, ..fate }, bytes(Flags::Syn)));
            openers.push(self.answer(
                translated,
                Fate {
                    id: 0,
                    ..self.fate()
                },
            ));
        }
        let connection = Connection {
            direction: Direction::Original,
            dnat,
            related: false,
            original,
        };
        let mut known = self.packet(translated, Some(connection), returns);
        known.arrival = self.arrival(original, flags);
        let is_new = self.protocol == L4Protocol::Tcp && flags == Flags::Ack && !later;
        known.resumes = is_new && self.client_port < EPHEMERAL;
        Sent {
            packet: known,
            openers,
            frame: (fate, bytes(flags)),
            connection: None,
            ports: translated.port.map(|to| (self.client_port, to)),
        }
    }

    /// The answer to the first packet of a connection.
    fn answer(&self, translated: Flow, fate: Fate) -> (Fate, Vec<u8>) {
        let ports = translated.port.map(|from| (from, self.client_port));
        let payload = self.payload(Flags::SynAck, ports);
        (
            fate,
            packet(translated.destination, translated.source, &payload),
        )
    }

    /// A reply to the client of the connection.
    fn back(self, dnat: bool) -> Sent {
        let (original, translated, fate) = self.ends(dnat, false);
        let asked = self.port().map(|to| (self.client_port, to));
        let first = packet(
            original.source,
            original.destination,
            &self.payload(Flags::Syn, asked),
        );
        let opened = Fate {
            id: 0,
            incoming: self.outgoing,
            outgoing: self.incoming,
            ..fate
        };
        let connection = Connection {
            direction: Direction::Reply,
            dnat,
            related: false,
            original,
        };
        let flow = Flow {
            source: translated.destination,
            destination: original.source,
            port: self.port().map(|_| self.client_port),
        };
        Sent {
            frame: self.answer(translated, self.fate()),
            connection: None,
            ports: translated.port.map(|from| (from, self.client_port)),
            openers: vec![(opened, first)],
            packet: self.packet(flow, Some(connection), false),
        }
    }

    /// An error about a connection over UDP, for either of its ends.
    fn about(mut self, dnat: bool, direction: Direction, returns: bool) -> Sent {
        let protocol = self.protocol;
        self.protocol = L4Protocol::Udp;
        let v4 = self.flow.source.is_ipv4();
        let router = if v4 {
            ROUTERS.0.into()
        } else {
            ROUTERS.1.into()
        };
        let returns = returns && direction == Direction::Original;
        self.flow.port.get_or_insert(53);
        let (original, translated, fate) = self.ends(dnat, returns);
        let (client, asked) = (self.client_port, original.port.unwrap_or_default());
        let opened = packet(
            original.source,
            original.destination,
            &Payload::Udp {
                ports: (client, asked),
            },
        );
        let answered = translated.port.unwrap_or_default();
        // What was too big is what went the other way.
        let (about, to, reaches) = match direction {
            Direction::Original => {
                let ports = (asked, client);
                let answer = packet(
                    original.destination,
                    original.source,
                    &Payload::Udp { ports },
                );
                (answer, original.destination, translated.destination)
            }
            Direction::Reply => {
                let ports = (client, answered);
                let question = packet(
                    original.source,
                    translated.destination,
                    &Payload::Udp { ports },
                );
                (question, original.source, original.source)
            }
        };
        let connection = Connection {
            direction,
            dnat,
            related: true,
            original,
        };
        self.protocol = protocol;
        let flow = Flow {
            source: router,
            destination: reaches,
            port: None,
        };
        Sent {
            packet: self.packet(flow, Some(connection), returns),
            openers: vec![(Fate { id: 0, ..fate }, opened)],
            frame: (self.fate(), packet(router, to, &Payload::TooBig { about })),
            connection: None,
            ports: None,
        }
    }
}
