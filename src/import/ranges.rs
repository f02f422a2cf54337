//! Sets of sources that many rules take from, one after the other.
//!
//! An [`AddressSet`] is copied whenever it changes. Here what a rule takes costs what it takes, so
//! a chain of sixty thousand rules is no worse than sixty thousand chains of one.

use crate::net::{AddressSet, Entry, Family};
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;

/// A set of sources of one family, as disjoint ranges: the last address by the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranges {
    family: Family,
    /// The ranges, copied on write: many ports can have the same long result.
    ranges: Rc<BTreeMap<u128, u128>>,
}

/// A condition: in this set, or not in it if it is negated.
pub(super) type Condition<'a> = (&'a AddressSet, bool);

impl Ranges {
    pub(super) fn none(family: Family) -> Self {
        let ranges = Rc::default();
        Self { family, ranges }
    }

    pub(super) fn all(family: Family) -> Self {
        let ranges = Rc::new(BTreeMap::from([(0, family.last())]));
        Self { family, ranges }
    }

    pub(super) fn is_all(&self) -> bool {
        self.ranges.first_key_value() == Some((&0, &self.family.last()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Removes and returns the sources that meet all conditions.
    pub(super) fn take(&mut self, conditions: &[Condition<'_>]) -> Self {
        let mut taken = mem::replace(self, Self::none(self.family));
        for condition in conditions {
            let rest = taken.split(*condition);
            self.add(rest);
        }
        taken
    }

    /// Returns the sources that meet all conditions.
    pub(super) fn select(&self, conditions: &[Condition<'_>]) -> Self {
        let Some(((set, false), others)) = conditions.split_first() else {
            return self.clone().take(conditions);
        };
        let mut selected = Self::none(self.family);
        let found = Rc::make_mut(&mut selected.ranges);
        for (first, last) in set.numbers(self.family) {
            let before = self.ranges.range(..first).next_back();
            for (&a, &b) in before.into_iter().chain(self.ranges.range(first..=last)) {
                if b >= first {
                    found.insert(a.max(first), b.min(last));
                }
            }
        }
        selected.take(others)
    }

    /// Keeps the sources that meet a condition, and returns the others.
    fn split(&mut self, (set, negated): Condition<'_>) -> Self {
        let mut inside = Self::none(self.family);
        for (first, last) in set.numbers(self.family) {
            self.cut(first, last, &mut inside);
        }
        if negated {
            inside
        } else {
            mem::replace(self, inside)
        }
    }

    /// Moves the addresses from `first` to `last` into another set.
    fn cut(&mut self, first: u128, last: u128, into: &mut Self) {
        if !self.meets(first, last) {
            return;
        }
        let (ranges, into) = (
            Rc::make_mut(&mut self.ranges),
            Rc::make_mut(&mut into.ranges),
        );
        let before = ranges.range_mut(..first).next_back();
        if let Some((_, end)) = before
            && *end >= first
        {
            let old = mem::replace(end, first - 1);
            if old > last {
                ranges.insert(last + 1, old);
            }
            into.insert(first, old.min(last));
        }
        while let Some((&start, &end)) = ranges.range(first..=last).next() {
            ranges.remove(&start);
            if end > last {
                ranges.insert(last + 1, end);
            }
            into.insert(start, end.min(last));
        }
    }

    /// Returns whether the set has an address from `first` to `last`.
    fn meets(&self, first: u128, last: u128) -> bool {
        let before = self.ranges.range(..=last).next_back();
        before.is_some_and(|(_, end)| *end >= first)
    }

    /// Adds another set.
    pub(super) fn add(&mut self, mut other: Self) {
        if self.ranges.len() < other.ranges.len() {
            mem::swap(self, &mut other);
        }
        let mut seen = Self::none(self.family);
        for (&first, &last) in other.ranges.iter() {
            self.cut(first, last, &mut seen);
            Rc::make_mut(&mut self.ranges).insert(first, last);
        }
    }

    /// Returns the intersection with another set.
    pub(super) fn intersection(mut self, other: &Self) -> Self {
        if self.is_all() {
            return other.clone();
        }
        if other.is_all() {
            return self;
        }
        let mut inside = Self::none(self.family);
        for (&first, &last) in other.ranges.iter() {
            self.cut(first, last, &mut inside);
        }
        inside
    }

    /// Returns whether the sets have an address in common.
    pub(super) fn intersects(&self, other: &Self) -> bool {
        let (few, many) = if self.ranges.len() < other.ranges.len() {
            (self, other)
        } else {
            (other, self)
        };
        few.ranges
            .iter()
            .any(|(&first, &last)| many.meets(first, last))
    }

    pub(super) fn to_set(&self) -> AddressSet {
        let ranges = self.ranges.iter();
        AddressSet::from_entries(ranges.map(|(&a, &b)| Entry::of(self.family, (a, b))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set() -> impl Strategy<Value = AddressSet> {
        prop::collection::vec((0..40u32, 0..9u32), 0..5).prop_map(|ranges| {
            AddressSet::from_entries(ranges.into_iter().map(|(a, n)| Entry::V4(a, a + n)))
        })
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_addresses(start in set(), first in set(), not in any::<bool>(),
            second in set())
        {
            let mut rest = Ranges::all(Family::V4);
            let start = rest.take(&[(&start, false)]);
            let model = start.to_set();
            let wanted = if not { model.difference(&first) } else { model.intersection(&first) };
            let wanted = wanted.intersection(&second);
            let conditions = [(&first, not), (&second, false)];
            prop_assert_eq!(start.select(&conditions).to_set(), wanted.clone());
            let mut left = start.clone();
            let taken = left.take(&conditions);
            prop_assert_eq!(taken.to_set(), wanted.clone());
            prop_assert_eq!(left.to_set(), model.difference(&wanted));
            prop_assert_eq!(left.intersects(&taken), false);
            prop_assert_eq!(taken.intersects(&start), !wanted.is_empty());
            prop_assert_eq!(start.clone().intersection(&taken).to_set(), wanted);
            left.add(taken);
            left.add(start.clone());
            prop_assert_eq!(left.to_set(), model);
            rest.add(left);
            prop_assert_eq!(rest.to_set(), AddressSet::all(Family::V4));
        }
    }
}
