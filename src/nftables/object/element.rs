//! Elements of sets and maps.
//!
//! An interval set holds, for a range, its first key and the key behind its last with
//! `NFT_SET_ELEM_INTERVAL_END`; the latter is missing where the range reaches the greatest key.
//!
//! An element that expires has the time that it has left, when it is written and when it is read, so both need the
//! time since boot.

use core::time::Duration;

use crate::netlink::message::{Attributes, CREATE, Malformed, Writer};
use crate::ruleset::{
    Counted, Counter, Elements, Field, Key, L4Protocol, Parts, Row, TABLE, Value, Verdict,
    with_rows,
};

use super::super::expression::{padded, unpadded};
use super::super::instruction::{Instruction, decode_verdict, encode_verdict, value};
use super::super::message::message;
use super::super::number::*;
use super::userdata::{user_comment, user_text};

/// How many bytes of elements go into one message: below 64 KiB by the longest element there is,
/// one with a verdict to a chain of 255 bytes, twice.
const LIST_MAX: usize = 65_535 - 1_024;

/// The most bytes that a key of two fields has.
const KEY_MAX: usize = 32;

/// Elements with less time left are not written: the kernel counts in jiffies, of which there are at least 100 in a
/// second, and takes 0 of them for no timeout at all.
const SHORTEST: Duration = Duration::from_millis(50);

/// Writes one message that adds as many elements to a set as fit, beginning with the `next`th; returns where
/// the message starts and the element that comes next. Elements with counters start at the values in
/// `counted`.
pub(crate) fn create(
    w: &mut Writer,
    sequence: u32,
    set: &str,
    (elements, counted): (&Elements, Option<&Counted>),
    now: Duration,
    next: usize,
) -> (usize, usize) {
    let mut after = next;
    let start = list_message(w, (NFT_MSG_NEWSETELEM, CREATE), sequence, set, |w| {
        after = with_rows!(elements, rows => encode(w, rows, counted, Some(now), next));
    });
    (start, after)
}

/// Writes one message that deletes elements of a set, in the same way.
pub(crate) fn delete(
    w: &mut Writer,
    sequence: u32,
    set: &str,
    elements: &Elements,
    next: usize,
) -> (usize, usize) {
    let mut after = next;
    let start = list_message(w, (NFT_MSG_DELSETELEM, 0), sequence, set, |w| {
        after = with_rows!(elements, rows => encode(w, rows, None, None, next));
    });
    (start, after)
}

/// Writes the message that deletes all elements of a set.
pub(crate) fn delete_all(w: &mut Writer, sequence: u32, set: &str) -> usize {
    message(w, NFT_MSG_DELSETELEM, 0, sequence, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.string(NFTA_SET_ELEM_LIST_SET, set);
    })
}

/// Returns the number of elements in a list as it was read.
pub(crate) fn count(list: &[u8]) -> Result<u32, Malformed> {
    Attributes::new(list).try_fold(0, |count, element| element.map(|_| count + 1))
}

/// Writes a message about a list of elements of a set; returns where it starts.
pub(super) fn list_message(
    w: &mut Writer,
    (kind, flags): (u16, u16),
    sequence: u32,
    set: &str,
    list: impl FnOnce(&mut Writer),
) -> usize {
    message(w, kind, flags, sequence, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.string(NFTA_SET_ELEM_LIST_SET, set);
        w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, list);
    })
}

/// Writes elements from the `next`th on until the list is full; returns the one that comes next. Elements
/// with counters start at the values in `counted`. `now` is the time since boot; without it no time that is left is
/// written.
fn encode<R: Row>(
    w: &mut Writer,
    rows: &[R],
    counted: Option<&Counted>,
    now: Option<Duration>,
    next: usize,
) -> usize {
    let limit = w.bytes().len() + LIST_MAX;
    let mut after = next;
    for row in rows.get(next..).unwrap_or_default() {
        if w.bytes().len() >= limit {
            break;
        }
        let left = row.end().zip(now);
        let left = left.map(|(end, now)| end.saturating_sub(now));
        if left.is_none_or(|left| left >= SHORTEST) {
            encode_row(w, row, counted, left);
        }
        after += 1;
    }
    after
}

fn encode_row<R: Row>(w: &mut Writer, row: &R, counted: Option<&Counted>, left: Option<Duration>) {
    let values = row.first().values();
    w.nest(NFTA_LIST_ELEM, |w| {
        encode_key(w, values.as_ref());
        if let Some(verdict) = row.verdict() {
            w.nest(NFTA_SET_ELEM_DATA, |w| encode_verdict(w, verdict));
        }
        if let Some(left) = left {
            let milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            w.be64(NFTA_SET_ELEM_TIMEOUT, milliseconds);
        }
        if let Some(comment) = row.comment() {
            let user = user_text(NFTNL_UDATA_SET_ELEM_COMMENT, comment);
            w.attribute(NFTA_SET_ELEM_USERDATA, &user);
        }
        // Without one the kernel uses the counter of the set, which starts at 0.
        if R::COUNTING
            && let [Value::Protocol(protocol), Value::Port(port)] = values.as_ref()
            && let Some(start) = counted.and_then(|all| all.get(&(*protocol, *port)))
        {
            Instruction::encode_counter(w, NFTA_SET_ELEM_EXPR, *start);
        }
    });
    if R::INTERVAL
        && let [last] = row.last().values().as_ref()
        && let Some(end) = last.next()
    {
        w.nest(NFTA_LIST_ELEM, |w| {
            w.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            encode_key(w, &[end]);
        });
    }
}

