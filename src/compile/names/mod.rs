//! Names of chains, sets and maps: readable, unique, and valid in nft's language. They are only spelled here;
//! code that reads a ruleset parses names with this module.
//!
//! The set of a named source has one dot in its name, `office.ip4`, since a source's name has none. Sets of a
//! port have two, `port-80-tcp.allow.ip4` and `port-80-tcp.rate.ip4`, or a suffix that no source has,
//! `port-80-tcp.interfaces`; shared
//! sets have two or such a suffix, `shared.tcp.ip4-24` and `shared.allowed`; maps and other sets have none
//! unless an address is in their name. So no source's name collides.

mod limits;

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::net::{Family, HostPorts, Protocol};
use crate::ruleset::End;

pub use limits::{LimitChain, LimitSet, limit_of_chain};
pub(super) use limits::{excess_chain, limit_chain};

/// The base chain of packets that arrive.
pub(super) const PREROUTING: &str = "prerouting";
/// The chain of TCP connections that arrive.
pub(super) const OPENING: &str = "early";
/// The chain that leaves packets to the later chains.
pub(super) const EARLY_EXEMPT: &str = "early-exempt";
/// The base chain of forwarded packets.
pub const FORWARD: &str = "forward";
/// The base chain of packets to sockets of this host.
pub(super) const INPUT: &str = "input";
/// The base chain of packets sent by this host.
pub(super) const OUTPUT: &str = "output";
/// The chain of packets to published ports.
pub(super) const PUBLISHED: &str = "published";
/// The chain of packets of connections that went to a loopback address of this host.
pub(super) const PUBLISHED_LOOPBACK: &str = "published-loopback";
/// The chain of packets that are routed to a container's address.
pub(super) const TO_CONTAINER: &str = "to-container";
/// The chain of packets from containers.
pub(super) const EGRESS: &str = "egress";
/// The chain that exempts packets from containers and foreign interfaces.
pub(super) const EXEMPT: &str = "exempt";
/// The chain that marks accepted connections, which skip evaluation until the next change.
pub(super) const REMEMBER: &str = "remember";
/// The chain of packets from containers to sockets of this host.
pub(super) const HOST_FROM_CONTAINERS: &str = "host-from-containers";
/// The chain for engines' sockets at ports without a policy key; the same for ports of which a service of the
/// host has one family.
pub(super) const UNNAMED: &str = "unnamed";
const UNNAMED_V4: &str = "unnamed-ip4";
const UNNAMED_V6: &str = "unnamed-ip6";

/// The chain of packets to loopback addresses from the network, and the one that denies those to published
/// ports.
pub(super) const LOOPBACK: &str = "to-loopback";
pub(super) const FROM_WIRE: &str = "loopback-from-wire";
/// The chains of packets with a published UDP port as source and as destination; the prefix of chains that
/// evaluate the other end.
const FROM_SERVERS: &str = "from-udp-servers";
const TO_SERVERS: &str = "to-udp-servers";
const TO_CLIENTS: &str = "to-clients-";
const FROM_CLIENTS: &str = "from-clients-";

/// The set of bridges managed by a container engine.
pub const CONTAINERS: &str = "containers";
/// The set of bridges not managed by a container engine.
pub const FOREIGN: &str = "foreign";

/// The prefix of the names of shared sets.
pub(super) const SHARED: &str = "shared.";
/// The set that counts accepted packets, by port.
pub const SHARED_ALLOWED: &str = "shared.allowed";
/// The set that counts denied packets, by port.
pub const SHARED_DENIED: &str = "shared.denied";

/// What the names of chains of ports that share sets end with, before the protocol.
const SHARED_PORTS: &str = "shared";

/// The suffix of a port's set of interfaces.
const INTERFACES: &str = ".interfaces";
/// The suffixes of a port's own lists.
const ALLOW: &str = ".allow";
const EXCEPT: &str = ".except";
const GRANT: &str = ".grant";
/// The prefixes of a port's chains, by context. The first is also that of its sets.
const PORT: &str = "port-";
const HOST: &str = "host-";
const FROM_CONTAINERS: &str = "containers-";
const HOST_FROM: &str = "host-containers-";
const CONTAINER: &str = "container-";
const EARLY: &str = "early-";
/// The prefix of the chains that deny what a key excludes.
const EARLY_DENIED: &str = "early-denied-";

/// The part of the ruleset that a chain or map serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// TCP connections as they arrive, judged by the packet's own destination.
    Early,
    /// Published ports, judged by the connection's original destination.
    Published,
    /// Sockets of this host, judged by the packet's own destination.
    Host,
    /// Sockets of this host, reached by a container of this host.
    HostFromContainers,
    /// Containers at their own addresses, judged like sockets of this host.
    Container,
}

