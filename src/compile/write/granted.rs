//! Permissions for a time: each key has a set of the sources that may reach it until an end.
//!
//! A grant to a part of a key's ports, or to one address of a key for every address, makes that part a key of its
//! own, which is otherwise the same. So whatever is done by keys also holds for grants.

use core::time::Duration;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::super::names::{List, Part};
use super::{Compiler, note};
use crate::host::grant::Grant;
use crate::net::{Entry, Family, HostPorts, decisive};
use crate::policy::Policy;
use crate::ruleset::{Address, Elements, Expression, Interval, Set, Tuple, Until};

/// The grants to each key, and nothing for the other keys.
pub(super) type Granted<'a> = BTreeMap<HostPorts, Vec<&'a Grant>>;

/// Returns the grants that a policy allows.
fn permitted<'a>(policy: &Policy, grants: &'a [Grant]) -> Vec<&'a Grant> {
    let bounds = policy.grants.as_ref();
    let permits = |grant: &&Grant| bounds.is_some_and(|bounds| bounds.permits(&grant.to));
    grants.iter().filter(permits).collect()
}

/// Returns a policy in which each key is either all of a grant's ports or none, and the grants to each.
pub(super) fn split<'p, 'g>(
    policy: &'p Policy,
    grants: &'g [Grant],
) -> (Cow<'p, Policy>, Granted<'g>) {
    let grants = permitted(policy, grants);
    let mut policy = Cow::Borrowed(policy);
    let targets: BTreeSet<HostPorts> = grants.iter().map(|grant| grant.to).collect();
    let parts: Vec<(HostPorts, HostPorts)> = targets
        .iter()
        .flat_map(|to| parts(to, &targets, &policy))
        .collect();
    for (part, key) in parts {
        if let Some(port) = policy.ports.get(&key).cloned() {
            policy.to_mut().ports.entry(part).or_insert(port);
        }
    }
    let mut by_target: BTreeMap<HostPorts, Vec<&Grant>> = BTreeMap::new();
    for grant in grants {
        by_target.entry(grant.to).or_default().push(grant);
    }
    let mut granted = Granted::new();
    for (to, grants) in by_target {
        for key in policy.ports.keys().filter(|key| to.covers(key)) {
            granted.entry(*key).or_default().extend(&grants);
        }
    }
    (policy, granted)
}

/// Returns the parts of keys that are to be keys of their own, because a target has only a part of the key's ports,
/// each with that key.
fn parts(
    to: &HostPorts,
    targets: &BTreeSet<HostPorts>,
    policy: &Policy,
) -> Vec<(HostPorts, HostPorts)> {
    let keys = policy.ports.keys().filter(|key| key.meets(to));
    let keys: Vec<&HostPorts> = keys.collect();
    if keys.iter().all(|key| to.covers(key)) {
        return Vec::new();
    }
    // The first ports of what is decided alike, and those behind it.
    let ends = keys
        .iter()
        .copied()
        .chain(targets.iter().filter(|other| other.meets(to)));
    let ends = ends.flat_map(|ports| [Some(ports.first), ports.last.checked_add(1)]);
    let mut ends: BTreeSet<u16> = ends
        .flatten()
        .filter(|first| *first > to.first && *first <= to.last)
        .collect();
    ends.insert(to.first);
    let mut addresses: BTreeSet<_> = keys.iter().map(|key| key.address).collect();
    addresses.insert(to.address);
    let mut parts = Vec::new();
    for address in addresses {
        // At an address that the target does not name, a key for every address is the same as elsewhere.
        let own = |key: &HostPorts| key.address == address || to.address == address;
        for first in &ends {
            let behind = ends.range(first + 1..).next();
            let part = HostPorts {
                address,
                protocol: to.protocol,
                first: *first,
                last: behind.map_or(to.last, |behind| behind - 1),
            };
            if let Some(key) = decisive(keys.iter().copied(), &part)
                && own(key)
                && to.covers(&part)
                && !to.covers(key)
            {
                parts.push((part, *key));
            }
        }
    }
    parts
}

impl Compiler<'_> {
    /// Returns matches for the sources that are granted access to a key, one for each family that has any; makes the
    /// sets.
    pub(super) fn granted(&mut self, key: &HostPorts, tuple: Tuple) -> Vec<Expression> {
        let grants = self.granted.get(key).map_or(&[][..], Vec::as_slice);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for grant in grants {
            match grant.from {
                Entry::V4(first, last) => v4.push((first, last, grant.end)),
                Entry::V6(first, last) => v6.push((first, last, grant.end)),
            }
        }
        let v4 = union(v4, |x| x.checked_add(1), |x| x - 1);
        let v6 = union(v6, |x| x.checked_add(1), |x| x - 1);
        let mut matches = Vec::new();
        for (family, elements) in [
            (Family::V4, Elements::Ipv4Until(v4)),
            (Family::V6, Elements::Ipv6Until(v6)),
        ] {
            if elements.is_empty() {
                continue;
            }
            let name = List::Granted(*key).set(Part::Short(family));
            let set = Set {
                elements,
                comment: Some(note(GRANTED)),
            };
            self.ruleset.sets.insert(name.clone(), set);
            matches.push(Expression::Address(Address::SourceIn {
                tuple,
                family,
                set: name,
            }));
        }
        matches
    }
}

/// The comment of the sets and of the rules that look them up.
pub(super) const GRANTED: &str = "granted for a time";

