//! Canonical sets of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;
use super::ranges::Ranges;
use super::unmerged::Unmerged;

/// A set of IPv4 and IPv6 addresses, kept as sorted, disjoint, non-adjacent inclusive ranges.
///
/// Two sets of the same addresses are equal, however they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// An inclusive range of addresses.
///
/// It is printed as the shortest text that means the same: an address, a network, or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// IPv4 addresses; the first is not above the last.
    V4(u32, u32),
    /// IPv6 addresses; the first is not above the last.
    V6(u128, u128),
}

impl AddressSet {
    pub(super) fn new(v4: Ranges<u32>, v6: Ranges<u128>) -> Self {
        Self { v4, v6 }
    }

    /// Returns the union of entries, which may overlap and come in any order.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut set = Unmerged::default();
        for entry in entries {
            set.push(entry);
        }
        set.merge()
    }

    /// Returns the IPv4 ranges.
    #[must_use]
    pub fn v4(&self) -> &Ranges<u32> {
        &self.v4
    }

    /// Returns the IPv6 ranges.
    #[must_use]
    pub fn v6(&self) -> &Ranges<u128> {
        &self.v6
    }

    /// Returns whether `address` is in the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.contains(v4.into()),
            IpAddr::V6(v6) => self.v6.contains(v6.into()),
        }
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Returns the number of ranges, of both families.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Returns the number of IPv4 addresses.
    #[must_use]
    pub fn count_v4(&self) -> u64 {
        let sizes = self.v4.iter().map(|(a, b)| u64::from(b - a) + 1);
        sizes.sum()
    }

    /// Returns the number of IPv6 addresses; `u128::MAX` if all 2^128 are in the set.
    #[must_use]
    pub fn count_v6(&self) -> u128 {
        let sizes = self.v6.iter().map(|(a, b)| (b - a).saturating_add(1));
        sizes.fold(0, u128::saturating_add)
    }

    /// Returns the ranges, IPv4 first, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let v4 = self.v4.iter().map(|(a, b)| Entry::V4(a, b));
        v4.chain(self.v6.iter().map(|(a, b)| Entry::V6(a, b)))
    }

    /// Returns the union with another set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_entries(self.iter().chain(other.iter()))
    }

    /// Returns the set of all addresses of a family.
    #[must_use]
    pub fn all(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(Ranges::all(), Ranges::default()),
            Family::V6 => Self::new(Ranges::default(), Ranges::all()),
        }
    }

    /// Returns the addresses of both families that are not in this set.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self::new(self.v4.complement(), self.v6.complement())
    }

    /// Returns the intersection with another set.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::new(
            self.v4.intersection(&other.v4),
            self.v6.intersection(&other.v6),
        )
    }

    /// Returns the addresses that are in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self::new(self.v4.difference(&other.v4), self.v6.difference(&other.v6))
    }

    /// Returns whether the sets have an address in common.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.v4.meet(&other.v4) || self.v6.meet(&other.v6)
    }
}

impl Entry {
    /// Returns the first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        match self {
            Self::V4(first, _) => IpAddr::V4(first.into()),
            Self::V6(first, _) => IpAddr::V6(first.into()),
        }
    }

    /// Returns whether all addresses of another entry are in this one.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(first, last), Self::V4(from, to)) => first <= from && to <= last,
            (Self::V6(first, last), Self::V6(from, to)) => first <= from && to <= last,
            _ => false,
        }
    }
}

impl From<IpAddr> for Entry {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.into(), v4.into()),
            IpAddr::V6(v6) => Self::V6(v6.into(), v6.into()),
        }
    }
}

impl FromIterator<Entry> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self::from_entries(entries)
    }
}

