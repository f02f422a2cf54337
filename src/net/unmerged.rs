//! Entries of a list in any order, which become a set.

use super::ranges::{Iter, Number, Ranges};
use super::{AddressSet, Entry};

/// Entries in any order, merged once at the end: a million lines are sorted once.
#[derive(Debug, Default)]
pub struct Unmerged {
    v4: Unsorted<u32>,
    v6: Unsorted<u128>,
}

impl Unmerged {
    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        match entry {
            Entry::V4(first, last) => self.v4.push(first, last),
            Entry::V6(first, last) => self.v6.push(first, last),
        }
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Returns the set of all entries.
    #[must_use]
    pub fn merge(self) -> AddressSet {
        self.merge_and_count().0
    }

    /// Sorts and joins all of them, and counts those that lie inside others.
    #[must_use]
    pub fn merge_and_count(self) -> (AddressSet, Option<Redundant>) {
        let (v4, nested_v4) = self.v4.merge();
        let (v6, nested_v6) = self.v6.merge();
        let nested_v4 = nested_v4.map(|nested| nested.redundant(Entry::V4));
        let nested_v6 = nested_v6.map(|nested| nested.redundant(Entry::V6));
        let redundant = match (nested_v4, nested_v6) {
            (Some(v4), Some(v6)) => Some(Redundant {
                count: v4.count + v6.count,
                ..v4
            }),
            (v4, v6) => v4.or(v6),
        };
        (AddressSet::new(v4, v6), redundant)
    }
}

/// Entries of a list that lie inside others of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redundant {
    /// One of them.
    pub inner: Entry,
    /// An entry that it lies inside; the same one if it is in the list twice.
    pub outer: Entry,
    /// How many there are, at least 1.
    pub count: usize,
}

/// Ranges that lie inside others.
struct Nested<T> {
    inner: (T, T),
    outer: (T, T),
    count: usize,
}

impl<T> Nested<T> {
    fn redundant(self, entry: impl Fn(T, T) -> Entry) -> Redundant {
        Redundant {
            inner: entry(self.inner.0, self.inner.1),
            outer: entry(self.outer.0, self.outer.1),
            count: self.count,
        }
    }
}

/// Ranges in any order, which may overlap: those of one number, and longer ones.
#[derive(Debug, Default)]
struct Unsorted<T> {
    singles: Vec<T>,
    longer: Vec<(T, T)>,
}

impl<T: Number> Unsorted<T> {
    fn push(&mut self, first: T, last: T) {
        if first == last {
            self.singles.push(first);
        } else {
            self.longer.push((first, last));
        }
    }

    fn is_empty(&self) -> bool {
        self.singles.is_empty() && self.longer.is_empty()
    }

    /// Joins those that overlap or touch, and counts those that lie inside a single other one.
    fn merge(mut self) -> (Ranges<T>, Option<Nested<T>>) {
        self.singles.sort_unstable();
        // Which of two with the same start comes first makes no difference to what they are joined to.
        self.longer.sort_unstable_by_key(|&(first, _)| first);
        let mut merged = Ranges::with_room(self.singles.len());
        let mut ordered = Iter::new(&self.singles, &self.longer);
        let Some(mut joined) = ordered.next() else {
            return (merged, None);
        };
        // The one that ends last, of those that were passed.
        let mut widest = joined;
        let mut nested: Option<Nested<T>> = None;
        for next in ordered {
            let is_wider = next.1 > widest.1;
            if !is_wider || next.0 == widest.0 {
                let (inner, outer) = if is_wider {
                    (widest, next)
                } else {
                    (next, widest)
                };
                let first = Nested {
                    inner,
                    outer,
                    count: 0,
                };
                nested.get_or_insert(first).count += 1;
            }
            if is_wider {
                widest = next;
            }
            if joined.1.after().is_none_or(|after| next.0 <= after) {
                joined.1 = joined.1.max(next.1);
            } else {
                merged.push(joined);
                joined = next;
            }
        }
        merged.push(joined);
        (merged, nested)
    }
}
