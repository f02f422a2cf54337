//! The known fields and bytes of a packet, and the effect of rules on it.

use std::net::IpAddr;

use super::Target;
use crate::net::{Family, Ports, Protocol};
use crate::nftables::foreign::{Order, Verdict};

/// `RTN_LOCAL` of `linux/rtnetlink.h`.
pub(super) const RTN_LOCAL: u32 = 2;
/// `NFPROTO_INET`, `NFPROTO_IPV4` and `NFPROTO_IPV6` of `linux/netfilter.h`.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// What is known of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub family: Family,
    pub address: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub local: Option<bool>,
    pub protocol: Option<Protocol>,
    pub port: Option<u16>,
    pub interface: Option<(String, u32)>,
}

impl Packet {
    pub(super) fn number(&self) -> Option<u8> {
        Some(match self.protocol? {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        })
    }
}

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holds {
    No,
    Maybe,
    Yes,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Holds {
    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// The final action of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Verdict(Verdict),
    Translate(Target),
    /// Anything.
    Unknown,
}

/// The conditions of a rule, as far as a translation can express them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Narrowed {
    pub protocol: Option<u8>,
    pub ports: Option<Ports>,
    /// By byte of the address: mask and value.
    pub address: Vec<(usize, u8, u8)>,
    pub conditional: bool,
}

impl Narrowed {
    /// Adds the condition that the port is one of these.
    pub(super) fn take_ports(&mut self, ports: &Ports) {
        self.ports = Some(match &self.ports {
            Some(before) => before.intersection(ports),
            None => ports.clone(),
        });
    }

    pub(super) fn take_protocol(&mut self, protocol: u8) {
        self.conditional |= self.protocol.is_some_and(|before| before != protocol);
        self.protocol = Some(protocol);
    }
}

/// One of several ports, or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Several;

/// One way through a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    /// Whether a packet takes this branch.
    pub holds: Holds,
    pub effect: Effect,
    pub narrowed: Narrowed,
}

/// Returns an address from its bytes.
pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}

/// The origin of a byte in a register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Origin {
    #[default]
    Elsewhere,
    Protocol,
    /// A byte of the port, the first or the second.
    Port(u8),
    /// A byte of the destination, with a mask.
    Destination(usize, u8),
    Interface,
    AddressType,
}

/// A byte in a register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub value: Option<u8>,
    pub origin: Origin,
}

impl From<u8> for Cell {
    fn from(value: u8) -> Self {
        Self {
            value: Some(value),
            origin: Origin::Elsewhere,
        }
    }
}

/// Compares two byte strings of equal length.
pub(super) fn holds(cells: &[Cell], order: Order, value: &[u8]) -> Holds {
    let known: Option<Vec<u8>> = cells.iter().map(|cell| cell.value).collect();
    let differs = || {
        let mut both = cells.iter().zip(value);
        both.any(|(cell, value)| cell.value.is_some_and(|known| known != *value))
    };
    match (known, order) {
        (Some(known), Order::Equal) => (known == value).into(),
        (Some(known), Order::Unequal) => (known != value).into(),
        (Some(known), Order::Less) => (&known[..] < value).into(),
        (Some(known), Order::AtMost) => (&known[..] <= value).into(),
        (Some(known), Order::Greater) => (&known[..] > value).into(),
        (Some(known), Order::AtLeast) => (&known[..] >= value).into(),
        (None, Order::Equal) if differs() => Holds::No,
        (None, Order::Unequal) if differs() => Holds::Yes,
        (None, _) => Holds::Maybe,
    }
}
