//! Protocols and ports, alone and beside an address.

use std::fmt::{self, Display, Formatter};

use crate::net::{Family, Protocol};

use super::super::{Field, Ruleset};
use super::address::{End, Tuple};

/// A match on the packet's protocol and ports. Linux 5.10 suffices for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// `meta l4proto tcp`. Linux 5.10 suffices.
    Protocol(L4Protocol),
    /// `tcp flags & (syn | ack) == syn`: the first segment of a TCP connection. Linux 5.10 suffices.
    Opens,
    /// `meta l4proto tcp ct original proto-dst . ct original ip saddr & 255.255.255.0 @set`,
    /// `meta l4proto tcp tcp dport . ip6 saddr & ffff:: @set`: the network of the source, beside the
    /// destination port. Linux 5.10 suffices.
    SourceIn {
        /// Whose destination port and source.
        tuple: Tuple,
        /// The protocol that is matched before the port.
        protocol: L4Protocol,
        /// The family of the set.
        family: Family,
        /// The prefix length of the source, in bits.
        length: u8,
        /// A set of ports beside addresses of that family.
        set: String,
    },
    /// `meta l4proto . ct original proto-dst @set`, `meta l4proto . th dport @set`. Comes behind a
    /// match of a protocol that has ports. Linux 5.10 suffices.
    In {
        /// Whose destination port.
        tuple: Tuple,
        /// A set of protocols beside ports.
        set: String,
    },
    /// `meta l4proto tcp ct original proto-dst vmap @map`, `tcp dport vmap @map`. Linux 5.10 suffices.
    Map {
        /// Whose destination port.
        tuple: Tuple,
        /// The protocol that is matched before the port.
        protocol: L4Protocol,
        /// A map from ports.
        map: String,
    },
    /// `udp sport . ip saddr vmap @map`, `udp dport . ip daddr vmap @map`: the port and the address at
    /// one end of the packet. Linux 5.10 suffices.
    AddressMap {
        /// Which end.
        end: End,
        /// The protocol that is matched before them.
        protocol: L4Protocol,
        /// The family of the map.
        family: Family,
        /// A map from ports beside addresses of that family.
        map: String,
    },
}

/// A protocol above IP, by its IP protocol number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// Returns its name in nft's language.
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

    /// Returns the protocol if it has ports.
    #[must_use]
    pub fn with_ports(self) -> Option<Protocol> {
        match self {
            Self::Tcp => Some(Protocol::Tcp),
            Self::Udp => Some(Protocol::Udp),
            Self::Sctp => Some(Protocol::Sctp),
            Self::Icmp | Self::Icmp6 => None,
        }
    }

    /// Returns its IP protocol number.
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

impl Port {
    /// Returns the name of the set or map that the expression looks up.
    pub(super) fn set(&self) -> Option<&String> {
        match self {
            Self::SourceIn { set, .. } | Self::In { set, .. } => Some(set),
            Self::Map { map, .. } | Self::AddressMap { map, .. } => Some(map),
            Self::Protocol(_) | Self::Opens => None,
        }
    }

    /// Returns the name of the set, mutable.
    pub(super) fn set_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::SourceIn { set, .. } | Self::In { set, .. } => Some(set),
            Self::Map { map, .. } | Self::AddressMap { map, .. } => Some(map),
            Self::Protocol(_) | Self::Opens => None,
        }
    }

    /// Checks the type of the set or map, and the length of a mask.
    pub(super) fn fits(&self, ruleset: &Ruleset) -> bool {
        match self {
            Self::SourceIn {
                family,
                length,
                set,
                ..
            } => *length <= family.bits() && ruleset.has_set(set, &[Field::Port, family.field()]),
            Self::In { set, .. } => ruleset.has_set(set, &[Field::Protocol, Field::Port]),
            Self::Map { map, .. } => ruleset.has_map(map, &[Field::Port]),
            Self::AddressMap { family, map, .. } => {
                ruleset.has_map(map, &[Field::Port, family.field()])
            }
            Self::Protocol(_) | Self::Opens => true,
        }
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(protocol) => write!(f, "meta l4proto {}", protocol.name()),
            Self::Opens => f.write_str("tcp flags & (syn | ack) == syn"),
            Self::SourceIn {
                tuple,
                protocol,
                family,
                length,
                set,
            } => {
                let port = match tuple {
                    Tuple::Original => {
                        format!("meta l4proto {} ct original proto-dst", protocol.name())
                    }
                    Tuple::Packet => format!("{} dport", protocol.name()),
                };
                let (prefix, family_name) = (tuple.prefix(), family.keyword());
                let mask = match family.mask(*length) {
                    mask if mask == family.mask(family.bits()) => String::new(),
                    mask => format!(" & {mask}"),
                };
                write!(f, "{port} . {prefix}{family_name} saddr{mask} @{set}")
            }
            Self::In {
                tuple: Tuple::Original,
                set,
            } => write!(f, "meta l4proto . ct original proto-dst @{set}"),
            Self::In {
                tuple: Tuple::Packet,
                set,
            } => write!(f, "meta l4proto . th dport @{set}"),
            Self::Map {
                tuple: Tuple::Original,
                protocol,
                map,
            } => {
                let protocol = protocol.name();
                write!(
                    f,
                    "meta l4proto {protocol} ct original proto-dst vmap @{map}"
                )
            }
            Self::Map {
                tuple: Tuple::Packet,
                protocol,
                map,
            } => write!(f, "{} dport vmap @{map}", protocol.name()),
            Self::AddressMap {
                end,
                protocol,
                family,
                map,
            } => {
                let (port, address) = match end {
                    End::Source => ("sport", "saddr"),
                    End::Destination => ("dport", "daddr"),
                };
                let (protocol, family) = (protocol.name(), family.keyword());
                write!(f, "{protocol} {port} . {family} {address} vmap @{map}")
            }
        }
    }
}
