//! Ports of this host, and which of several names for one is the most exact.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use super::Protocol;

/// Ports of this host: `[ADDR:]PORT[-PORT]/proto`.
///
/// As keys of a policy they are nested or disjoint where address and protocol are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPorts {
    /// The address of this host; `None` is every address of both families, an unspecified one every
    /// address of its family, which a policy has no name for.
    pub address: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The first port.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
}

impl HostPorts {
    /// One port, at an address or at every one.
    #[must_use]
    pub fn one(address: Option<IpAddr>, protocol: Protocol, port: u16) -> Self {
        Self {
            address,
            protocol,
            first: port,
            last: port,
        }
    }

    /// Whether this port is one of them, whatever the address.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether all of the others are among them. Without an address they are at every one; an address
    /// is only itself.
    #[must_use]
    pub fn covers(&self, others: &Self) -> bool {
        self.protocol == others.protocol
            && self.first <= others.first
            && others.last <= self.last
            && (self.address.is_none() || self.address == others.address)
    }

    /// The ports as a policy names them, which has no name for every address of one family.
    #[must_use]
    pub fn named(self) -> Self {
        Self {
            address: self.address.filter(|address| !address.is_unspecified()),
            ..self
        }
    }

    /// How exact it is: with an address before without, then the narrower range. The least is the most
    /// exact.
    fn exactness(&self) -> impl Ord + use<> {
        (Reverse(self.address.is_some()), self.last - self.first)
    }
}

/// The most exact of the keys that cover a port: one with its address before one without, then the
/// narrower range. It alone decides.
pub fn decisive<'a>(
    keys: impl IntoIterator<Item = &'a HostPorts>,
    port: &HostPorts,
) -> Option<&'a HostPorts> {
    let about = keys.into_iter().filter(|key| key.covers(port));
    about.min_by_key(|key| key.exactness())
}

/// The protocol is always there; an address that stands for a whole family is written as it is.
impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => {}
            Some(IpAddr::V4(v4)) => write!(f, "{v4}:")?,
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:")?,
        }
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        write!(f, "/{}", self.protocol)
    }
}
