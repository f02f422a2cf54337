//! What a rule can say: matches, statements and verdicts.

use crate::net::{Family, Protocol};

/// The first port that clients use for themselves on Linux (`net.ipv4.ip_local_port_range`).
pub const EPHEMERAL: u16 = 32768;

/// The bit of a connection's label that says that this host opened it. Others who use labels are Open
/// vSwitch, `xt_connlabel` and `act_ct`, which count theirs from 0 (`linux/netfilter/nf_conntrack_common.h`
/// knows 128 bits, and no names).
pub const OPENED: u8 = 93;

/// One part of a rule, in the order in which the kernel runs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// `iifname "eth0"`, `oifname != "br-*"`.
    Interface {
        /// Incoming or outgoing.
        side: Side,
        /// The name or its beginning.
        name: NameMatch,
        /// Whether it must be so, or must not.
        equal: bool,
    },
    /// `iifname @set`, `oifname != @set`.
    InterfaceIn {
        /// Incoming or outgoing.
        side: Side,
        /// A set of [`Interfaces`](super::Elements::Interfaces).
        set: String,
        /// Whether it must be in the set, or must not.
        member: bool,
    },
    /// `meta oifkind "bridge"`: the packet leaves through a bridge.
    OutBridge,
    /// `meta nfproto ipv4`.
    Family(Family),
    /// `meta l4proto tcp`.
    Protocol(L4Protocol),
    /// `ct direction original`.
    Direction(Direction),
    /// `ct status dnat`: the destination of the connection was translated; true in both
    /// directions.
    DestinationNat,
    /// `ct state related`.
    Related,
    /// `ct mark 0x0df00000`: the connection bears this mark. Of which number is left to the plan
    /// ([`MARK`](super::MARK)).
    Mark(u32),
    /// `ct mark set 0x0df00000`: gives the connection a mark, which is not 0.
    SetMark(u32),
    /// `ct original ip saddr @set`, `ip6 saddr @set`.
    SourceIn {
        /// Whose source.
        tuple: Tuple,
        /// The family of the set.
        family: Family,
        /// A set of addresses of that family.
        set: String,
    },
    /// `ip daddr @set`, `ip6 daddr @set`: the packet's own destination.
    DestinationIn {
        /// The family of the set.
        family: Family,
        /// A set of addresses of that family.
        set: String,
    },
    /// `meta l4proto tcp ct original proto-dst . ct original ip saddr & 255.255.255.0 @set`,
    /// `meta l4proto tcp tcp dport . ip6 saddr & ffff:: @set`: the network of the source, beside the
    /// destination port.
    PortSourceIn {
        /// Whose destination port and source.
        tuple: Tuple,
        /// The only protocol for which the port is looked at.
        protocol: L4Protocol,
        /// The family of the set.
        family: Family,
        /// How many bits of the source are looked at, the highest.
        length: u8,
        /// A set of [`PortIpv4`](super::Elements::PortIpv4) or
        /// [`PortIpv6`](super::Elements::PortIpv6).
        set: String,
    },
    /// `meta l4proto . ct original proto-dst @set`, `meta l4proto . th dport @set`. Comes behind a
    /// match of a protocol that has ports.
    PortIn {
        /// Whose destination port.
        tuple: Tuple,
        /// A set of [`PortCounters`](super::Elements::PortCounters).
        set: String,
    },
    /// `ct original ip daddr 127.0.0.0/8`, `ip daddr 127.0.0.0/8`.
    ToLoopback(Tuple),
    /// `fib daddr . iif oif exists`: the way to the destination leads back out of the interface
    /// that the packet came in through.
    SameInterface,
    /// `meta l4proto tcp tcp sport < 32768 ct state new tcp flags & (syn | ack) != syn`: a segment
    /// from a port that servers use ([`EPHEMERAL`]), in the middle of a connection of which
    /// connection tracking knows nothing, so that it takes its sender for the one who opened it.
    Resumed,
    /// `meta l4proto tcp tcp flags & (syn | ack) == syn ct state new ct label set 93`: notes on a TCP
    /// connection that this host opens that it did ([`OPENED`]). In output.
    NoteOpening,
    /// `ct direction reply ct label 93`: a reply on a connection that bears that note. Without it a reply
    /// proves nothing: where a server speaks first after its connection was forgotten, it counts as the one
    /// who opened it.
    Opened,
    /// `meta l4proto tcp ct original proto-dst vmap @map`, `tcp dport vmap @map`.
    PortMap {
        /// Whose destination port.
        tuple: Tuple,
        /// The only protocol for which the port is looked at.
        protocol: L4Protocol,
        /// A map of [`PortVerdicts`](super::Elements::PortVerdicts).
        map: String,
    },
    /// `ct original ip daddr vmap @map`, `ip6 daddr vmap @map`.
    DestinationMap {
        /// Whose destination.
        tuple: Tuple,
        /// The family of the map.
        family: Family,
        /// A map from addresses of that family.
        map: String,
    },
    /// `udp sport . ip saddr vmap @map`, `udp dport . ip daddr vmap @map`: the port and the address at
    /// one end of the packet.
    PortAddressMap {
        /// Which end.
        end: End,
        /// The only protocol for which they are looked at.
        protocol: L4Protocol,
        /// The family of the map.
        family: Family,
        /// A map of [`PortIpv4Verdicts`](super::Elements::PortIpv4Verdicts) or
        /// [`PortIpv6Verdicts`](super::Elements::PortIpv6Verdicts).
        map: String,
    },
    /// `limit rate 10/second burst 20 packets`: matches while there are tokens.
    Limit {
        /// Packets per second that refill the bucket.
        per_second: u64,
        /// The size of the bucket, in packets.
        burst: u32,
    },
    /// `log prefix "…"`: to the kernel log. `log prefix "…" group 223`: to the program that listens
    /// to that group of `nfnetlink_log`, if there is one.
    Log {
        /// At most 127 bytes.
        prefix: String,
        /// The group; `None` for the kernel log.
        group: Option<u16>,
    },
    /// `counter`. Its values are no part of the ruleset.
    Counter,
    /// `reject`; final.
    Reject(Reject),
    /// A verdict.
    Verdict(Verdict),
    /// Something the kernel holds and dfw never writes.
    Unknown {
        /// The kernel's name of the expression.
        name: String,
        /// Its attributes as they were read.
        data: Vec<u8>,
    },
}

