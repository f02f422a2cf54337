//! The interfaces that a packet comes in and leaves through.

use std::fmt::{self, Display, Formatter};

use super::super::{Field, Ruleset};

/// A match on the packet's interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// `iifname "eth0"`, `oifname != "br-*"`. Linux 5.10 suffices.
    Name {
        /// Incoming or outgoing.
        side: Side,
        /// The name or its beginning.
        name: NameMatch,
        /// Whether the match is positive; `!=` if not.
        equal: bool,
    },
    /// `iifname @set`, `oifname != @set`. Linux 5.10 suffices.
    In {
        /// Incoming or outgoing.
        side: Side,
        /// A set of [names](Field::Interface).
        set: String,
        /// Whether the name must be in the set; `!=` if not.
        member: bool,
    },
    /// `meta oifkind "bridge"`: the packet leaves through a bridge. Linux 5.10 suffices.
    OutBridge,
    /// `fib daddr . iif oif exists`: the way to the destination leads back out of the interface
    /// that the packet came in through. Linux 5.10 suffices in input; in forward 5.10 rejects it, and
    /// it is relied on from Linux 6.1 on.
    SameInterface,
    /// `fib saddr . mark . iif oif missing`: no route to the source, of packets with the mark of this one, leads
    /// through the interface that it came in through (strict reverse path, RFC 3704, 2.2). In input and forward
    /// relied on from Linux 6.1 on, as [`SameInterface`](Self::SameInterface).
    NoReversePath,
}

/// Incoming or outgoing interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one it came in through.
    In,
    /// The one it leaves through.
    Out,
}

/// A match of an interface name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameMatch {
    /// The whole name, 1 to 15 bytes.
    Exact(String),
    /// The beginning of the name, 1 to 14 bytes; written with a `*` behind it.
    Prefix(String),
}

impl Interface {
    /// Returns whose name is compared; `None` if none is.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        match self {
            Self::Name { side, .. } | Self::In { side, .. } => Some(*side),
            Self::OutBridge | Self::SameInterface | Self::NoReversePath => None,
        }
    }

    /// Returns the name of the set or map that the expression looks up.
    pub(super) fn set(&self) -> Option<&String> {
        match self {
            Self::In { set, .. } => Some(set),
            Self::Name { .. } | Self::OutBridge | Self::SameInterface | Self::NoReversePath => None,
        }
    }

    /// Returns the name of the set, mutable.
    pub(super) fn set_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::In { set, .. } => Some(set),
            Self::Name { .. } | Self::OutBridge | Self::SameInterface | Self::NoReversePath => None,
        }
    }

    /// Checks the type of the set.
    pub(super) fn fits(&self, ruleset: &Ruleset) -> bool {
        match self {
            Self::In { set, .. } => ruleset.has_set(set, &[Field::Interface]),
            Self::Name { .. } | Self::OutBridge | Self::SameInterface | Self::NoReversePath => true,
        }
    }
}

impl Display for Interface {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |is: &bool| if *is { "" } else { "!= " };
        match self {
            Self::Name { side, name, equal } => {
                write!(f, "{} {}{name}", side.keyword(), not(equal))
            }
            Self::In { side, set, member } => {
                write!(f, "{} {}@{set}", side.keyword(), not(member))
            }
            Self::OutBridge => f.write_str("meta oifkind \"bridge\""),
            Self::SameInterface => f.write_str("fib daddr . iif oif exists"),
            Self::NoReversePath => f.write_str("fib saddr . mark . iif oif missing"),
        }
    }
}

impl Display for NameMatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "\"{name}\""),
            Self::Prefix(name) => write!(f, "\"{name}*\""),
        }
    }
}

impl Side {
    fn keyword(self) -> &'static str {
        match self {
            Self::In => "iifname",
            Self::Out => "oifname",
        }
    }
}
