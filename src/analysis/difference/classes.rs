//! Sources of one family, apart by the sets that they are in.
//!
//! ```text
//!  short sets ─► segments      0 ──────────┬────┬───────────────────── last address
//!  long set, old rules           ── ─   ── │ ── │  ─  ───  ── ─
//!  long set, new rules           ── ─   ─  │ ── │  ─  ───  ── ─ ─
//!  class by segment and sets   0 1 0 1 0 12│0 3 │0 4 0 4 0 4 0 4 0 5 0
//! ```
//!
//! No rule tells the sources of a class apart, so that one range of each [stands](Class::stands) for all of it. A
//! list of a million addresses of which ten change makes three classes.

use std::ops::Range;

use indexmap::IndexMap;

use crate::net::{AddressSet, Counts, Entry, Family};
use crate::ruleset::{Elements, Interval};

use super::super::eval::Fast;

/// How many ranges of a class are kept. Of one that has more they are found again when they are wanted.
const KEPT: usize = 32;

/// The most sets that sources are told apart by.
pub(super) const SETS: usize = 128;

/// The first and the last address.
type Addresses = (u128, u128);

/// The classes of a family.
#[derive(Debug)]
pub(super) struct Classes<'a> {
    family: Family,
    /// The sets, at most [`SETS`].
    sets: Vec<&'a Elements>,
    /// The last address of each segment, ascending.
    ends: Vec<u128>,
    /// In the order of the ranges that stand for them.
    all: Vec<Class>,
}

/// Sources that no rule tells apart.
#[derive(Debug)]
struct Class {
    /// One bit for each set that they are in.
    sets: u128,
    /// Their first range, which stands for all of them.
    stands: Addresses,
    /// How many addresses are in the classes before.
    before: u128,
    /// How many are in this one: modulo 2^128, as all sums of these.
    count: u128,
    /// Their first ranges.
    ranges: Vec<Addresses>,
    /// Whether these are all.
    is_whole: bool,
}

impl<'a> Classes<'a> {
    /// Tells sources apart by sets, of which each is a [list](family_of_list) of the family, and by the last addresses of
    /// segments.
    pub(super) fn new(family: Family, sets: Vec<&'a Elements>, mut ends: Vec<u128>) -> Self {
        ends.push(family.last());
        ends.sort_unstable();
        ends.dedup();
        let mut classes = Self {
            family,
            sets,
            ends,
            all: Vec::new(),
        };
        let mut all: Vec<Class> = Vec::new();
        classes.sweep(|number, sets, range| {
            let size = (range.1 - range.0).wrapping_add(1);
            match all.get_mut(number) {
                Some(class) => {
                    class.count = class.count.wrapping_add(size);
                    class.is_whole &= class.ranges.len() < KEPT;
                    if class.is_whole {
                        class.ranges.push(range);
                    }
                }
                None => all.push(Class {
                    sets,
                    stands: range,
                    before: 0,
                    count: size,
                    ranges: vec![range],
                    is_whole: true,
                }),
            }
        });
        let mut before: u128 = 0;
        for class in &mut all {
            class.before = before;
            before = before.wrapping_add(class.count);
        }
        classes.all = all;
        classes
    }

    /// Calls `visit` with every range of addresses that are in the same sets, ascending: the number of its class, the
    /// sets and the range.
    fn sweep(&self, mut visit: impl FnMut(usize, u128, Addresses)) {
        let mut cursors: Vec<Cursor<'_>> = self.sets.iter().map(|set| Cursor::new(set)).collect();
        let mut classes: IndexMap<u128, usize, Fast> = IndexMap::default();
        // Most ranges are of the same two classes in turn.
        let mut recent: [Option<(u128, usize)>; 2];
        let mut count = 0;
        let mut first = 0;
        for end in &self.ends {
            classes.clear();
            recent = [None; 2];
            loop {
                let mut last = *end;
                let mut sets = 0;
                for (bit, cursor) in cursors.iter_mut().enumerate() {
                    let (is_inside, until) = cursor.at(first);
                    sets |= u128::from(is_inside) << bit;
                    last = last.min(until);
                }
                let known = recent.iter().flatten().find(|(of, _)| *of == sets);
                let number = if let Some((_, number)) = known {
                    *number
                } else {
                    let number = *classes.entry(sets).or_insert_with(|| {
                        count += 1;
                        count - 1
                    });
                    recent = [recent[1], Some((sets, number))];
                    number
                };
                visit(number, sets, (first, last));
                let Some(next) = last.checked_add(1) else {
                    return;
                };
                first = next;
                if last == *end {
                    break;
                }
            }
        }
    }

    /// Returns the sources that stand for all.
    pub(super) fn standing(&self) -> AddressSet {
        let ranges = self.all.iter().map(|class| class.stands);
        ranges.map(|range| Entry::of(self.family, range)).collect()
    }

