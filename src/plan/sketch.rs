//! A sketch of the elements of a big set, stored in the kernel, so that the set need not be sent again when
//! nothing has changed nor read back when a few elements have.
//!
//! Reading a set back takes time that grows with the square of its size: a million ranges take 90 s. So dfw
//! stores beside such a set
//!
//! - a keyed digest of its elements: equal means unchanged;
//! - an *invertible Bloom lookup table* of them (Goodrich and Mitzenmacher, 2011), whose size does
//!   not depend on theirs. Each element is added, bit by bit modulo 2, to four cells, with a check
//!   sum. With a table of the wanted elements added to it, what the two sets share vanishes, and a
//!   cell in which a single element is left gives that element away, which takes it out of three
//!   more cells, and so on. Some 1,500 changed elements are found this way, whatever the number of
//!   all; with more it fails, and the set is filled anew.
//!
//! A result is used only if the desired elements, less the added and plus the deleted ones, have the digest
//! of the installed set. The key is drawn at random for each set, so that nobody who writes lists can make
//! two of them look alike.
//!
//! Alternatives: a file with what was last applied would be state that can be missing or stale, where the
//! kernel's own memory never disagrees with itself; digests of parts of the set would tell where something
//! changed, but the kernel cannot be asked for a part of a set.

use std::collections::BTreeSet;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::ruleset::{Elements, Field, Key, Parts, Row, Set, Value, with_rows};

use super::elements::Delta;

/// The fewest elements of a set with a sketch; smaller sets are read back quickly.
pub const BIG: usize = 8_192;

/// Each element is in one cell of each part.
const PARTS: usize = 4;
/// `log2` of the cells of a part.
const PART_BITS: usize = 9;
const CELLS: usize = PARTS << PART_BITS;

/// The form of the bytes; another number is not understood.
const VERSION: u8 = 1;
/// The length of [`Sketch::header`].
const HEADER: usize = 1 + 16 + 16 + 8;

/// A digest of elements, and a table from which the difference to other elements is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    seed: u128,
    digest: u128,
    count: u64,
    cells: Vec<Cell>,
}

/// How elements differ from those of a sketch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// They are the same.
    Same,
    /// By this, and they have this sketch, with the same key.
    Changed(Delta, Box<Sketch>),
    /// By more than can be decoded.
    TooFar,
}

/// The bitwise sum modulo 2 of elements and of their check sums; an address is a range of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    first: u128,
    last: u128,
    check: u64,
}

impl Cell {
    fn toggle(&mut self, other: Self) {
        self.first ^= other.first;
        self.last ^= other.last;
        self.check ^= other.check;
    }
}

impl Sketch {
    /// Computes the sketch of elements; `None` for a type that is never big. `seed` is random.
    #[must_use]
    pub fn of(elements: &Elements, seed: u128) -> Option<Self> {
        width(elements)?;
        Some(Self {
            seed,
            digest: Digest::of(elements, seed),
            count: elements.len() as u64,
            cells: cells(elements, seed),
        })
    }

    /// Returns whether a set is big enough to have a sketch.
    #[must_use]
    pub fn is_wanted(set: &Set) -> bool {
        set.elements.len() >= BIG && Self::fits(&set.elements)
    }

    /// Returns whether there are sketches of elements of this type.
    #[must_use]
    pub fn fits(elements: &Elements) -> bool {
        width(elements).is_some()
    }

    /// Returns how many elements there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether it is the sketch of these elements.
    #[must_use]
    pub fn is_of(&self, elements: &Elements) -> bool {
        self.count == elements.len() as u64 && self.digest == Digest::of(elements, self.seed)
    }