fn encode_key(w: &mut Writer, values: &[Value<'_>]) {
    let (mut key, mut length) = ([0; KEY_MAX], 0);
    for value in values {
        let mut put = |bytes: &[u8]| {
            if let Some(place) = key.get_mut(length..length + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        match value {
            Value::Ipv4(number) => put(&number.to_be_bytes()),
            Value::Ipv6(number) => put(&number.to_be_bytes()),
            Value::Port(number) => put(&number.to_be_bytes()),
            Value::Protocol(protocol) => put(&[protocol.number()]),
            Value::Interface(name) => put(&padded(name)),
        }
        length += field_length(value.field(), values.len());
    }
    w.nest(NFTA_SET_ELEM_KEY, |w| {
        w.attribute(NFTA_DATA_VALUE, key.get(..length).unwrap_or_default());
    });
}

/// Returns how many bytes a key of these fields has.
pub(super) fn key_length(fields: &[Field]) -> usize {
    let lengths = fields.iter();
    lengths
        .map(|field| field_length(*field, fields.len()))
        .sum()
}

/// Returns the size of a field in a key of this many fields, in bytes; in a concatenation it is padded to 4.
fn field_length(field: Field, fields: usize) -> usize {
    let length = own_length(field);
    if fields > 1 {
        length.next_multiple_of(4)
    } else {
        length
    }
}

fn own_length(field: Field) -> usize {
    match field {
        Field::Ipv4 => 4,
        Field::Ipv6 | Field::Interface => 16,
        Field::Port => 2,
        Field::Protocol => 1,
    }
}

/// Reads a key; `None` if it is none of these fields.
fn decode_key<K: Key>(key: &[u8]) -> Option<K> {
    let (mut values, mut rest) = ([Value::Port(0); 2], key);
    let places = values.get_mut(..K::FIELDS.len())?;
    for (value, field) in places.iter_mut().zip(K::FIELDS) {
        let (place, behind) = rest.split_at_checked(field_length(*field, K::FIELDS.len()))?;
        let (own, padding) = place.split_at_checked(own_length(*field))?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        *value = match field {
            Field::Ipv4 => Value::Ipv4(u32::from_be_bytes(own.try_into().ok()?)),
            Field::Ipv6 => Value::Ipv6(u128::from_be_bytes(own.try_into().ok()?)),
            Field::Port => Value::Port(u16::from_be_bytes(own.try_into().ok()?)),
            Field::Protocol => {
                let mut all = L4Protocol::ALL.into_iter();
                Value::Protocol(all.find(|known| own == [known.number()])?)
            }
            Field::Interface => Value::Interface(unpadded(own)?),
        };
        rest = behind;
    }
    rest.is_empty().then(|| K::of_values(places))?
}

/// One element as it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    /// Big-endian, so that byte order is key order.
    key: Vec<u8>,
    /// Before the start of the next range at the same key.
    starts: bool,
    verdict: Option<Verdict>,
    comment: Option<String>,
    counter: Option<Counter>,
    end: Option<Duration>,
}

/// Collects the elements of one set over the messages of a dump, which come in any order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    read: Vec<Read>,
    foreign: bool,
}

impl Collector {
    /// Takes one list of elements, which was read at a time since boot.
    pub(crate) fn add(&mut self, list: &[u8], now: Duration) -> Result<(), Malformed> {
        for element in Attributes::new(list) {
            let table = element?.nested().table::<16>()?;
            let flags = table[usize::from(NFTA_SET_ELEM_FLAGS)].map_or(Ok(0), |f| f.be32())?;
            let key = table[usize::from(NFTA_SET_ELEM_KEY)]
                .as_ref()
                .and_then(value);
            let data = table[usize::from(NFTA_SET_ELEM_DATA)];
            let verdict = data.as_ref().and_then(decode_verdict);
            let counter = table[usize::from(NFTA_SET_ELEM_EXPR)];
            let counter = counter.as_ref().map(Instruction::counter_values);
            let comment = user_comment(
                table[usize::from(NFTA_SET_ELEM_USERDATA)],
                NFTNL_UDATA_SET_ELEM_COMMENT,
            );
            // What was never in the kernel has only the whole time.
            let left = table[usize::from(NFTA_SET_ELEM_EXPIRATION)]
                .or(table[usize::from(NFTA_SET_ELEM_TIMEOUT)]);
            let left = left.map(|left| left.be64()).transpose()?;
            // Catch-all and whatever else dfw never writes.
            let known = |kind: usize| {
                [
                    NFTA_SET_ELEM_KEY,
                    NFTA_SET_ELEM_DATA,
                    NFTA_SET_ELEM_FLAGS,
                    NFTA_SET_ELEM_USERDATA,
                    NFTA_SET_ELEM_EXPR,
                    NFTA_SET_ELEM_TIMEOUT,
                    NFTA_SET_ELEM_EXPIRATION,
                ]
                .contains(&u16::try_from(kind).unwrap_or(u16::MAX))
            };
            let more = table
                .iter()
                .enumerate()
                .any(|(kind, a)| a.is_some() && !known(kind));
            let odd = flags & !NFT_SET_ELEM_INTERVAL_END != 0
                || data.is_some() != verdict.is_some()
                || counter == Some(None)
                || comment.is_some() != table[usize::from(NFTA_SET_ELEM_USERDATA)].is_some();
            match key {
                Some(key) if !more && !odd => self.read.push(Read {
                    key: key.to_vec(),
                    starts: flags & NFT_SET_ELEM_INTERVAL_END == 0,
                    verdict,
                    comment,
                    counter: counter.flatten(),
                    end: left.map(|left| now.saturating_add(Duration::from_millis(left))),
                }),
                _ => self.foreign = true,
            }
        }
        Ok(())
    }

    /// Returns whether any element has a counter.
    pub(crate) fn has_counters(&self) -> bool {
        self.read.iter().any(|read| read.counter.is_some())
    }

    /// Returns the counters.
    pub(crate) fn counted(&self) -> Counted {
        let read = self.read.iter();
        let counted = read.filter_map(|e| Some((decode_key(&e.key)?, e.counter?)));
        counted.collect()
    }

    /// Returns the elements, in the type of `of`, and whether they are encoded as dfw encodes them, so
    /// that they can be deleted one by one; `None` if there are foreign elements.
    pub(crate) fn finish(mut self, like: &Elements) -> Option<(Elements, bool)> {
        let of = like.set_type();
        // Only sets with counters have comments at their elements.
        let more = |read: &Read| read.counter.is_some() || read.comment.is_some();
        // Of an interval, only the start may have a timeout.
        let lasts = |read: &Read| read.end.is_none() == (of.expiring && read.starts);
        if self.foreign || !of.counting && self.read.iter().any(more) || self.read.iter().any(lasts)
        {
            return None;
        }
        self.read.sort_unstable();
        let exact = !of.interval || starts_and_ends(&self.read);
        let elements = with_rows!(like, rows => Elements::from(decode_rows(rows, self.read)?));
        Some((elements, exact))
    }
}

/// Rows of the type of others.
fn decode_rows<R: Row>(_: &[R], read: Vec<Read>) -> Option<Vec<R>> {
    if R::INTERVAL {
        return decode_ranges(read);
    }
    let row = |element: Read| {
        let parts = Parts {
            first: decode_key(&element.key)?,
            last: None,
            verdict: element.verdict,
            comment: element.comment,
            end: element.end,
        };
        element.starts.then(|| R::of_parts(parts))?
    };
    read.into_iter().map(row).collect()
}

/// Returns whether each start has an end and each end a start, but for the end of the last range.
fn starts_and_ends(read: &[Read]) -> bool {
    // nft writes an interval end before the first key, which is harmless.
    let nothing = read
        .first()
        .is_some_and(|e| !e.starts && e.key.iter().all(|byte| *byte == 0));
    let rest = &read[usize::from(nothing)..];
    rest.iter()
        .zip([true, false].into_iter().cycle())
        .all(|(e, start)| e.starts == start)
}

/// Puts starts and ends together. nft also writes an interval end at key 0, which has no meaning.
fn decode_ranges<R: Row>(read: Vec<Read>) -> Option<Vec<R>> {
    let mut rows = Vec::new();
    let mut open: Option<(R::Key, Read)> = None;
    for element in read {
        let at: R::Key = decode_key(&element.key)?;
        if let Some(start) = open.take() {
            // The end is omitted where the next range starts.
            let before = at.values().as_ref().first()?.previous()?;
            let last = R::Key::of_values(&[before])?;
            rows.push(range(start, last)?);
        }
        if element.starts {
            open = Some((at, element));
        }
    }
    if let Some(start) = open {
        let [field] = R::Key::FIELDS else {
            return None;
        };
        let last = R::Key::of_values(&[Value::greatest(*field)?])?;
        rows.push(range(start, last)?);
    }
    Some(rows)
}

fn range<R: Row>((first, start): (R::Key, Read), last: R::Key) -> Option<R> {
    R::of_parts(Parts {
        first,
        last: Some(last),
        verdict: start.verdict,
        comment: start.comment,
        end: start.end,
    })
}
