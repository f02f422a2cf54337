//! Families and addresses: where a packet, or its connection, comes from and goes to.

use std::fmt::{self, Display, Formatter};

use crate::net::Family;

use super::super::{Field, Ruleset};

/// What a rule can ask of a packet's addresses. Linux 5.10 suffices for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `meta nfproto ipv4`. Linux 5.10 suffices.
    Family(Family),
    /// `ct original ip saddr @set`, `ip6 saddr @set`. Linux 5.10 suffices.
    SourceIn {
        /// Whose source.
        tuple: Tuple,
        /// The family of the set.
        family: Family,
        /// A set of addresses of that family.
        set: String,
    },
    /// `ip daddr @set`, `ip6 daddr @set`: the packet's own destination. Linux 5.10 suffices.
    DestinationIn {
        /// The family of the set.
        family: Family,
        /// A set of addresses of that family.
        set: String,
    },
    /// `ct original ip daddr 127.0.0.0/8`, `ip daddr 127.0.0.0/8`. Linux 5.10 suffices.
    ToLoopback(Tuple),
    /// `fib daddr type local`: the destination is an address of this host. In prerouting: before any
    /// translation. Linux 5.10 suffices.
    Local,
    /// `ct original ip daddr vmap @map`, `ip6 daddr vmap @map`. Linux 5.10 suffices.
    DestinationMap {
        /// Whose destination.
        tuple: Tuple,
        /// The family of the map.
        family: Family,
        /// A map from addresses of that family.
        map: String,
    },
}

/// The tuple whose addresses and ports are matched: the packet's own, or conntrack's original one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuple {
    /// Those of its connection's original direction, before any translation.
    Original,
    /// Those that it carries now.
    Packet,
}

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl Address {
    /// Returns the name of the set or map that the expression looks up.
    pub(super) fn set(&self) -> Option<&String> {
        match self {
            Self::SourceIn { set, .. } | Self::DestinationIn { set, .. } => Some(set),
            Self::DestinationMap { map, .. } => Some(map),
            Self::Family(_) | Self::ToLoopback(_) | Self::Local => None,
        }
    }

    /// Returns the name of the set, mutable.
    pub(super) fn set_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::SourceIn { set, .. } | Self::DestinationIn { set, .. } => Some(set),
            Self::DestinationMap { map, .. } => Some(map),
            Self::Family(_) | Self::ToLoopback(_) | Self::Local => None,
        }
    }

    /// Checks the type of the set or map.
    pub(super) fn fits(&self, ruleset: &Ruleset) -> bool {
        match self {
            Self::SourceIn { family, set, .. } | Self::DestinationIn { family, set } => {
                ruleset.has_set(set, &[family.field()])
            }
            Self::DestinationMap { family, map, .. } => ruleset.has_map(map, &[family.field()]),
            Self::Family(_) | Self::ToLoopback(_) | Self::Local => true,
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::SourceIn { tuple, family, set } => {
                write!(f, "{}{} saddr @{set}", tuple.prefix(), family.keyword())
            }
            Self::DestinationIn { family, set } => write!(f, "{} daddr @{set}", family.keyword()),
            Self::ToLoopback(tuple) => write!(f, "{}ip daddr 127.0.0.0/8", tuple.prefix()),
            Self::Local => f.write_str("fib daddr type local"),
            Self::DestinationMap { tuple, family, map } => {
                let (prefix, family) = (tuple.prefix(), family.keyword());
                write!(f, "{prefix}{family} daddr vmap @{map}")
            }
        }
    }
}

impl Tuple {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Original => "ct original ",
            Self::Packet => "",
        }
    }
}

impl Family {
    pub(super) fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// Returns the type of an address of the family in a key.
    pub(super) fn field(self) -> Field {
        match self {
            Self::V4 => Field::Ipv4,
            Self::V6 => Field::Ipv6,
        }
    }
}
