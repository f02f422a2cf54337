//! Shared sets, for many ports with short lists.
//!
//! A chain and a set for each port are the most readable form, and cheap for up to a hundred ports. But the
//! kernel finds sets by name in a linear list, and each chain and rule costs more than an address. So the
//! ports of a long policy share one hash for each length of prefix, keyed by port and network, and two more
//! that count accepted and denied packets of each port. A packet is looked up once for each length, whatever
//! the number of ports.
//!
//! Ports with other conditions than sources, with named sources, whose sets are shared anyway, or with grants keep
//! their own chains.

use crate::net::{Family, HostPorts, Protocol};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::names::{Context, EXEMPT, SHARED_ALLOWED, SHARED_DENIED, SharedSet};
use super::super::read::shared_sets;
use super::dispatch::tuple;
use super::early::early_denial;
use super::granted::Granted;
use super::port::SHORT;
use super::{Compiler, accept, drop, jump, note};
use crate::policy::{DenyWith, Policy, PortPolicy};
use crate::ruleset::{
    Address, Counting, Elements, Expression, L4Protocol, Port, Rule, Set, Statement,
};

/// The most ports with chains of their own that could share sets.
const FEW: usize = 64;
/// The most prefix lengths of one family, as each costs a lookup. Ports that need another keep their own
/// chains.
const LENGTHS: usize = 16;

/// The ports that share sets, and their sources.
#[derive(Debug, Default)]
pub(super) struct Shared<'a> {
    ports: BTreeMap<&'a HostPorts, Vec<Network>>,
}

/// A family, the length of a prefix, and the first address behind it.
type Network = (Family, u8, u128);

impl<'a> Shared<'a> {
    /// Selects the ports that share sets.
    pub(super) fn of(policy: &'a Policy, granted: &Granted<'_>) -> Self {
        let ports = policy.ports.iter();
        let ports = ports.filter(|(key, _)| !granted.contains_key(key));
        let mut ports: BTreeMap<_, _> = ports
            .filter_map(|(key, port)| Some((key, plain(key, port)?)))
            .collect();
        let mut used: BTreeMap<(Family, u8), usize> = BTreeMap::new();
        for networks in ports.values() {
            let mut lengths: Vec<_> = networks.iter().map(|(f, l, _)| (*f, *l)).collect();
            lengths.sort_unstable();
            lengths.dedup();
            for length in lengths {
                *used.entry(length).or_default() += 1;
            }
        }
        let mut rare = BTreeSet::new();
        for family in [Family::V4, Family::V6] {
            let mut lengths: Vec<_> = used.iter().filter(|((f, _), _)| *f == family).collect();
            lengths.sort_by_key(|((_, length), count)| Reverse((**count, *length)));
            rare.extend(lengths.into_iter().skip(LENGTHS).map(|(length, _)| *length));
        }
        ports.retain(|_, networks: &mut Vec<Network>| {
            networks
                .iter()
                .all(|(f, length, _)| !rare.contains(&(*f, *length)))
        });
        if ports.len() <= FEW {
            ports.clear();
        }
        Self { ports }
    }

    pub(super) fn contains(&self, key: &HostPorts) -> bool {
        self.ports.contains_key(key)
    }
}

/// Returns the allowed networks of a port without other conditions.
fn plain(key: &HostPorts, port: &PortPolicy) -> Option<Vec<Network>> {
    let PortPolicy {
        allow,
        except,
        interfaces,
        log,
        deny_with,
        limits,
        origin: _,
    } = port;
    let nobody =
        !except.any && !except.containers && except.named.is_empty() && except.inline.is_empty();
    let inline = &allow.inline;
    let all = key.address.is_none()
        && key.first == key.last
        && !allow.any
        && allow.named.is_empty()
        && inline.v4().len().max(inline.v6().len()) <= SHORT
        && nobody
        && interfaces.is_empty()
        && !log
        && *deny_with == DenyWith::Drop
        && limits.is_empty();
    if !all {
        return None;
    }
    let v4 = inline
        .v4()
        .iter()
        .flat_map(|(first, last)| networks(Family::V4, u128::from(first), u128::from(last)));
    let v6 = inline.v6().iter();
    let v6 = v6.flat_map(|(first, last)| networks(Family::V6, first, last));
    let networks: Vec<_> = v4.chain(v6).collect();
    // A range can be many networks, and `any` needs no lookup.
    let few = networks.len() <= 2 * SHORT;
    (few && networks.iter().all(|(_, length, _)| *length > 0)).then_some(networks)
}

/// Returns the fewest networks that make a range, ascending.
fn networks(family: Family, mut first: u128, last: u128) -> Vec<Network> {
    let bits = u32::from(family.bits());
    let mut networks = Vec::new();
    loop {
        // As large as the alignment of its first address and the rest of the range allow.
        let rest = (last - first)
            .checked_add(1)
            .map_or(u128::BITS, u128::ilog2);
        let host = first.trailing_zeros().min(bits).min(rest);
        let length = u8::try_from(bits - host).unwrap_or_default();
        networks.push((family, length, first));
        let size = 1_u128.checked_shl(host);
        match size.and_then(|size| first.checked_add(size)) {
            Some(next) if next <= last => first = next,
            _ => return networks,
        }
    }
}

