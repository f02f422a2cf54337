//! How many addresses a set has.

use super::{AddressSet, Family};

/// How many addresses of each family a set has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    v4: u64,
    /// Modulo 2^128.
    v6: u128,
    all_v6: bool,
}

impl Counts {
    /// Counts the addresses of a set.
    #[must_use]
    pub fn of(set: &AddressSet) -> Self {
        let sizes = set.v6().iter().map(|(first, last)| last - first);
        Self {
            v4: set.count_v4(),
            v6: sizes.fold(0, |sum, size| sum.wrapping_add(size).wrapping_add(1)),
            all_v6: set.v6().are_all(),
        }
    }

    /// Returns so many addresses of one family: 0 stands for all 2^128 of IPv6 if there `are_some`.
    #[must_use]
    pub fn of_family(family: Family, number: u128, are_some: bool) -> Self {
        match family {
            Family::V4 => Self {
                v4: u64::try_from(number).unwrap_or(u64::MAX),
                ..Self::default()
            },
            Family::V6 => Self {
                v6: number,
                all_v6: number == 0 && are_some,
                ..Self::default()
            },
        }
    }

    /// Returns the counts of each family of two sets that have no family in common.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            v4: self.v4 + other.v4,
            v6: self.v6.wrapping_add(other.v6),
            all_v6: self.all_v6 || other.all_v6,
        }
    }

    /// Returns the number of IPv4 addresses.
    #[must_use]
    pub fn v4(self) -> u64 {
        self.v4
    }

    /// Returns the number of IPv6 addresses; `u128::MAX` for all of them, which are one more.
    #[must_use]
    pub fn v6(self) -> u128 {
        if self.all_v6 { u128::MAX } else { self.v6 }
    }

    /// Returns whether these are all addresses of a family.
    #[must_use]
    pub fn are_all(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4 == 1 << 32_u32,
            Family::V6 => self.all_v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    #[test]
    fn a_whole_family_is_more_than_a_number_can_be() {
        let [all, most] = [0, 1].map(|first| {
            let entries = [Entry::V4(0, u32::MAX), Entry::V6(first, u128::MAX)];
            Counts::of(&AddressSet::from_entries(entries))
        });
        assert_eq!((all.v4(), all.v6()), (1 << 32, u128::MAX));
        assert_eq!((most.v4(), most.v6()), (1 << 32, u128::MAX));
        assert!(all.are_all(Family::V4) && all.are_all(Family::V6));
        assert!(!most.are_all(Family::V6));
        let sum = Counts::of_family(Family::V4, 1 << 32, true);
        assert_eq!(sum.and(Counts::of_family(Family::V6, 0, true)), all);
        assert_eq!(sum.and(Counts::of_family(Family::V6, 0, false)).v6(), 0);
        assert_eq!(Counts::default(), Counts::of(&AddressSet::default()));
    }
}