    /// Compares its elements with others. To look at a million takes tens of milliseconds, so that this is done once
    /// for all that is to be known of them.
    #[must_use]
    pub fn compare(&self, to: &Elements) -> Comparison {
        let (count, digest) = (to.len() as u64, Digest::of(to, self.seed));
        if (self.count, self.digest) == (count, digest) {
            return Comparison::Same;
        }
        let cells = cells(to, self.seed);
        let Some(delta) = self.delta(to, &cells) else {
            return Comparison::TooFar;
        };
        let sketch = Self {
            seed: self.seed,
            digest,
            count,
            cells,
        };
        Comparison::Changed(delta, Box::new(sketch))
    }

    /// Returns the difference from its elements to others, which have these cells.
    fn delta(&self, to: &Elements, cells: &[Cell]) -> Option<Delta> {
        let mut rest = cells.to_vec();
        for (cell, own) in rest.iter_mut().zip(&self.cells) {
            cell.toggle(*own);
        }
        let changed = self.peel(rest)?;
        let wanted = |element: &(u128, u128)| contains(to, *element);
        let (added, removed): (BTreeSet<_>, BTreeSet<_>) =
            changed.into_iter().partition(|element| wanted(element));
        let mut installed = Digest::new(self.seed);
        let mut come = added.iter().copied().peekable();
        let mut gone = removed.iter().copied().peekable();
        each_range(to, |range| {
            while let Some(gone) = gone.next_if(|gone| *gone < range) {
                installed.add(gone);
            }
            if come.next_if_eq(&range).is_none() {
                installed.add(range);
            }
        });
        gone.for_each(|gone| installed.add(gone));
        if installed.finish() != self.digest {
            return None;
        }
        Some(Delta {
            removed: like(to, removed)?,
            added: like(to, added)?,
        })
    }

    /// Takes one element after the other out of the cells; `None` if some stay entangled.
    fn peel(&self, mut cells: Vec<Cell>) -> Option<Vec<(u128, u128)>> {
        let mut found = Vec::new();
        let mut look: Vec<usize> = (0..cells.len()).collect();
        while let Some(at) = look.pop() {
            let cell = cells[at];
            if cell == Cell::default() {
                continue;
            }
            let hash = hash((cell.first, cell.last), self.seed);
            let places = places(hash);
            if check(hash) != cell.check || !places.contains(&at) {
                continue;
            }
            // More than there is room for were never put in: the cells are not what they seem.
            if found.len() == CELLS {
                return None;
            }
            found.push((cell.first, cell.last));
            for place in places {
                cells[place].toggle(cell);
                look.push(place);
            }
        }
        cells
            .iter()
            .all(|cell| *cell == Cell::default())
            .then_some(found)
    }

    /// Returns all but the table, as bytes.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.push(VERSION);
        bytes.extend(self.seed.to_be_bytes());
        bytes.extend(self.digest.to_be_bytes());
        bytes.extend(self.count.to_be_bytes());
        bytes
    }

    /// Returns the table as bytes, for elements of this type.
    #[must_use]
    pub fn table(&self, elements: &Elements) -> Vec<u8> {
        let (bytes, range) = width(elements).unwrap_or_default();
        let mut table = Vec::new();
        for cell in &self.cells {
            table.extend(&cell.first.to_be_bytes()[16 - bytes..]);
            if range {
                table.extend(&cell.last.to_be_bytes()[16 - bytes..]);
            }
            table.extend(cell.check.to_be_bytes());
        }
        table
    }

    /// Reads both back; `None` if they are not what this version of dfw writes.
    #[must_use]
    pub fn read(header: &[u8], table: &[u8], elements: &Elements) -> Option<Self> {
        let (bytes, range) = width(elements)?;
        let (&VERSION, rest) = header.split_first()? else {
            return None;
        };
        let (seed, rest) = rest.split_first_chunk::<16>()?;
        let (digest, rest) = rest.split_first_chunk::<16>()?;
        let number = |part: &[u8]| {
            part.iter()
                .fold(0, |number: u128, byte| number << 8 | u128::from(*byte))
        };
        let size = bytes * (1 + usize::from(range)) + 8;
        let cells = table.chunks(size).map(|cell| {
            let (first, rest) = cell.split_at_checked(bytes)?;
            let (last, check) = rest.split_at_checked(if range { bytes } else { 0 })?;
            let first = number(first);
            Some(Cell {
                first,
                last: if range { number(last) } else { first },
                check: u64::from_be_bytes(check.try_into().ok()?),
            })
        });
        let cells: Vec<Cell> = cells.collect::<Option<_>>()?;
        (cells.len() == CELLS).then_some(Self {
            seed: u128::from_be_bytes(*seed),
            digest: u128::from_be_bytes(*digest),
            count: u64::from_be_bytes(rest.try_into().ok()?),
            cells,
        })
    }
}

