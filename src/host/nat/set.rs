//! Looks up partially known keys in sets of other tables.

use super::packet::{Cell, Holds, holds};
use std::borrow::Cow;

use crate::nftables::foreign::{Data, ForeignElement, ForeignSet, Order};

/// Returns the offsets and lengths of the parts of a set's key.
pub(super) fn parts(set: &ForeignSet) -> Vec<(usize, usize)> {
    if set.parts.is_empty() {
        return vec![(0, set.length)];
    }
    let mut at = 0;
    let place = |length: &usize| {
        let place = (at, *length);
        at += length.next_multiple_of(4);
        place
    };
    set.parts.iter().map(place).collect()
}

/// An element that a key may match, or a range of them. Without a first and a last key it is the catch-all
/// element.
pub(super) struct Candidate<'a> {
    pub first: Option<&'a [u8]>,
    pub last: Option<Cow<'a, [u8]>>,
    pub data: &'a Data,
}

/// Returns the elements that a key may match.
pub(super) fn candidates<'a>(
    set: &ForeignSet,
    elements: &'a [ForeignElement],
    key: &[Cell],
) -> Vec<(Candidate<'a>, Holds)> {
    let mut others = None;
    let mut found = Vec::new();
    for candidate in ranges(set, elements) {
        let (Some(first), Some(last)) = (&candidate.first, &candidate.last) else {
            others = Some(candidate);
            continue;
        };
        let part = |(at, length): (usize, usize)| {
            let part = at..at + length;
            let (Some(cells), Some(first), Some(last)) = (
                key.get(part.clone()),
                first.get(part.clone()),
                last.get(part),
            ) else {
                return Holds::Maybe;
            };
            if first == last {
                return holds(cells, Order::Equal, first);
            }
            holds(cells, Order::AtLeast, first).min(holds(cells, Order::AtMost, last))
        };
        match parts(set).into_iter().map(part).min() {
            Some(Holds::Yes) => return vec![(candidate, Holds::Yes)],
            Some(Holds::No) => {}
            Some(Holds::Maybe) | None => found.push((candidate, Holds::Maybe)),
        }
    }
    if let Some(others) = others {
        let holds = if found.is_empty() {
            Holds::Yes
        } else {
            Holds::Maybe
        };
        found.push((others, holds));
    }
    found
}

/// Returns the elements as ranges of keys.
pub(super) fn ranges<'a>(set: &ForeignSet, elements: &'a [ForeignElement]) -> Vec<Candidate<'a>> {
    let single = |element: &'a ForeignElement| Candidate {
        first: element.key.as_deref(),
        last: element
            .last
            .as_deref()
            .or(element.key.as_deref())
            .map(Cow::from),
        data: &element.data,
    };
    let has_ends = set.interval && set.parts.len() < 2;
    if !has_ends {
        return elements.iter().map(single).collect();
    }
    let (others, mut ends): (Vec<_>, Vec<_>) = elements.iter().partition(|e| e.key.is_none());
    // An end before the start of the next range at the same key.
    ends.sort_by(|a, b| (&a.key, !a.ends).cmp(&(&b.key, !b.ends)));
    let mut ranges: Vec<Candidate<'a>> = others.into_iter().map(single).collect();
    for (at, element) in ends.iter().enumerate() {
        if element.ends {
            continue;
        }
        let next = ends.get(at + 1).and_then(|next| next.key.as_deref());
        ranges.push(Candidate {
            last: match next {
                Some(next) => before(next).map(Cow::from),
                None => Some(vec![0xff; set.length].into()),
            },
            ..single(element)
        });
    }
    ranges
}

/// Returns the key before another, as a big-endian number.
pub(super) fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            return Some(key);
        }
    }
    None
}