impl Compiler<'_> {
    /// Adds the chains of ports that share sets.
    pub(super) fn shared_chains(&mut self, context: Context) {
        let mut sets: Vec<SharedSet> = shared_sets(&self.ruleset).map(|(set, _)| set).collect();
        sets.sort_unstable();
        for protocol in Protocol::ALL {
            let sets: Vec<_> = sets.iter().filter(|set| set.protocol == protocol).collect();
            let any = self.shared.ports.keys().any(|key| key.protocol == protocol);
            if !any || !context.has(protocol) {
                continue;
            }
            let early = context == Context::Early;
            let (tuple, l4) = (tuple(context), L4Protocol::from(protocol));
            let counted = |set: &str| {
                Expression::Port(Port::In {
                    tuple,
                    set: set.to_owned(),
                })
            };
            let deny = [
                Expression::Port(Port::Protocol(l4)),
                counted(SHARED_DENIED),
                drop(),
            ];
            let mut rules = Vec::new();
            // The comment of the element is the policy line, like that of a port's own rule.
            if context == Context::Host {
                let loopback = [Expression::Address(Address::ToLoopback(tuple))];
                rules.push(Rule::new([&loopback[..], &deny[..]].concat(), None));
            }
            if let Some(matches) = self.no_reverse_path(context).filter(|_| !early) {
                if context == Context::Published {
                    rules.push(Rule::new(vec![jump(EXEMPT)], None));
                }
                rules.push(Rule::new([&matches[..], &deny[..]].concat(), None));
            }
            for set in sets {
                let source = Expression::Port(Port::SourceIn {
                    tuple,
                    protocol: l4,
                    family: set.family,
                    length: set.length,
                    set: set.name(),
                });
                let allow = if early {
                    vec![source, accept()]
                } else {
                    vec![source, counted(SHARED_ALLOWED), self.allow(context)]
                };
                rules.push(Rule::new(allow, None));
            }
            if early {
                let counted = vec![Expression::Port(Port::Protocol(l4)), counted(SHARED_DENIED)];
                rules.extend(early_denial(counted, None));
                self.chain(&context.shared_chain(protocol), rules);
                continue;
            }
            if context == Context::Published {
                rules.push(Rule::new(vec![jump(EXEMPT)], None));
            }
            rules.push(Rule::new(deny.to_vec(), None));
            rules.push(Rule::new(
                vec![Expression::Statement(Statement::Counter), drop()],
                note("unreachable: every port has an element"),
            ));
            self.chain(&context.shared_chain(protocol), rules);
        }
    }

    /// Adds the shared sets of ports.
    pub(super) fn shared_sets(&mut self) {
        if self.shared.ports.is_empty() {
            return;
        }
        let mut sets: BTreeMap<SharedSet, Vec<(u16, u128)>> = BTreeMap::new();
        let mut counters = Vec::new();
        for (key, networks) in &self.shared.ports {
            for (family, length, first) in networks {
                let set = SharedSet {
                    protocol: key.protocol,
                    family: *family,
                    length: *length,
                };
                sets.entry(set).or_default().push((key.first, *first));
            }
            let origin = self.policy.ports.get(*key).map(|port| &port.origin);
            let comment = origin.map(|origin| self.comment(origin));
            counters.push(Counting {
                key: (L4Protocol::from(key.protocol), key.first),
                comment,
            });
        }
        // Keys are ordered by the protocol's place, elements by its number, which is the same.
        counters.sort_unstable();
        for (set, elements) in sets {
            let elements = match set.family {
                Family::V4 => {
                    let narrow = elements.into_iter();
                    let narrow = narrow.filter_map(|(p, a)| Some((p, u32::try_from(a).ok()?)));
                    Elements::PortIpv4(narrow.collect())
                }
                Family::V6 => Elements::PortIpv6(elements),
            };
            let comment = Some(note("sources of ports that share sets"));
            let set = (set.name(), Set { elements, comment });
            self.ruleset.sets.extend([set]);
        }
        for (name, what) in [(SHARED_ALLOWED, "allowed"), (SHARED_DENIED, "denied")] {
            let comment = Some(note(&format!("{what} packets of ports that share sets")));
            let elements = Elements::PortCounters(counters.clone());
            self.ruleset
                .sets
                .insert(name.to_owned(), Set { elements, comment });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_fewest_networks() {
        let v4 = |first, last| {
            let all = networks(Family::V4, first, last).into_iter();
            all.map(|(_, length, a)| (length, a)).collect::<Vec<_>>()
        };
        assert_eq!(v4(10, 10), [(32, 10)]);
        assert_eq!(v4(0, u128::from(u32::MAX)), [(0, 0)]);
        assert_eq!(v4(1, 6), [(32, 1), (31, 2), (31, 4), (32, 6)]);
        assert_eq!(
            v4(u128::from(u32::MAX), u128::from(u32::MAX)),
            [(32, u32::MAX.into())]
        );
        assert_eq!(networks(Family::V6, 0, u128::MAX), [(Family::V6, 0, 0)]);
        let upper = 1 << 127;
        assert_eq!(
            networks(Family::V6, upper, u128::MAX),
            [(Family::V6, 1, upper)]
        );
        assert_eq!(
            networks(Family::V6, u128::MAX - 2, u128::MAX),
            [
                (Family::V6, 128, u128::MAX - 2),
                (Family::V6, 127, u128::MAX - 1)
            ]
        );
    }
}