impl Context {
    /// Returns the chain of a policy key.
    pub(super) fn port_chain(self, key: &HostPorts) -> String {
        let prefix = match self {
            Self::Early => EARLY,
            Self::Published => PORT,
            Self::Host | Self::Container => HOST,
            Self::HostFromContainers => FROM_CONTAINERS,
        };
        [prefix, &port(key)].concat()
    }

    /// Returns the chain of ports that share sets.
    pub(super) fn shared_chain(self, protocol: Protocol) -> String {
        format!("{}{SHARED_PORTS}-{protocol}", self.before())
    }

    /// Returns the chain for packets to one address of this host.
    pub(super) fn address_chain(self, address: IpAddr) -> String {
        format!("{}-{}", self.prefix("at"), identifier(address))
    }

    /// Returns the map from ports to chains.
    pub(super) fn port_map(self, address: Option<IpAddr>, protocol: Protocol) -> String {
        let at = address.map_or_else(String::new, |a| format!("-at-{}", identifier(a)));
        format!("{}-ports{at}", self.prefix(protocol.name()))
    }

    /// Returns the map from addresses of this host to chains.
    pub(super) fn address_map(self, family: Family) -> String {
        let number = match family {
            Family::V4 => "4",
            Family::V6 => "6",
        };
        format!("{}{number}", self.prefix("addresses"))
    }

    /// Returns whether packets of a protocol come there.
    pub(super) fn has(self, protocol: Protocol) -> bool {
        self != Self::Early || protocol == Protocol::Tcp
    }

    fn prefix(self, name: &str) -> String {
        format!("{}{name}", self.before())
    }

    /// Returns what the names of chains that several keys have in common, and of maps, begin with.
    fn before(self) -> &'static str {
        match self {
            Self::Early => EARLY,
            Self::Published => "",
            Self::Host => HOST,
            Self::HostFromContainers => HOST_FROM,
            Self::Container => CONTAINER,
        }
    }
}

/// Returns a key without slashes, colons and brackets: `80-tcp`, `8000-8010-tcp`,
/// `203.0.113.10-8082-tcp`.
fn port(key: &HostPorts) -> String {
    // Every port has several names, and `format` takes five times as long.
    let mut name = String::new();
    if let Some(address) = key.address {
        name.push_str(&identifier(address));
        name.push('-');
    }
    name.push_str(&key.first.to_string());
    if key.first != key.last {
        name.push('-');
        name.push_str(&key.last.to_string());
    }
    name.push('-');
    name.push_str(key.protocol.name());
    name
}

/// Returns the key in what [`port`] makes of it.
fn key(name: &str) -> Option<HostPorts> {
    let (ports, protocol) = name.rsplit_once('-')?;
    // An address has a dot or an underscore.
    let (address, ports) = match ports.split_once('-') {
        Some((address, ports)) if address.contains(['.', '_']) => {
            (Some(address.replace('_', ":").parse().ok()?), ports)
        }
        _ => (None, ports),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let key = HostPorts {
        address,
        protocol: Protocol::by_name(protocol)?,
        first: first.parse().ok()?,
        last: last.parse().ok()?,
    };
    // Another program may have created a chain with a similar name.
    (port(&key) == name).then_some(key)
}

/// Returns the key of a chain, and its context; `None` for any other chain.
#[must_use]
pub fn port_of_chain(chain: &str) -> Option<(Context, HostPorts)> {
    let known = [
        (PORT, Context::Published),
        (HOST, Context::Host),
        (FROM_CONTAINERS, Context::HostFromContainers),
        (EARLY_DENIED, Context::Early),
        (EARLY, Context::Early),
    ];
    let mut found = known.iter().filter_map(|(prefix, context)| {
        let name = chain.strip_prefix(prefix)?;
        Some((*context, key(name)?))
    });
    found.next()
}

/// Returns the key that a chain judges, of packets to a port: the chain of one key, or one that keys share.
#[must_use]
pub fn key_of_step(chain: &str, port: u16) -> Option<HostPorts> {
    let shared = || {
        let (name, protocol) = chain.rsplit_once('-')?;
        let mut prefixes = [Context::Published, Context::Host, Context::Early].into_iter();
        let is_shared =
            prefixes.any(|context| name.strip_prefix(context.before()) == Some(SHARED_PORTS));
        let protocol = Protocol::by_name(protocol).filter(|_| is_shared)?;
        Some(HostPorts::one(None, protocol, port))
    };
    port_of_chain(chain).map(|(_, key)| key).or_else(shared)
}

/// Returns the chain that denies what a key excludes, as it arrives.
pub(super) fn early_denied_chain(key: &HostPorts) -> String {
    format!("{EARLY_DENIED}{}", port(key))
}

/// Returns the set of a port's interfaces, if there are several.
pub(super) fn interfaces_of(key: &HostPorts) -> String {
    format!("{PORT}{}{INTERFACES}", port(key))
}

/// Returns whether a set is one of the interfaces of a port.
pub(super) fn is_interfaces(set: &str) -> bool {
    set.ends_with(INTERFACES)
}

/// Returns the chain for engines' sockets at ports without a policy key, of one family if a service of the
/// host has the other.
pub(super) fn unnamed(family: Option<Family>) -> &'static str {
    match family {
        None => UNNAMED,
        Some(Family::V4) => UNNAMED_V4,
        Some(Family::V6) => UNNAMED_V6,
    }
}