/// Returns disjoint ranges, ascending, each with the last end of those that hold it.
fn union<T: Copy + Ord>(
    mut ranges: Vec<(T, T, Duration)>,
    next: fn(T) -> Option<T>,
    previous: fn(T) -> T,
) -> Vec<Until<Interval<T>>> {
    ranges.sort_unstable();
    let mut points: Vec<T> = ranges
        .iter()
        .flat_map(|(first, last, _)| [Some(*first), next(*last)])
        .flatten()
        .collect();
    points.sort_unstable();
    points.dedup();
    let mut coming = ranges.into_iter().peekable();
    // Those that hold the current point, by their end, and behind which point they stop.
    let mut held: BTreeSet<(Duration, T)> = BTreeSet::new();
    let mut rows: Vec<Until<Interval<T>>> = Vec::new();
    let mut points = points.into_iter().peekable();
    while let Some(first) = points.next() {
        while let Some((_, last, end)) = coming.next_if(|(from, ..)| *from <= first) {
            held.insert((end, last));
        }
        // What has stopped is only in the way where it would be the last to end.
        while held.last().is_some_and(|(_, last)| *last < first) {
            held.pop_last();
        }
        let (Some((end, last)), behind) = (held.last(), points.peek()) else {
            continue;
        };
        let last = behind.map_or(*last, |behind| previous(*behind));
        match rows.last_mut() {
            Some(row) if row.end == *end && next(row.key.last) == Some(first) => {
                row.key.last = last;
            }
            _ => rows.push(Until::new(Interval::new(first, last), *end)),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::net::Protocol;
    use crate::policy;

    proptest! {
        #[test]
        fn each_address_ends_with_its_last_grant(
            grants in prop::collection::vec((0_u8..40, 0_u8..12, 1_u64..6), 0..12),
        ) {
            let ranges: Vec<(u8, u8, Duration)> = grants
                .iter()
                .map(|(first, more, end)| (first + 216, first.saturating_add(216 + more), Duration::from_secs(*end)))
                .map(|(first, last, end)| (first, last.max(first), end))
                .collect();
            let rows = union(ranges.clone(), |x| x.checked_add(1), |x| x - 1);
            for address in 0..=u8::MAX {
                let holds = |(first, last, _): &&(u8, u8, Duration)| (*first..=*last).contains(&address);
                let expected = ranges.iter().filter(holds).map(|(.., end)| *end).max();
                let mut found = rows.iter().filter(|row| {
                    (row.key.first..=row.key.last).contains(&address)
                });
                prop_assert_eq!(found.next().map(|row| row.end), expected);
                prop_assert_eq!(found.next(), None);
            }
            prop_assert!(rows.is_sorted());
        }
    }

    const POLICY: &str = "default: deny\n\
        grants: {max-time: 1h, ports: [1-65535, 1-65535/udp]}\n\
        ports:\n  10-40: []\n  20-29: []\n  25: []\n  '192.0.2.1:10-30': []\n  '192.0.2.1:15': []\n  50: []\n  15/udp: []\n";

    fn policy() -> Policy {
        policy::read_text("p.yaml", POLICY).unwrap()
    }

    /// Targets of grants, around the keys of the policy.
    fn targets() -> impl Strategy<Value = Vec<HostPorts>> {
        let address = prop_oneof![
            Just(None),
            Just(Some("192.0.2.1".parse::<IpAddr>().unwrap())),
            Just(Some("192.0.2.2".parse::<IpAddr>().unwrap())),
        ];
        let target = (address, prop::bool::weighted(0.2), 5_u16..60, 0_u16..30);
        let target = target.prop_map(|(address, udp, first, more)| HostPorts {
            address,
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            first,
            last: first + more,
        });
        prop::collection::vec(target, 0..6)
    }

    proptest! {
        #[test]
        fn a_grant_is_for_its_ports_and_no_others(targets in targets()) {
            let whole = policy();
            let grants: Vec<Grant> = targets
                .iter()
                .map(|to| Grant {
                    to: *to,
                    from: Entry::V4(1, 1),
                    end: Duration::from_secs(1),
                })
                .collect();
            let (parted, granted) = split(&whole, &grants);
            let addresses = [None, Some("192.0.2.1"), Some("192.0.2.2"), Some("192.0.2.3")];
            for address in addresses.map(|a| a.map(|a| a.parse::<IpAddr>().unwrap())) {
                for (protocol, port) in (1..=100).flat_map(|port| Protocol::ALL.map(|p| (p, port))) {
                    let port = HostPorts::one(address, protocol, port);
                    let before = decisive(whole.ports.keys(), &port);
                    let after = decisive(parted.ports.keys(), &port);
                    // The same policy decides as before.
                    prop_assert_eq!(
                        before.map(|key| &whole.ports[key]),
                        after.map(|key| &parted.ports[key])
                    );
                    let mut found: Vec<HostPorts> = after
                        .and_then(|key| granted.get(key))
                        .into_iter()
                        .flatten()
                        .map(|grant| grant.to)
                        .collect();
                    // At an address that nothing names, it is as at every other one.
                    let mut expected: Vec<HostPorts> = targets
                        .iter()
                        .copied()
                        .filter(|to| after.is_some() && to.covers(&port))
                        .collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected, "{}", port);
                }
            }
            // Keys stay nested or disjoint.
            for one in parted.ports.keys() {
                for other in parted.ports.keys().filter(|key| key.address == one.address) {
                    let nested = one.covers(other) || other.covers(one);
                    prop_assert!(nested || !one.meets(other), "{} and {}", one, other);
                }
            }
        }
    }

    #[test]
    fn nothing_is_granted_that_the_policy_does_not_allow() {
        let grant = |port| Grant {
            to: HostPorts::one(None, Protocol::Tcp, port),
            from: Entry::V4(1, 1),
            end: Duration::from_secs(1),
        };
        let mut policy = policy();
        assert_eq!(split(&policy, &[grant(50)]).1.len(), 1);
        policy.grants = None;
        assert_eq!(split(&policy, &[grant(50)]).1.len(), 0);
    }
}