impl Expression {
    /// The set or map that it looks something up in.
    #[must_use]
    pub fn set(&self) -> Option<&str> {
        match self {
            Self::InterfaceIn { set, .. }
            | Self::SourceIn { set, .. }
            | Self::DestinationIn { set, .. }
            | Self::PortSourceIn { set, .. }
            | Self::PortIn { set, .. } => Some(set),
            Self::PortMap { map, .. }
            | Self::DestinationMap { map, .. }
            | Self::PortAddressMap { map, .. } => Some(map),
            Self::Interface { .. }
            | Self::OutBridge
            | Self::Family(_)
            | Self::Protocol(_)
            | Self::Direction(_)
            | Self::DestinationNat
            | Self::Related
            | Self::Mark(_)
            | Self::SetMark(_)
            | Self::Resumed
            | Self::NoteOpening
            | Self::Opened
            | Self::ToLoopback(_)
            | Self::SameInterface
            | Self::Limit { .. }
            | Self::Log { .. }
            | Self::Counter
            | Self::Reject(_)
            | Self::Verdict(_)
            | Self::Unknown { .. } => None,
        }
    }

    /// The same, to be changed.
    pub fn set_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::InterfaceIn { set, .. }
            | Self::SourceIn { set, .. }
            | Self::DestinationIn { set, .. }
            | Self::PortSourceIn { set, .. }
            | Self::PortIn { set, .. } => Some(set),
            Self::PortMap { map, .. }
            | Self::DestinationMap { map, .. }
            | Self::PortAddressMap { map, .. } => Some(map),
            Self::Interface { .. }
            | Self::OutBridge
            | Self::Family(_)
            | Self::Protocol(_)
            | Self::Direction(_)
            | Self::DestinationNat
            | Self::Related
            | Self::Mark(_)
            | Self::SetMark(_)
            | Self::Resumed
            | Self::NoteOpening
            | Self::Opened
            | Self::ToLoopback(_)
            | Self::SameInterface
            | Self::Limit { .. }
            | Self::Log { .. }
            | Self::Counter
            | Self::Reject(_)
            | Self::Verdict(_)
            | Self::Unknown { .. } => None,
        }
    }

    /// The mark that it looks for or sets, to be changed.
    pub fn mark_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Mark(mark) | Self::SetMark(mark) => Some(mark),
            _ => None,
        }
    }
}

/// Which interface of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one it came in through.
    In,
    /// The one it leaves through.
    Out,
}

/// How an interface name is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameMatch {
    /// The whole name, 1 to 15 bytes.
    Exact(String),
    /// The beginning of the name, 1 to 14 bytes; written with a `*` behind it.
    Prefix(String),
}

/// Which addresses and ports of a packet are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuple {
    /// Those of its connection's original direction, before any translation.
    Original,
    /// Those that it carries now.
    Packet,
}

/// One end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// The direction of a packet within its connection (`enum ip_conntrack_dir`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever opened the connection.
    Original,
    /// Back to it.
    Reply,
}

/// What follows the IP header, by its IP protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum L4Protocol {
    /// 1.
    Icmp = 1,
    /// 6.
    Tcp = 6,
    /// 17.
    Udp = 17,
    /// 58.
    Icmp6 = 58,
    /// 132.
    Sctp = 132,
}

impl L4Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Icmp, Self::Tcp, Self::Udp, Self::Icmp6, Self::Sctp];

    /// Its name in nft's language.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp6 => "ipv6-icmp",
            Self::Sctp => "sctp",
        }
    }

    /// The one of these that has ports; `None` for others.
    #[must_use]
    pub fn with_ports(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => Some(Protocol::Sctp),
            Self::Icmp | Self::Icmp6 => None,
        }
    }

    /// Its IP protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl From<Protocol> for L4Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// How a refused packet is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// A TCP reset; only for TCP.
    TcpReset,
    /// ICMP or `ICMPv6` port unreachable.
    PortUnreachable,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on to the next base chain of the hook.
    Accept,
    /// It is gone, whatever other chains say.
    Drop,
    /// It goes through another chain and comes back if that decides nothing.
    Jump(String),
    /// It goes through another chain and does not come back.
    Goto(String),
    /// It goes back to where it was called from.
    Return,
}

impl Verdict {
    /// The chain it leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}