/// Returns the bytes of an address, and whether elements are two numbers; `None` for what never is big.
fn width(elements: &Elements) -> Option<(usize, bool)> {
    let of = elements.set_type();
    let bytes = match of.key {
        [Field::Ipv4] | [Field::Port, Field::Ipv4] => 4,
        [Field::Ipv6] | [Field::Port, Field::Ipv6] => 16,
        _ => return None,
    };
    (!of.map && !of.counting && !of.expiring).then_some((bytes, of.interval || of.key.len() > 1))
}

/// Elements as ranges, ascending; nothing for what never is big.
fn ranges(elements: &Elements) -> Box<dyn Iterator<Item = (u128, u128)> + '_> {
    if !Sketch::fits(elements) {
        return Box::new(std::iter::empty());
    }
    with_rows!(elements, rows => Box::new(rows.iter().filter_map(numbers)))
}

/// Returns a row as two numbers: a range, an address twice, or a port where a range has its first
/// address, and the address where it has its last.
fn numbers<R: Row>(row: &R) -> Option<(u128, u128)> {
    match (row.first().values().as_ref(), row.last().values().as_ref()) {
        ([first], [last]) => Some((first.number()?, last.number()?)),
        ([port, address], _) => Some((port.number()?, address.number()?)),
        _ => None,
    }
}

/// Returns the row of two numbers.
fn row<R: Row>((first, last): (u128, u128)) -> Option<R> {
    let key = |fields: &[Field], numbers: &[u128]| {
        let mut values = [Value::Port(0); 2];
        for ((value, field), number) in values.iter_mut().zip(fields).zip(numbers) {
            *value = Value::of_number(*field, *number)?;
        }
        R::Key::of_values(values.get(..fields.len())?)
    };
    let fields = R::Key::FIELDS;
    R::of_parts(match fields {
        [_] if R::INTERVAL => Parts::new(key(fields, &[first])?, Some(key(fields, &[last])?)),
        _ => Parts::new(key(fields, &[first, last])?, None),
    })
}

fn contains(elements: &Elements, range: (u128, u128)) -> bool {
    with_rows!(elements, rows => row(range).is_some_and(|row| rows.binary_search(&row).is_ok()))
}

/// Ranges as elements of the type of others.
fn like(elements: &Elements, ranges: BTreeSet<(u128, u128)>) -> Option<Elements> {
    with_rows!(elements, rows => rows_like(rows, ranges).map(Elements::from))
}

fn rows_like<R: Row>(_: &[R], ranges: BTreeSet<(u128, u128)>) -> Option<Vec<R>> {
    ranges.into_iter().map(row).collect()
}

/// Calls `take` with each range, ascending. The types that most elements have are read as they are.
fn each_range(elements: &Elements, mut take: impl FnMut((u128, u128))) {
    match elements {
        Elements::Ipv4(rows) => rows
            .iter()
            .for_each(|at| take(((*at).into(), (*at).into()))),
        Elements::Ipv4Ranges(rows) => {
            let ranges = rows.iter().map(|row| (row.first.into(), row.last.into()));
            ranges.for_each(take);
        }
        Elements::Ipv6(rows) => rows.iter().for_each(|at| take((*at, *at))),
        Elements::Ipv6Ranges(rows) => rows.iter().for_each(|row| take((row.first, row.last))),
        others => ranges(others).for_each(take),
    }
}