/// Returns the chain of replies to requests of this host.
pub(super) fn own_chain(protocol: Protocol) -> String {
    format!("own-{protocol}")
}

/// Returns the map of ports that receive replies to requests of this host.
pub(super) fn own_map(protocol: Protocol) -> String {
    format!("own-{protocol}-ports")
}

/// Returns the map of the ports that are published on a loopback address.
pub(super) fn loopback_map(protocol: Protocol) -> String {
    format!("loopback-{protocol}-ports")
}

/// Returns the chain of packets with a published UDP port at one end, by that end.
pub(super) fn server_chain(server: End) -> &'static str {
    match server {
        End::Source => FROM_SERVERS,
        End::Destination => TO_SERVERS,
    }
}

/// Returns the map from a container's port and address to the chain that evaluates the other end.
pub(super) fn server_map(server: End, family: Family) -> String {
    let number = match family {
        Family::V4 => "4",
        Family::V6 => "6",
    };
    format!("{}{number}", server_chain(server))
}

fn clients(server: End) -> &'static str {
    match server {
        End::Source => TO_CLIENTS,
        End::Destination => FROM_CLIENTS,
    }
}

/// Returns the chain that judges clients as a key does.
pub(super) fn client_chain(server: End, key: &HostPorts) -> String {
    format!("{}{}", clients(server), port(key))
}

/// Returns the chain that accepts those clients and leaves the rest to other keys.
pub(super) fn admitting_chain(server: End, key: &HostPorts) -> String {
    format!("{}of-{}", clients(server), port(key))
}

/// Returns the chain that judges clients of a container's port that is published under several keys.
pub(super) fn clients_at_chain(server: End, (port, address): (u16, IpAddr)) -> String {
    format!("{}at-{}-{port}", clients(server), identifier(address))
}

/// Returns the chain for clients of ports that no policy names.
pub(super) fn unnamed_client_chain(server: End) -> String {
    format!("{}{UNNAMED}", clients(server))
}

/// The part of a list in a set. Short lists have one set for each family; long ones have a set of single
/// addresses and one of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Short(Family),
    Addresses(Family),
    Networks(Family),
}

impl Part {
    /// Returns whether the set holds all entries of a family.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Self::Short(_))
    }

    const ALL: [Self; 6] = [
        Self::Short(Family::V4),
        Self::Addresses(Family::V4),
        Self::Networks(Family::V4),
        Self::Short(Family::V6),
        Self::Addresses(Family::V6),
        Self::Networks(Family::V6),
    ];

    /// Returns the part with the list's addresses of a family.
    pub(super) fn family(self) -> Family {
        let (Self::Short(family) | Self::Addresses(family) | Self::Networks(family)) = self;
        family
    }

    fn name(self) -> &'static str {
        match self {
            Self::Short(Family::V4) => "ip4",
            Self::Addresses(Family::V4) => "addr4",
            Self::Networks(Family::V4) => "net4",
            Self::Short(Family::V6) => "ip6",
            Self::Addresses(Family::V6) => "addr6",
            Self::Networks(Family::V6) => "net6",
        }
    }
}

/// The list that a set belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// A named source.
    Source(String),
    /// Addresses written under `allow` of a key.
    Allow(HostPorts),
    /// Addresses written under `except` of a key.
    Except(HostPorts),
    /// Addresses that are granted access to a key for a time.
    Granted(HostPorts),
}

impl List {
    /// Returns the list of the set with this name; `None` for any other set.
    #[must_use]
    pub fn of_set(set: &str) -> Option<Self> {
        let (name, part) = set.rsplit_once('.')?;
        if !Part::ALL.iter().any(|known| known.name() == part) {
            return None;
        }
        let of_key = |end: &str| key(name.strip_prefix(PORT)?.strip_suffix(end)?);
        let allow = || of_key(ALLOW).map(Self::Allow);
        let except = || of_key(EXCEPT).map(Self::Except);
        let granted = || of_key(GRANT).map(Self::Granted);
        if LimitSet::named(set).is_some() {
            return None;
        }
        let of_key = allow().or_else(except).or_else(granted);
        Some(of_key.unwrap_or_else(|| Self::Source(name.to_owned())))
    }

