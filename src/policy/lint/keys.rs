//! Keys of `ports:` that never decide, those that open a database, and those that `grants` needs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::{HostPorts, Ports, Protocol};
use crate::policy::grants;
use crate::policy::port::{self, PortPolicy};
use crate::text::diagnostic::Diagnostic;

use super::database;

/// Returns the narrower keys inside another one of the same address and protocol.
fn narrower<'a>(
    ports: &'a port::Draft,
    key: &HostPorts,
) -> impl Iterator<Item = (&'a HostPorts, &'a PortPolicy)> {
    let key = *key;
    // In the order of keys the address and the protocol come first.
    let from = HostPorts {
        last: key.first,
        ..key
    };
    let inside = ports.ports.range(from..).take_while(move |(other, _)| {
        (other.address, other.protocol) == (key.address, key.protocol) && other.first <= key.last
    });
    inside.filter(move |(other, _)| **other != key && other.last <= key.last)
}

/// Returns a warning about each range whose ports narrower keys decide, all of them.
pub(super) fn unreachable(ports: &port::Draft) -> Vec<Diagnostic> {
    let ranges = ports.ports.iter().filter(|(key, _)| key.first < key.last);
    let covered = ranges.filter_map(|(key, policy)| {
        let inner = || narrower(ports, key);
        let all: Ports = [(key.first, key.last)].into_iter().collect();
        let decided: Ports = inner().map(|(key, _)| (key.first, key.last)).collect();
        if !all.without(&decided).is_empty() {
            return None;
        }
        let (first, first_policy) = inner().next()?;
        let message = format!("port {key} never decides: narrower keys have all of its ports");
        let warning = Diagnostic::warning("unreachable-key", message)
            .at(policy.origin.clone(), "decides nothing")
            .related(first_policy.origin.clone(), format!("decides {first}"))
            .help("remove it: the narrowest key alone decides about a port");
        Some(warning)
    });
    covered.collect()
}

/// A range of more ports than this is meant to be open whatever is there.
const WIDEST: u16 = 100;

/// Returns a warning about each key that opens the port of a database to everybody.
pub(super) fn open_databases(ports: &port::Draft) -> Vec<Diagnostic> {
    let mut report = Vec::new();
    let open = ports
        .ports
        .iter()
        .filter(|(key, policy)| policy.is_open() && key.last - key.first < WIDEST);
    for (key, policy) in open {
        let mut open = database::all().filter(|database| {
            key.protocol == database.protocol
                && key.has(database.port)
                && !narrower(ports, key).any(|(other, _)| other.has(database.port))
        });
        let Some(database) = open.next() else {
            continue;
        };
        let port = HostPorts::one(None, database.protocol, database.port);
        let message = format!("port {port} is open to everybody: {}", database.name);
        let warning = Diagnostic::warning("open-database", message)
            .at(policy.origin.clone(), "open to everybody")
            .note(database.reason)
            .help(format!(
                "list its clients, as in `{port}: [203.0.113.0/24]`; if everybody is meant, write \
                 `[0.0.0.0/0, \"::/0\"]` in place of `any`",
            ));
        report.push(match open.count() {
            0 => warning,
            more => warning
                .note(format!("the range has {more} more ports of databases"))
                .and_more(more),
        });
    }
    report
}

/// How many ports of `grants` are looked at.
const LOOKED_AT: usize = 1000;

/// Returns a warning about each item of the `ports` of `grants` that has ports without a key.
///
/// For an item without an address, a key of any address is enough: a grant can name that address.
pub(super) fn missing_for_grants(ports: &port::Draft, grants: &grants::Draft) -> Vec<Diagnostic> {
    let bounds = grants.ports.iter().take(LOOKED_AT);
    let missing = bounds.filter_map(|(bound, span)| {
        let keys = ports.ports.keys().filter(|key| {
            let addresses = [key.address, bound.address];
            key.protocol == bound.protocol
                && (addresses.contains(&None) || key.address == bound.address)
                && (key.first <= bound.last && bound.first <= key.last)
        });
        let keys: Ports = keys.map(|key| (key.first, key.last)).collect();
        let all: Ports = [(bound.first, bound.last)].into_iter().collect();
        let &(first, last) = all.without(&keys).ranges().first()?;
        let missing = HostPorts { first, last, ..*bound };
        let key = match missing.address {
            Some(IpAddr::V6(_)) => format!("\"{missing}\""),
            _ => missing.to_string(),
        };
        let message = format!("`grants` lists {missing}, and `ports` has no key for it");
        let warning = Diagnostic::warning("grant-without-key", message)
            .at(span.clone(), "no key")
            .help(format!(
                "a grant adds a source to a key: write `{key}: []` below `ports:`, which allows nobody else, or \
                 leave the port out of `grants`"
            ));
        Some(warning)
    });
    missing.collect()
}

/// Returns whether keys without an address have every port of every protocol.
pub(super) fn have_all_ports(ports: &port::Draft) -> bool {
    let mut of: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
    for key in ports.ports.keys().filter(|key| key.address.is_none()) {
        of.entry(key.protocol)
            .or_default()
            .push((key.first, key.last));
    }
    Protocol::ALL.into_iter().all(|protocol| {
        let ranges = of.remove(&protocol).unwrap_or_default();
        let ports: Ports = ranges.into_iter().collect();
        ports.ranges() == [(1, u16::MAX)]
    })
}
