//! The difference between the elements of two sets.

use core::time::Duration;
use std::cmp::Ordering;

use crate::ruleset::{Counting, Elements, L4Protocol, Row, with_rows};

/// A port that counts.
type PortCounter = Counting<(L4Protocol, u16)>;

/// The elements to delete and those to add, of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The elements that are removed.
    pub removed: Elements,
    /// The elements that are added.
    pub added: Elements,
}

impl Delta {
    /// Returns the difference from one set to another; `None` if their types differ.
    #[must_use]
    pub fn between(from: &Elements, to: &Elements) -> Option<Self> {
        with_rows!(from, from => {
            let (removed, added) = difference(from, to.rows()?);
            Some(Self {
                removed: removed.into(),
                added: added.into(),
            })
        })
    }

    /// Returns the elements before the change, given those after it; `None` if the types differ.
    #[must_use]
    pub fn undone(&self, to: &Elements) -> Option<Elements> {
        with_rows!(to, to => {
            let mut all = difference(to, self.added.rows()?).0;
            all.extend_from_slice(self.removed.rows()?);
            all.sort_unstable();
            Some(all.into())
        })
    }

    /// Returns whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Returns whether a port is deleted that `to`, the elements afterwards, does not count under
    /// another comment.
    pub(super) fn loses_ports(&self, to: &[PortCounter]) -> bool {
        let stays = |gone: &PortCounter| to.binary_search_by_key(&gone.key, |row| row.key).is_ok();
        let gone = self.removed.rows::<PortCounter>();
        gone.is_some_and(|gone| !gone.iter().all(stays))
    }

    /// Returns whether a range to add overlaps one to delete. While a transaction is prepared, kernels
    /// before 6.18 may match neither of them.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        with_rows!(&self.removed, removed => {
            self.added.rows().is_some_and(|added| overlap(removed, added))
        })
    }
}

/// By how much the ends of an element may differ: what was read is as exact as the moment of reading is known.
const EXACT: Duration = Duration::from_millis(500);

/// Compares two elements; those that end at about the same time are the same.
fn order<R: Row>(one: &R, other: &R) -> Ordering {
    let is_near = || {
        let ends = one.end().zip(other.end());
        ends.is_some_and(|(one, other)| one.abs_diff(other) <= EXACT)
    };
    if R::EXPIRING && (one.first(), one.last()) == (other.first(), other.last()) && is_near() {
        Ordering::Equal
    } else {
        one.cmp(other)
    }
}

/// Returns what only the first has and what only the second has; both are sorted.
fn difference<R: Row>(from: &[R], to: &[R]) -> (Vec<R>, Vec<R>) {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let (mut from, mut to) = (from.iter().peekable(), to.iter().peekable());
    loop {
        let order = match (from.peek(), to.peek()) {
            (None, None) => return (removed, added),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => order(*old, *new),
        };
        if order != Ordering::Greater
            && let Some(old) = from.next()
            && order == Ordering::Less
        {
            removed.push(old.clone());
        }
        if order != Ordering::Less
            && let Some(new) = to.next()
            && order == Ordering::Greater
        {
            added.push(new.clone());
        }
    }
}

fn overlap<R: Row>(a: &[R], b: &[R]) -> bool {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (true, Some(one), Some(other)) = (R::INTERVAL, a.peek(), b.peek()) {
        if one.last() < other.first() {
            a.next();
        } else if other.last() < one.first() {
            b.next();
        } else {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Interval, MapTo, Verdict};

    #[test]
    fn only_what_changes_is_in_a_delta() {
        let delta = |from: &[u32], to: &[u32]| {
            Delta::between(&Elements::Ipv4(from.into()), &Elements::Ipv4(to.into())).unwrap()
        };
        let both = delta(&[1, 3, 5, 7], &[2, 3, 7, 9]);
        assert_eq!(both.removed, Elements::Ipv4(vec![1, 5]));
        assert_eq!(both.added, Elements::Ipv4(vec![2, 9]));
        assert!(delta(&[1, 2], &[1, 2]).is_empty());
        let after = Elements::Ipv4(vec![2, 3, 7, 9]);
        assert_eq!(both.undone(&after), Some(Elements::Ipv4(vec![1, 3, 5, 7])));
        let other = Elements::Ipv6(Vec::new());
        assert_eq!(Delta::between(&Elements::Ipv4(Vec::new()), &other), None);
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        let port = |first, last| MapTo::new(Interval::new(first, last), Verdict::Accept);
        let delta = |from: Vec<_>, to: Vec<_>| {
            let (from, to) = (Elements::PortVerdicts(from), Elements::PortVerdicts(to));
            Delta::between(&from, &to).unwrap()
        };
        assert!(!delta(vec![port(80, 80)], vec![port(81, 90)]).overlaps());
        assert!(delta(vec![port(80, 80)], vec![port(80, 90)]).overlaps());
        assert!(delta(vec![port(1, 1), port(5, 9)], vec![port(2, 4), port(9, 9)]).overlaps());
        assert!(!delta(vec![port(80, 80)], vec![port(80, 80), port(81, 81)]).overlaps());
    }
}