/// Returns the prefix length of the network that is exactly `first` to `last`; `bits` is the width of an
/// address.
fn prefix_length(first: u128, last: u128, bits: u32) -> Option<u32> {
    let host = first ^ last;
    let exact = host & host.wrapping_add(1) == 0 && first & host == 0;
    exact.then(|| bits - (u128::BITS - host.leading_zeros()))
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, bits): (IpAddr, IpAddr, _) = match *self {
            Self::V4(a, b) => (
                Ipv4Addr::from(a).into(),
                Ipv4Addr::from(b).into(),
                prefix_length(a.into(), b.into(), 32),
            ),
            Self::V6(a, b) => (
                Ipv6Addr::from(a).into(),
                Ipv6Addr::from(b).into(),
                prefix_length(a, b, 128),
            ),
        };
        match bits {
            _ if first == last => write!(f, "{first}"),
            Some(bits) => write!(f, "{first}/{bits}"),
            None => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Redundant;
    use super::*;
    use crate::policy::parse_entry;
    use proptest::prelude::*;

    fn set(entries: &[&str]) -> AddressSet {
        entries.iter().map(|e| parse_entry(e).unwrap()).collect()
    }

    fn texts(set: &AddressSet) -> Vec<String> {
        set.iter().map(|entry| entry.to_string()).collect()
    }

    #[test]
    fn overlapping_and_adjacent_ranges_are_joined() {
        let joined = set(&[
            "10.0.1.0/24",
            "2001:db8::1",
            "10.0.0.0/24",
            "2001:db8::2",
            "10.0.0.7",
            "192.0.2.9",
        ]);
        assert_eq!(
            texts(&joined),
            ["10.0.0.0/23", "192.0.2.9", "2001:db8::1-2001:db8::2"]
        );
        assert_eq!((joined.count_v4(), joined.count_v6()), (513, 2));
    }

    #[test]
    fn the_whole_space_and_its_ends_hold() {
        let all = set(&["0.0.0.0/0", "255.255.255.255", "::/0", "ffff::"]);
        assert_eq!(texts(&all), ["0.0.0.0/0", "::/0"]);
        assert_eq!(all.count_v4(), 1 << 32);
        assert_eq!(all.count_v6(), u128::MAX);
        assert!(all.contains("255.255.255.255".parse().unwrap()));
    }

    #[test]
    fn a_range_that_is_a_network_is_printed_as_one() {
        assert_eq!(texts(&set(&["10.0.0.0-10.0.0.255"])), ["10.0.0.0/24"]);
        assert_eq!(texts(&set(&["10.0.0.1-10.0.0.2"])), ["10.0.0.1-10.0.0.2"]);
        assert_eq!(texts(&set(&["10.0.0.2-10.0.0.3"])), ["10.0.0.2/31"]);
        assert_eq!(
            texts(&set(&["2001:db8::-2001:db8::ff"])),
            ["2001:db8::/120"]
        );
    }

    #[test]
    fn sets_meet_where_they_share_an_address() {
        let office = set(&["10.0.0.0/24", "2001:db8::/64"]);
        assert!(office.intersects(&set(&["10.0.0.255-10.0.1.0"])));
        assert!(office.intersects(&set(&["192.0.2.1", "2001:db8::5"])));
        assert!(!office.intersects(&set(&["10.0.1.0", "9.255.255.255"])));
        assert!(!office.intersects(&AddressSet::default()));
    }

    /// Ranges in a small space, so that they often overlap and touch; at its upper end too.
    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (0..64u32, 0..8u32, any::<bool>()).prop_map(|(first, more, v4)| {
            let last = (first + more).min(63);
            if v4 {
                Entry::V4(u32::MAX - 63 + first, u32::MAX - 63 + last)
            } else {
                Entry::V6(first.into(), last.into())
            }
        });
        proptest::collection::vec(entry, 0..20)
    }

    /// How many entries lie inside one other, of equal ones all but one.
    fn nested(entries: &[Entry]) -> usize {
        let ends = |entry: &Entry| match *entry {
            Entry::V4(a, b) => (true, a.into(), u128::from(b)),
            Entry::V6(a, b) => (false, a, b),
        };
        let inside = |inner: &(bool, u128, u128), outer: &(bool, u128, u128)| {
            inner.0 == outer.0 && outer.1 <= inner.1 && inner.2 <= outer.2
        };
        let ends: Vec<_> = entries.iter().map(ends).collect();
        let is_inside = |(n, inner): &(usize, &(bool, u128, u128))| {
            let mut others = ends.iter().enumerate();
            others.any(|(m, outer)| m != *n && inside(inner, outer) && (outer != *inner || m < *n))
        };
        ends.iter().enumerate().filter(is_inside).count()
    }

    fn naive(entries: &[Entry], address: IpAddr) -> bool {
        entries.iter().any(|entry| match (*entry, address) {
            (Entry::V4(a, b), IpAddr::V4(x)) => (a..=b).contains(&u32::from(x)),
            (Entry::V6(a, b), IpAddr::V6(x)) => (a..=b).contains(&u128::from(x)),
            _ => false,
        })
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            (given, shuffled) in entries().prop_flat_map(|e| {
                let twice = [e.clone(), e.clone()].concat();
                (Just(e), Just(twice).prop_shuffle())
            }),
        ) {
            prop_assert_eq!(AddressSet::from_entries(given), AddressSet::from_entries(shuffled));
        }

        #[test]
        fn the_set_has_what_its_entries_have(given in entries()) {
            let set = AddressSet::from_entries(given.clone());
            for n in 0..64u32 {
                let v4 = IpAddr::V4((u32::MAX - 63 + n).into());
                let v6 = IpAddr::V6(u128::from(n).into());
                prop_assert_eq!(set.contains(v4), naive(&given, v4));
                prop_assert_eq!(set.contains(v6), naive(&given, v6));
            }
        }

        #[test]
        fn sets_are_cut_out_of_each_other(a in entries(), b in entries()) {
            let (a, b) = (AddressSet::from_entries(a), AddressSet::from_entries(b));
            let sets = [a.complement(), a.intersection(&b), a.difference(&b)];
            for n in 0..64u32 {
                for x in [IpAddr::V4((u32::MAX - 63 + n).into()), IpAddr::V6(u128::from(n).into())] {
                    let (in_a, in_b) = (a.contains(x), b.contains(x));
                    prop_assert_eq!(
                        sets.each_ref().map(|set| set.contains(x)),
                        [!in_a, in_a && in_b, in_a && !in_b],
                        "{}", x
                    );
                }
            }
            for set in &sets {
                prop_assert_eq!(&set.iter().collect::<AddressSet>(), set);
            }
            prop_assert_eq!(a.complement().complement(), a);
        }

        #[test]
        fn entries_inside_others_are_counted(given in entries()) {
            let mut list = Unmerged::default();
            for entry in &given {
                list.push(*entry);
            }
            let redundant = list.merge_and_count().1;
            prop_assert_eq!(redundant.map_or(0, |r| r.count), nested(&given));
            if let Some(Redundant { inner, outer, .. }) = redundant {
                let both = AddressSet::from_entries([inner, outer]);
                prop_assert_eq!(both, AddressSet::from_entries([outer]));
                prop_assert!(given.contains(&inner) && given.contains(&outer));
            }
        }

        #[test]
        fn a_set_is_canonical(given in entries()) {
            let set = AddressSet::from_entries(given);
            prop_assert_eq!(&set.iter().collect::<AddressSet>(), &set);
            prop_assert!(set.v4().iter().is_sorted_by(|a, b| a.1 + 1 < b.0));
            prop_assert!(set.v6().iter().is_sorted_by(|a, b| a.1 + 1 < b.0));
        }

        #[test]
        fn what_is_printed_is_read_back(a in any::<u128>(), b in any::<u128>(), shift in 0..128u32) {
            let (a, b) = (a >> shift, b >> shift);
            let entry = Entry::V6(a.min(b), a.max(b));
            if (a.min(b) >> 32) != 0xffff && (a.max(b) >> 32) != 0xffff {
                prop_assert_eq!(parse_entry(&entry.to_string()).unwrap(), entry);
            }
            let (a, b) = ((a & 0xffff_ffff) as u32, (b & 0xffff_ffff) as u32);
            let entry = Entry::V4(a.min(b), a.max(b));
            prop_assert_eq!(parse_entry(&entry.to_string()).unwrap(), entry);
        }
    }
}
