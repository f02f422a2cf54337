//! Names of chains, sets and maps: readable, unique, and valid in nft's language.
//!
//! The set of a named source has one dot in its name, `office.v4`, since a source's name has none.
//! Sets of a port have two, `port-80-tcp.allow.v4`, or end as no source's does,
//! `port-80-tcp.interfaces`; those that ports share have two or end as no source's does either,
//! `shared.tcp.v4-24` and `shared.allowed`; maps and other sets have none unless an address is in
//! their name. So no source can be called as something else is.

use crate::net::{Family, HostPorts, Protocol};
use crate::ruleset::End;
use std::net::IpAddr;

/// Which part of the ruleset a chain or map serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// Published ports, judged by the connection's original destination.
    Published,
    /// Sockets of this host, judged by the packet's own destination.
    Host,
    /// Sockets of this host, reached by a container of this host.
    HostFromContainers,
    /// Containers at their own addresses, judged as sockets of this host are.
    Container,
}

impl Context {
    /// The chain that judges what a key says.
    pub(super) fn port_chain(self, key: &HostPorts) -> String {
        let port = port(key);
        match self {
            Self::Published => format!("port-{port}"),
            Self::Host | Self::Container => format!("host-{port}"),
            Self::HostFromContainers => format!("containers-{port}"),
        }
    }

    /// The chain that judges the ports that share sets.
    pub(super) fn shared_chain(self, protocol: Protocol) -> String {
        format!("{}-{}", self.prefix("shared"), name(protocol))
    }

    /// The chain for packets to one address of this host.
    pub(super) fn address_chain(self, address: IpAddr) -> String {
        format!("{}-{}", self.prefix("at"), identifier(address))
    }

    /// The map from ports to chains.
    pub(super) fn port_map(self, address: Option<IpAddr>, protocol: Protocol) -> String {
        let at = address.map_or_else(String::new, |a| format!("-at-{}", identifier(a)));
        format!("{}-ports{at}", self.prefix(name(protocol)))
    }

    /// The map from addresses of this host to chains.
    pub(super) fn address_map(self, v4: bool) -> String {
        format!("{}{}", self.prefix("addresses"), if v4 { "4" } else { "6" })
    }

    fn prefix(self, name: &str) -> String {
        match self {
            Self::Published => name.to_owned(),
            Self::Host => format!("host-{name}"),
            Self::HostFromContainers => format!("host-containers-{name}"),
            Self::Container => format!("container-{name}"),
        }
    }
}

/// The chain of packets to loopback addresses that come in from elsewhere, and where those end that ask for
/// a published port.
pub(super) const LOOPBACK: &str = "loopback";
pub(super) const FROM_WIRE: &str = "loopback-from-wire";

/// The map of the ports that are published on a loopback address.
pub(super) fn loopback_map(protocol: Protocol) -> String {
    format!("{LOOPBACK}-{}-ports", name(protocol))
}

/// The chain of packets at one end of which is a published UDP port, by that end.
pub(super) fn server_chain(server: End) -> &'static str {
    match server {
        End::Source => "from-udp-servers",
        End::Destination => "to-udp-servers",
    }
}

/// What the names of chains begin with that judge the other end.
fn clients(server: End) -> &'static str {
    match server {
        End::Source => "to-clients",
        End::Destination => "from-clients",
    }
}

/// The map from the port and address of a container to the chain that judges the other end.
pub(super) fn server_map(server: End, family: Family) -> String {
    let family = match family {
        Family::V4 => '4',
        Family::V6 => '6',
    };
    format!("{}{family}", server_chain(server))
}

/// The chain that judges clients as a key does.
pub(super) fn client_chain(server: End, key: &HostPorts) -> String {
    format!("{}-{}", clients(server), port(key))
}

/// The chain that accepts those clients and leaves the rest to other keys.
pub(super) fn admitting_chain(server: End, key: &HostPorts) -> String {
    format!("{}-of-{}", clients(server), port(key))
}

/// The chain that judges clients of a container's port that is published more than once.
pub(super) fn clients_at_chain(server: End, (port, address): (u16, IpAddr)) -> String {
    format!("{}-at-{}-{port}", clients(server), identifier(address))
}

/// The chain for clients of ports that no policy names.
pub(super) fn unnamed_client_chain(server: End) -> String {
    format!("{}-unnamed", clients(server))
}

/// A key without slashes, colons and brackets: `80-tcp`, `8000-8010-tcp`,
/// `203.0.113.10-8082-tcp`.
pub(super) fn port(key: &HostPorts) -> String {
    let address = key
        .address
        .map_or_else(String::new, |a| format!("{}-", identifier(a)));
    let ports = if key.first == key.last {
        key.first.to_string()
    } else {
        format!("{}-{}", key.first, key.last)
    };
    format!("{address}{ports}-{}", name(key.protocol))
}

/// The port that a chain judges, as a policy writes it; `None` for any other chain.
#[must_use]
pub fn port_of_chain(chain: &str) -> Option<String> {
    let key = ["port-", "host-", "containers-"]
        .iter()
        .find_map(|p| chain.strip_prefix(p))?;
    let (ports, protocol) = key.rsplit_once('-')?;
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return None;
    }
    // An address is what has a dot or an underscore in it.
    let (address, ports) = match ports.split_once('-') {
        Some((address, ports)) if address.contains(['.', '_']) => (Some(address), ports),
        _ => (None, ports),
    };
    if !ports.chars().all(|c| c.is_ascii_digit() || c == '-') {
        return None;
    }
    Some(match address {
        None => format!("{ports}/{protocol}"),
        Some(v4) if v4.contains('.') => format!("{v4}:{ports}/{protocol}"),
        Some(v6) => format!("[{}]:{ports}/{protocol}", v6.replace('_', ":")),
    })
}

/// The name of a protocol in nft's language.
pub(super) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// An address as part of a name; nft's identifiers have no colons.
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
        for (key, written) in [
            (key(None, 80, 80), "80/tcp"),
            (key(None, 8000, 8010), "8000-8010/tcp"),
            (key(Some("203.0.113.10"), 80, 81), "203.0.113.10:80-81/tcp"),
            (key(Some("2001:db8::1"), 80, 80), "[2001:db8::1]:80/tcp"),
        ] {
            for context in [
                Context::Published,
                Context::Host,
                Context::HostFromContainers,
            ] {
                assert_eq!(
                    port_of_chain(&context.port_chain(&key)).as_deref(),
                    Some(written)
                );
            }
        }
        for other in [
            "published",
            "direct",
            "host-at-203.0.113.10",
            "containers-addresses4",
            "to-clients-53-udp",
            "from-clients-of-53-udp",
            "loopback-from-wire",
        ] {
            assert_eq!(port_of_chain(other), None);
        }
    }
}
