//! The networks of the host's interfaces.
//!
//! A policy may allow them as sources, and a DHCP server or router, perhaps untrusted, may assign the
//! address. So a network counts only if it can be that of one link.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{AddressSet, Entry};
use crate::netlink::rtnetlink::{Address, Link};

/// The shortest prefix that an IPv4 network may have: that of `10.0.0.0/8`, the widest private one.
const SHORTEST_V4: u32 = 8;
/// The shortest prefix that an IPv6 network may have; a provider's own is rarely shorter than /29.
const SHORTEST_V6: u32 = 16;

/// The loopback and link-local networks, which belong to no link or to every link. Sources: RFC 1122 section
/// 3.2.1.3, RFC 3927, RFC 4291 sections 2.5.3 and 2.5.6.
const LOCAL: [Entry; 4] = [
    v4_network(Ipv4Addr::new(127, 0, 0, 0), 8),
    v4_network(Ipv4Addr::new(169, 254, 0, 0), 16),
    v6_network(Ipv6Addr::LOCALHOST, 128),
    v6_network(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Returns the networks on the addresses of each link by its name; an empty set for a link without any.
pub(super) fn by_interface(links: &[Link], addresses: &[Address]) -> BTreeMap<String, AddressSet> {
    let local = AddressSet::from_entries(LOCAL);
    let mut by_link: HashMap<u32, Vec<Entry>> = HashMap::new();
    for address in addresses {
        if let Some(network) = network(address, &local) {
            by_link.entry(address.link).or_default().push(network);
        }
    }
    let of = |link: &Link| by_link.get(&link.index).into_iter().flatten().copied();
    links
        .iter()
        .map(|link| (link.name.clone(), of(link).collect()))
        .collect()
}

/// Returns the network on an address; `None` if it is too wide, or has an address in common with `local`.
fn network(address: &Address, local: &AddressSet) -> Option<Entry> {
    let (within, length) = address.network;
    let length = u32::from(length);
    let network = match within {
        IpAddr::V4(v4) if length >= SHORTEST_V4 => v4_network(v4, length),
        IpAddr::V6(v6) if length >= SHORTEST_V6 => v6_network(v6, length),
        _ => return None,
    };
    let is_local = AddressSet::from_entries([network]).intersects(local);
    (!is_local).then_some(network)
}

/// Returns the network of `length` bits that an address is in.
const fn v4_network(within: Ipv4Addr, length: u32) -> Entry {
    let host = match u32::MAX.checked_shr(length) {
        Some(host) => host,
        None => 0,
    };
    Entry::V4(within.to_bits() & !host, within.to_bits() | host)
}

/// Returns the network of `length` bits that an address is in.
const fn v6_network(within: Ipv6Addr, length: u32) -> Entry {
    let host = match u128::MAX.checked_shr(length) {
        Some(host) => host,
        None => 0,
    };
    Entry::V6(within.to_bits() & !host, within.to_bits() | host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: None,
            controller: None,
            xdp: false,
        }
    }

    fn on(link: u32, address: &str, within: &str, length: u8) -> Address {
        Address {
            link,
            address: address.parse().unwrap(),
            network: (within.parse().unwrap(), length),
        }
    }

    fn own(link: u32, address: &str, length: u8) -> Address {
        on(link, address, address, length)
    }

    fn texts(networks: &AddressSet) -> Vec<String> {
        networks.iter().map(|entry| entry.to_string()).collect()
    }

    #[test]
    fn networks_are_those_of_addresses_that_are_not_of_one_link() {
        let addresses = [
            own(1, "127.0.0.1", 8),
            own(1, "::1", 128),
            own(2, "203.0.113.130", 25),
            own(2, "203.0.113.5", 25),
            own(2, "2001:db8:1::10", 64),
            own(2, "fe80::10", 64),
            own(2, "169.254.7.7", 16),
            on(3, "10.9.0.1", "10.9.0.2", 32),
            // Its link went away meanwhile.
            own(9, "192.0.2.1", 24),
        ];
        let links = [
            link(1, "lo"),
            link(2, "eth0"),
            link(3, "wg0"),
            link(4, "eth1"),
        ];
        let networks = by_interface(&links, &addresses);
        let named: Vec<_> = networks
            .iter()
            .map(|(name, networks)| (name.as_str(), texts(networks)))
            .collect();
        let expected: [(&str, &[&str]); 4] = [
            ("eth0", &["203.0.113.0/24", "2001:db8:1::/64"]),
            ("eth1", &[]),
            ("lo", &[]),
            ("wg0", &["10.9.0.2"]),
        ];
        let expected = expected.map(|(name, networks)| {
            let networks = networks.iter().map(|network| (*network).to_owned());
            (name, networks.collect::<Vec<_>>())
        });
        assert_eq!(named, expected);
    }

    /// For any address of the host in it.
    #[test]
    fn a_network_that_is_wide_or_holds_local_addresses_is_none() {
        for (address, length, expected) in [
            ("fe00::1", 7, None),
            ("::2", 8, None),
            ("::2", 16, None),
            ("::2", 126, None),
            ("::4", 126, Some("::4/126")),
            ("fec0::1", 16, Some("fec0::/16")),
            ("fe80::1", 128, None),
            ("febf::1", 16, None),
            ("2001::1", 15, None),
            ("2001::1", 16, Some("2001::/16")),
            ("2001::1", 0, None),
            ("169.255.0.1", 8, None),
            ("169.255.0.1", 15, None),
            ("169.255.0.1", 16, Some("169.255.0.0/16")),
            ("169.254.255.255", 32, None),
            ("127.0.0.2", 32, None),
            ("126.0.0.1", 8, Some("126.0.0.0/8")),
            ("10.0.0.1", 0, None),
            ("10.0.0.1", 1, None),
            ("10.0.0.1", 7, None),
            ("10.0.0.1", 8, Some("10.0.0.0/8")),
        ] {
            let networks = by_interface(&[link(2, "eth0")], &[own(2, address, length)]);
            let texts = texts(&networks["eth0"]);
            assert_eq!(
                texts.first().map(String::as_str),
                expected,
                "{address}/{length}"
            );
        }
    }
}
