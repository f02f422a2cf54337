//! Packets accepted and denied by the rules in force.

use std::collections::BTreeMap;

use crate::compile::{SHARED_ALLOWED, SHARED_DENIED, allows, port_key, port_of_chain};
use crate::net::HostPorts;
use crate::plan::Installed;
use crate::ruleset::Counter;

/// Packets that a port accepted and denied.
#[derive(Debug, Default, Clone, Copy)]
pub struct Packets {
    /// The packets that the policy allows.
    pub allowed: Counter,
    /// The packets that are denied.
    pub denied: Counter,
}

/// Returns the counters by port, ascending; ports that no policy names last, as `all others`.
#[must_use]
pub fn packets(installed: &Installed) -> Vec<(String, Packets)> {
    let mut ports: BTreeMap<HostPorts, Packets> = BTreeMap::new();
    let mut others = Packets::default();
    for (name, chain) in &installed.ruleset.chains {
        let packets = match port_of_chain(name) {
            Some((_, key)) => ports.entry(key).or_default(),
            None => &mut others,
        };
        let counters = installed.counters.get(name).map_or(&[][..], Vec::as_slice);
        for (rule, counter) in chain.rules.iter().zip(counters) {
            if let Some(counter) = counter {
                let sum = if allows(rule) {
                    &mut packets.allowed
                } else {
                    &mut packets.denied
                };
                sum.add(counter);
            }
        }
    }
    for (set, is_allowed) in [(SHARED_ALLOWED, true), (SHARED_DENIED, false)] {
        for ((protocol, number), counter) in installed.counted.get(set).into_iter().flatten() {
            let Some(key) = port_key(*protocol, *number) else {
                continue;
            };
            let packets = ports.entry(key).or_default();
            if is_allowed {
                packets.allowed.add(counter);
            } else {
                packets.denied.add(counter);
            }
        }
    }
    let mut named: Vec<_> = ports
        .into_iter()
        .map(|(key, packets)| (key.first, key.to_string(), packets))
        .collect();
    // Ordered by number, not by letters.
    named.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let named = named.into_iter().map(|(_, port, packets)| (port, packets));
    named.chain([("all others".to_owned(), others)]).collect()
}