/// A digest of ranges.
struct Digest {
    hasher: SipHasher13,
    /// What is hashed at once, as far as it is filled.
    buffer: [[[u8; 16]; 2]; Self::AT_ONCE],
    filled: usize,
}

impl Digest {
    /// How many ranges are hashed at once.
    const AT_ONCE: usize = 256;

    fn new(seed: u128) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&seed.to_be_bytes()),
            buffer: [[[0; 16]; 2]; Self::AT_ONCE],
            filled: 0,
        }
    }

    fn of(elements: &Elements, seed: u128) -> u128 {
        let mut digest = Self::new(seed);
        each_range(elements, |range| digest.add(range));
        digest.finish()
    }

    fn add(&mut self, (first, last): (u128, u128)) {
        if self.filled == Self::AT_ONCE {
            self.hash();
        }
        self.buffer[self.filled] = [first.to_be_bytes(), last.to_be_bytes()];
        self.filled += 1;
    }

    fn hash(&mut self) {
        let filled = self.buffer[..self.filled].as_flattened().as_flattened();
        self.hasher.write(filled);
        self.filled = 0;
    }

    fn finish(mut self) -> u128 {
        self.hash();
        self.hasher.finish128().as_u128()
    }
}

fn cells(elements: &Elements, seed: u128) -> Vec<Cell> {
    let mut cells = vec![Cell::default(); CELLS];
    let are_alone = matches!(elements, Elements::Ipv4(_) | Elements::Ipv6(_));
    if are_alone {
        // The last address of each is the first one, and so is the sum of them.
        each_range(elements, |(address, _)| {
            let hash = hash((address, address), seed);
            for place in places(hash) {
                cells[place].first ^= address;
                cells[place].check ^= check(hash);
            }
        });
        for cell in &mut cells {
            cell.last = cell.first;
        }
    } else {
        each_range(elements, |(first, last)| {
            let hash = hash((first, last), seed);
            let element = Cell {
                first,
                last,
                check: check(hash),
            };
            for place in places(hash) {
                cells[place].toggle(element);
            }
        });
    }
    cells
}

/// Returns the cells of an element, one of each part.
fn places(hash: u64) -> [usize; PARTS] {
    let mask = (1 << PART_BITS) - 1;
    // Fits on every machine: it is less than CELLS.
    let hash = hash >> (u64::BITS as usize - PARTS * PART_BITS);
    std::array::from_fn(|part| {
        let place = hash >> (part * PART_BITS) & mask;
        part << PART_BITS | usize::try_from(place).unwrap_or_default()
    })
}

/// Odd multipliers with about half of their bits set.
const MIX: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
];

/// Returns the cell of an element. The hash is fast rather than strong: the digest verifies the result.
fn hash((first, last): (u128, u128), seed: u128) -> u64 {
    let ((first, first_high), (last, last_high)) = (halves(first), halves(last));
    let (seed, seed_high) = halves(seed);
    let low = fold(first ^ seed, last ^ seed_high ^ MIX[0]);
    let high = fold(first_high ^ seed_high ^ MIX[1], last_high ^ seed);
    fold(low ^ MIX[2], high ^ MIX[1])
}

/// Returns the check sum of an element, from its hash.
fn check(hash: u64) -> u64 {
    fold(hash ^ MIX[0], MIX[2])
}

fn fold(a: u64, b: u64) -> u64 {
    let (low, high) = halves(u128::from(a) * u128::from(b));
    low ^ high
}