    /// Returns the sources that stand for those of a set, by its number.
    pub(super) fn standing_in(&self, number: usize) -> Option<Elements> {
        let is_in = |class: &&Class| class.sets >> number & 1 == 1;
        let mut ranges: Vec<Addresses> = Vec::new();
        for class in self.all.iter().filter(is_in) {
            let (first, last) = class.stands;
            match ranges.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
                _ => ranges.push(class.stands),
            }
        }
        elements(self.sets.get(number)?, &ranges)
    }

    /// Returns the number of addresses that sources stand for.
    pub(super) fn count(&self, standing: &AddressSet) -> Counts {
        let mut number: u128 = 0;
        let mut are_some = false;
        for classes in self.of(standing) {
            if let (Some(first), Some(last)) = (classes.first(), classes.last()) {
                let after = last.before.wrapping_add(last.count);
                number = number.wrapping_add(after.wrapping_sub(first.before));
                are_some = true;
            }
        }
        Counts::of_family(self.family, number, are_some)
    }

    /// Returns what each of these sets stands for.
    pub(super) fn whole(&self, standing: &[&AddressSet]) -> Vec<AddressSet> {
        let mut found = vec![Vec::new(); standing.len()];
        // The sets that want a class, for classes of which not all ranges are kept.
        let mut wanted: IndexMap<usize, Vec<usize>, Fast> = IndexMap::default();
        for (index, (standing, found)) in standing.iter().zip(&mut found).enumerate() {
            for numbers in self.numbers(standing) {
                for number in numbers {
                    match self.all.get(number) {
                        Some(class) if class.is_whole => found.extend(&class.ranges),
                        _ => wanted.entry(number).or_default().push(index),
                    }
                }
            }
        }
        if !wanted.is_empty() {
            self.sweep(|number, _, range| {
                for index in wanted.get(&number).into_iter().flatten() {
                    if let Some(found) = found.get_mut(*index) {
                        found.push(range);
                    }
                }
            });
        }
        let of = |ranges: Vec<Addresses>| {
            let ranges = ranges.into_iter();
            ranges.map(|range| Entry::of(self.family, range)).collect()
        };
        found.into_iter().map(of).collect()
    }

    /// Returns the classes that a set stands for, as they follow each other.
    fn of(&self, standing: &AddressSet) -> impl Iterator<Item = &[Class]> {
        let numbers = self.numbers(standing);
        numbers.map(|numbers| self.all.get(numbers).unwrap_or_default())
    }

    fn numbers(&self, standing: &AddressSet) -> impl Iterator<Item = Range<usize>> {
        standing.numbers(self.family).map(|(first, last)| {
            let below = |address: u128| self.all.partition_point(|class| class.stands.0 < address);
            let behind = last.checked_add(1).map_or(self.all.len(), below);
            below(first)..behind
        })
    }
}

/// A place in a set.
#[derive(Debug)]
struct Cursor<'a> {
    set: &'a Elements,
    index: usize,
    /// The element at the index; the last address of IPv6 behind the end.
    range: Addresses,
    is_at_end: bool,
}

impl<'a> Cursor<'a> {
    fn new(set: &'a Elements) -> Self {
        let mut cursor = Self {
            set,
            index: 0,
            range: (u128::MAX, u128::MAX),
            is_at_end: false,
        };
        cursor.read();
        cursor
    }

    fn read(&mut self) {
        let range = range(self.set, self.index);
        self.is_at_end = range.is_none();
        self.range = range.unwrap_or((u128::MAX, u128::MAX));
    }

    /// Returns whether an address, which is not below the one before, is in the set, and up to which address that
    /// is so.
    fn at(&mut self, address: u128) -> (bool, u128) {
        while self.range.1 < address {
            self.index += 1;
            self.read();
        }
        match self.range {
            (_, last) if self.is_at_end => (false, last),
            (first, last) if first <= address => (true, last),
            (first, _) => (false, first - 1),
        }
    }
}

/// Returns the family of elements that are addresses without a port, verdict or end.
pub(super) fn family_of_list(elements: &Elements) -> Option<Family> {
    match elements {
        Elements::Ipv4(_) | Elements::Ipv4Ranges(_) => Some(Family::V4),
        Elements::Ipv6(_) | Elements::Ipv6Ranges(_) => Some(Family::V6),
        _ => None,
    }
}

/// Returns an element of a list.
fn range(elements: &Elements, index: usize) -> Option<Addresses> {
    match elements {
        Elements::Ipv4(rows) => rows.get(index).map(|of| ((*of).into(), (*of).into())),
        Elements::Ipv4Ranges(rows) => rows.get(index).map(|of| (of.first.into(), of.last.into())),
        Elements::Ipv6(rows) => rows.get(index).map(|of| (*of, *of)),
        Elements::Ipv6Ranges(rows) => rows.get(index).map(|of| (of.first, of.last)),
        _ => None,
    }
}

/// Returns a list of the same type.
fn elements(like: &Elements, ranges: &[Addresses]) -> Option<Elements> {
    let all = ranges.iter().copied();
    // What a list of single addresses has, stands alone.
    let each = all.clone().flat_map(|(first, last)| first..=last);
    Some(match like {
        Elements::Ipv4(_) => Elements::Ipv4(each.map(v4).collect()),
        Elements::Ipv6(_) => Elements::Ipv6(each.collect()),
        Elements::Ipv4Ranges(_) => {
            let ranges = all.map(|(first, last)| Interval {
                first: v4(first),
                last: v4(last),
            });
            Elements::Ipv4Ranges(ranges.collect())
        }
        Elements::Ipv6Ranges(_) => {
            let ranges = all.map(|(first, last)| Interval { first, last });
            Elements::Ipv6Ranges(ranges.collect())
        }
        _ => return None,
    })
}

/// Returns an address of IPv4, which is never more than 32 bits here.
fn v4(address: u128) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}
