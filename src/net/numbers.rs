//! Addresses of both families as numbers, for code that treats them alike.

use super::{AddressSet, Entry, Family, Ranges};

impl Family {
    /// Returns the last address, as a number; the first one is 0.
    #[must_use]
    pub fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX.into(),
            Self::V6 => u128::MAX,
        }
    }
}

impl Entry {
    /// Returns the addresses of a family between two numbers, both included; neither is above the last one of the
    /// family.
    #[must_use]
    pub fn of(family: Family, (first, last): (u128, u128)) -> Self {
        let narrow = |address: u128| u32::try_from(address).unwrap_or(u32::MAX);
        match family {
            Family::V4 => Self::V4(narrow(first), narrow(last)),
            Family::V6 => Self::V6(first, last),
        }
    }
}

impl AddressSet {
    /// Returns the ranges of a family, ascending: the first and the last address of each.
    pub fn numbers(&self, family: Family) -> impl Iterator<Item = (u128, u128)> + '_ {
        let (v4, v6) = match family {
            Family::V4 => (Some(self.v4()), None),
            Family::V6 => (None, Some(self.v6())),
        };
        let v4 = v4.into_iter().flat_map(Ranges::iter);
        let wide = v4.map(|(a, b)| (u128::from(a), u128::from(b)));
        wide.chain(v6.into_iter().flat_map(Ranges::iter))
    }
}
