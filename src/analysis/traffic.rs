//! Packets accepted and denied by the rules in force.

use std::collections::BTreeMap;

use crate::compile::{
    LimitChain, LimitSet, SHARED_ALLOWED, SHARED_DENIED, allows, limit_of_chain, port_key,
    port_of_chain,
};
use crate::net::{Family, HostPorts};
use crate::plan::Installed;
use crate::ruleset::{ADDED, Counter, Expression, PerSource};

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
        let packets = match (port_of_chain(name), limit_of_chain(name)) {
            (Some((_, key)), _) | (_, Some((LimitChain::Excess, key))) => {
                ports.entry(key).or_default()
            }
            // The chain of the port counts those packets.
            (_, Some((LimitChain::New | LimitChain::Limit, _))) => continue,
            (None, None) => &mut others,
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

/// The sources that a limit of a port holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The port as the policy writes it.
    pub port: String,
    /// The limit: `rate` or `connections`.
    pub limit: &'static str,
    /// The family of the sources.
    pub family: Family,
    /// The number of sources; `None` if it was not read.
    pub sources: Option<u32>,
    /// The most sources that it can hold. While it holds as many, other sources have no limit.
    pub room: u32,
    /// First packets of sources that found no place, and had no limit.
    pub unlimited: Counter,
}

impl Held {
    /// Returns whether there is no place for another source.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sources.is_some_and(|sources| sources >= self.room)
    }
}

/// Returns the sources that limits hold, by port.
#[must_use]
pub fn held(installed: &Installed) -> Vec<Held> {
    let mut unlimited: BTreeMap<&str, Counter> = BTreeMap::new();
    for (name, chain) in &installed.ruleset.chains {
        let counters = installed.counters.get(name).map_or(&[][..], Vec::as_slice);
        for (rule, counter) in chain.rules.iter().zip(counters) {
            if let (Some(Expression::PerSource(PerSource::Absent { set, .. })), Some(counter)) =
                (rule.expressions.first(), counter)
            {
                unlimited.entry(set).or_default().add(counter);
            }
        }
    }
    let mut held: Vec<_> = installed
        .facts
        .sets
        .iter()
        .filter_map(|(name, facts)| {
            let LimitSet { key, limit, family } = LimitSet::named(name)?;
            let held = Held {
                port: key.to_string(),
                limit,
                family,
                sources: facts.added,
                room: facts.size.unwrap_or(ADDED),
                unlimited: unlimited.get(name.as_str()).copied().unwrap_or_default(),
            };
            Some((key.first, held))
        })
        .collect();
    // Ordered by number, not by letters; those of a port stay in order.
    held.sort_by_key(|(first, _)| *first);
    held.into_iter().map(|(_, held)| held).collect()
}
