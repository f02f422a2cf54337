//! Ports of this host, and which of several names for one is the most exact.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::Protocol;

/// Ports of this host: `[ADDR:]PORT[-PORT]/proto`.
///
/// As keys of a policy they are nested or disjoint where address and protocol are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPorts {
    /// The address of this host; `None` for every address of both families. An unspecified address means every
    /// address of its family; a policy cannot write that.
    pub address: Option<IpAddr>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The first port of the range.
    pub first: u16,
    /// The last port of the range, at least `first`.
    pub last: u16,
}

impl HostPorts {
    /// Creates the key of one port, at one address or at all.
    #[must_use]
    pub fn one(address: Option<IpAddr>, protocol: Protocol, port: u16) -> Self {
        Self {
            address,
            protocol,
            first: port,
            last: port,
        }
    }

    /// Returns whether a port number is in the range; the address is not compared.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Returns whether all of the other ports are among these. A key without an address covers every address;
    /// an address covers only itself.
    #[must_use]
    pub fn covers(&self, others: &Self) -> bool {
        self.protocol == others.protocol
            && self.first <= others.first
            && others.last <= self.last
            && (self.address.is_none() || self.address == others.address)
    }

    /// Returns whether the ports have some in common, at some address.
    #[must_use]
    pub fn meets(&self, others: &Self) -> bool {
        let same_address =
            self.address.is_none() || others.address.is_none() || self.address == others.address;
        self.protocol == others.protocol
            && self.first <= others.last
            && others.first <= self.last
            && same_address
    }

    /// Returns the key as a policy can write it: an unspecified address becomes no address.
    #[must_use]
    pub fn named(self) -> Self {
        Self {
            address: self.address.filter(|address| !address.is_unspecified()),
            ..self
        }
    }

    /// Returns the sort key of precision: keys with an address first, then the narrower range.
    fn exactness(&self) -> impl Ord + use<> {
        (Reverse(self.address.is_some()), self.last - self.first)
    }
}

/// Returns the most specific key that covers a port, which alone decides: one with its address before one
/// without, then the narrower range.
pub fn decisive<'a>(
    keys: impl IntoIterator<Item = &'a HostPorts>,
    port: &HostPorts,
) -> Option<&'a HostPorts> {
    let about = keys.into_iter().filter(|key| key.covers(port));
    about.min_by_key(|key| key.exactness())
}

/// The keys of a policy by port: of thousands of keys, few are compared with each of thousands of ports.
#[derive(Debug, Clone, Default)]
pub struct KeysByPort<'a> {
    /// Keys of one port.
    ports: BTreeMap<(Protocol, u16), Vec<&'a HostPorts>>,
    /// Keys of several ports.
    ranges: Vec<&'a HostPorts>,
}

impl<'a> KeysByPort<'a> {
    /// Returns the most specific key that covers a port, see [`decisive`].
    #[must_use]
    pub fn decisive(&self, port: &HostPorts) -> Option<&'a HostPorts> {
        // No key of one port covers several.
        let one = self.ports.get(&(port.protocol, port.first));
        let keys = one.into_iter().flatten().chain(&self.ranges);
        decisive(keys.copied(), port)
    }
}

impl<'a> FromIterator<&'a HostPorts> for KeysByPort<'a> {
    fn from_iter<T: IntoIterator<Item = &'a HostPorts>>(keys: T) -> Self {
        let mut all = Self::default();
        for key in keys {
            if key.first == key.last {
                let port = (key.protocol, key.first);
                all.ports.entry(port).or_default().push(key);
            } else {
                all.ranges.push(key);
            }
        }
        all
    }
}

/// Writes the protocol always, and an unspecified address as it is.
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