    /// Returns the name of the set of a part.
    pub(super) fn set(&self, part: Part) -> String {
        let part = part.name();
        let of_key = |key, end| [PORT, &port(key), end, ".", part].concat();
        match self {
            Self::Source(name) => [name, ".", part].concat(),
            Self::Allow(key) => of_key(key, ALLOW),
            Self::Except(key) => of_key(key, EXCEPT),
            Self::Granted(key) => of_key(key, GRANT),
        }
    }

    /// Returns the names of all possible sets of the list.
    pub fn sets(&self) -> impl Iterator<Item = String> + use<'_> {
        Part::ALL.into_iter().map(|part| self.set(part))
    }
}

/// A shared set; the longest prefixes sort first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedSet {
    /// The protocol of the ports.
    pub protocol: Protocol,
    /// The family of the networks.
    pub family: Family,
    /// The length of their prefixes.
    pub length: u8,
}

impl Ord for SharedSet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |set: &Self| (set.protocol, set.family, Reverse(set.length));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for SharedSet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl SharedSet {
    /// Returns the set's name: `shared.tcp.ip4-24`.
    #[must_use]
    pub fn name(self) -> String {
        let family = Part::Short(self.family).name();
        format!("{SHARED}{}.{family}-{}", self.protocol, self.length)
    }

    /// Returns the set of this name; `None` for any other set.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (protocol, rest) = name.strip_prefix(SHARED)?.split_once('.')?;
        let (family, length) = rest.split_once('-')?;
        let mut families = Family::ALL.into_iter();
        // As `name` writes it. It is not compared with that: there is a call for each port and set.
        let is_decimal = length == "0" || !length.starts_with(['0', '+']);
        Some(Self {
            protocol: Protocol::by_name(protocol)?,
            family: families.find(|known| Part::Short(*known).name() == family)?,
            length: length.parse().ok().filter(|_| is_decimal)?,
        })
    }
}

/// Returns an address as part of a name; nft's identifiers have no colons.
fn identifier(address: IpAddr) -> String {
    address.to_string().replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_tells_its_port() {
        let key = |address: Option<&str>, first, last| HostPorts {
            address: address.map(|a| a.parse().unwrap()),
            protocol: Protocol::Tcp,
            first,
            last,
        };
        for key in [
            key(None, 80, 80),
            key(None, 8000, 8010),
            key(Some("203.0.113.10"), 80, 81),
            key(Some("2001:db8::1"), 80, 80),
            key(Some("::1"), 80, 80),
        ] {
            for context in [
                Context::Published,
                Context::Host,
                Context::HostFromContainers,
                Context::Early,
            ] {
                let chain = context.port_chain(&key);
                assert_eq!(port_of_chain(&chain), Some((context, key)), "{chain}");
            }
            for list in [List::Allow(key), List::Except(key), List::Granted(key)] {
                for set in list.sets() {
                    assert_eq!(List::of_set(&set), Some(list.clone()), "{set}");
                }
            }
        }
        for other in [
            PUBLISHED,
            TO_CONTAINER,
            "host-at-203.0.113.10",
            "containers-addresses4",
            "to-clients-53-udp",
            "from-clients-of-53-udp",
            "loopback-from-wire",
            EARLY_EXEMPT,
            "early-tcp-ports",
            "early-at-203.0.113.10",
            "port-080-tcp",
            "port-80-80-tcp",
            "port-80-icmp",
            "port-1-2-3-tcp",
            "port-99999-tcp",
        ] {
            assert_eq!(port_of_chain(other), None, "{other}");
        }
    }

    #[test]
    fn a_source_is_called_as_nothing_else_is() {
        let source = |name: &str| Some(List::Source(name.to_owned()));
        assert_eq!(List::of_set("office.ip4"), source("office"));
        assert_eq!(List::of_set("port-80-tcp.ip4"), source("port-80-tcp"));
        for other in [CONTAINERS, "tcp-ports", SHARED_ALLOWED, "shared.tcp.ip4-24"] {
            assert_eq!(List::of_set(other), None, "{other}");
        }
    }

    #[test]
    fn a_shared_set_is_known_by_its_name_only() {
        for family in Family::ALL {
            let set = SharedSet {
                protocol: Protocol::Udp,
                family,
                length: 24,
            };
            assert_eq!(SharedSet::named(&set.name()), Some(set));
        }
        for other in [
            "shared.ip4",
            "shared.tcp.ip4-024",
            "tcp-ports",
            "shared.tcp.ip4",
        ] {
            assert_eq!(SharedSet::named(other), None, "{other}");
        }
    }
}
