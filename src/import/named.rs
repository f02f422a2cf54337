//! What rules name: addresses and ports of the host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::parse::Dump;
use super::published::{HostPort, Published, Way, protocol_of};
use super::rule::{Family, Kind, Rule, WIDE};
use super::walk::Base;
use crate::policy::Protocol;
use crate::policy::address::{AddressSet, Entry};

/// The single addresses in a set.
pub(super) fn singles(set: &AddressSet) -> impl Iterator<Item = IpAddr> + '_ {
    set.iter().filter_map(|entry| match entry {
        Entry::V4(first, last) if first == last => Some(IpAddr::V4(first.into())),
        Entry::V6(first, last) if first == last => Some(IpAddr::V6(first.into())),
        _ => None,
    })
}

/// The addresses of the host that rules tell apart from others.
pub(super) fn host_addresses<'a>(
    rules: impl Iterator<Item = (usize, &'a Rule)>,
) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for (_, rule) in rules {
        for found in &rule.matches {
            if let Kind::OriginalDestination(set) = &found.kind {
                addresses.extend(singles(set));
            }
        }
    }
    addresses
}

/// Ports of the host that rules name by conntrack's original destination although no rule of an
/// engine publishes them: their containers may not run at the moment.
pub(super) fn add_named(dump: &Dump, published: &mut Published) {
    for family in Family::BOTH {
        let Some(base) = Base::of(dump, family) else {
            continue;
        };
        for number in base.reachable() {
            let Some(rule) = dump.rules.get(number) else {
                continue;
            };
            let protocol = rule.matches.iter().find_map(|found| match &found.kind {
                Kind::Protocol(name) => Some(protocol_of(name)),
                _ => None,
            });
            let Some(protocol) = protocol.unwrap_or(Some(Protocol::Tcp)) else {
                continue;
            };
            for found in &rule.matches {
                let Kind::OriginalPorts(ranges) = &found.kind else {
                    continue;
                };
                let narrow = ranges.iter().filter(|(first, last)| last - first < WIDE);
                for port in narrow.flat_map(|(first, last)| *first..=*last) {
                    add(published, family, protocol, port, number);
                }
            }
        }
    }
}

fn add(published: &mut Published, family: Family, protocol: Protocol, number: u16, rule: usize) {
    let port = HostPort {
        address: None,
        protocol,
        number,
    };
    let elsewhere = published
        .keys()
        .any(|known| known.protocol == protocol && known.number == number);
    if number != 0 && !elsewhere {
        let way = Way {
            container: None,
            port: None,
            bridge: None,
            rule,
        };
        published.insert(port, [(family, way)].into());
    }
}