/// Returns the lower and the upper half.
fn halves(number: u128) -> (u64, u64) {
    let part = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    (part(number), part(number >> u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::Interval;
    use proptest::prelude::*;

    const SEED: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

    fn addresses(range: std::ops::Range<u32>) -> Elements {
        Elements::Ipv4(range.map(|n| n * 7).collect())
    }

    /// Returns a difference that was decoded, after a look at the sketch that comes with it.
    fn delta(from: &Sketch, to: &Elements) -> Option<Delta> {
        match from.compare(to) {
            Comparison::Same => Some(Delta {
                removed: like(to, BTreeSet::new())?,
                added: like(to, BTreeSet::new())?,
            }),
            Comparison::Changed(delta, sketch) => {
                assert_eq!(Some(*sketch), Sketch::of(to, from.seed));
                Some(delta)
            }
            Comparison::TooFar => None,
        }
    }

    fn found(from: &Elements, to: &Elements) -> Option<Delta> {
        delta(&Sketch::of(from, SEED).unwrap(), to)
    }

    #[test]
    fn a_handful_of_changes_is_found_and_a_flood_is_not() {
        let from = addresses(0..100_000);
        for changed in [0, 1, 100, 1_000] {
            let to = addresses(changed / 2..100_000 + changed.div_ceil(2));
            let delta = found(&from, &to).unwrap();
            assert_eq!(Some(delta), Delta::between(&from, &to), "{changed}");
        }
        assert_eq!(found(&from, &addresses(50_000..150_000)), None);
        assert_eq!(found(&from, &Elements::Ipv4(Vec::new())), None);
    }

    #[test]
    fn a_sketch_of_other_elements_is_not_believed() {
        let from = addresses(0..10_000);
        let mut sketch = Sketch::of(&from, SEED).unwrap();
        assert!(sketch.is_of(&from));
        assert!(!sketch.is_of(&addresses(1..10_001)));
        sketch.digest ^= 1;
        assert_eq!(delta(&sketch, &addresses(5..10_005)), None);
    }

    fn any_elements() -> impl Strategy<Value = (Elements, Elements)> {
        let wide = || proptest::collection::btree_set(any::<u128>(), 0..200);
        let narrow = || proptest::collection::btree_set(any::<u32>(), 0..200);
        let pairs6 = |all: BTreeSet<u128>| {
            let all: Vec<_> = all.into_iter().collect();
            Elements::Ipv6Ranges(
                all.chunks_exact(2)
                    .map(|pair| Interval::new(pair[0], pair[1]))
                    .collect(),
            )
        };
        let pairs4 = |all: BTreeSet<u32>| {
            let all: Vec<_> = all.into_iter().collect();
            Elements::Ipv4Ranges(
                all.chunks_exact(2)
                    .map(|pair| Interval::new(pair[0], pair[1]))
                    .collect(),
            )
        };
        let list4 = |all: BTreeSet<u32>| Elements::Ipv4(all.into_iter().collect());
        let list6 = |all: BTreeSet<u128>| Elements::Ipv6(all.into_iter().collect());
        prop_oneof![
            (wide(), wide()).prop_map(move |(a, b)| (list6(a), list6(b))),
            (wide(), wide()).prop_map(move |(a, b)| (pairs6(a), pairs6(b))),
            (narrow(), narrow()).prop_map(move |(a, b)| (list4(a), list4(b))),
            (narrow(), narrow()).prop_map(move |(a, b)| (pairs4(a), pairs4(b))),
        ]
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_difference((from, to) in any_elements(), seed in any::<u128>()) {
            // Two elements can be in the same four cells, once in a million cases; not under each seed.
            let mut found = Vec::new();
            for seed in [seed, !seed, seed.rotate_left(64) ^ 1] {
                let sketch = Sketch::of(&from, seed).unwrap();
                let read = Sketch::read(&sketch.header(), &sketch.table(&from), &from).unwrap();
                prop_assert_eq!(&read, &sketch);
                found.extend(delta(&read, &to));
            }
            prop_assert!(!found.is_empty());
            for delta in found {
                prop_assert_eq!(Some(delta), Delta::between(&from, &to));
            }
        }

        #[test]
        fn no_bytes_do_harm(
            header in proptest::collection::vec(any::<u8>(), 0..60),
            table in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let all = Elements::Ipv4(Vec::new());
            prop_assert!(Sketch::read(&header, &table, &all).is_none());
        }
    }
}
