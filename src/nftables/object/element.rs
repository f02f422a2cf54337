//! Elements of sets and maps.
//!
//! An interval set holds, for a range, its first key and the key behind its last with
//! `NFT_SET_ELEM_INTERVAL_END`; the latter is missing where the range reaches the greatest key.

use crate::netlink::message::{Attributes, CREATE, Malformed, Writer};
use crate::ruleset::{Counted, Counter, Elements, L4Protocol, TABLE, Verdict};

use super::super::expression::{padded, unpadded};
use super::super::instruction::{Instruction, decode_verdict, encode_verdict, value};
use super::super::message::message;
use super::super::number::*;
use super::userdata::{user_comment, user_text};

/// How many bytes of elements go into one message: below 64 KiB by the longest element there is,
/// one with a verdict to a chain of 255 bytes, twice.
const LIST_MAX: usize = 65_535 - 1_024;

/// The type of a set's elements, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// nft's number for the type of the keys.
    pub(super) key_type: u32,
    /// The length of a key in bytes.
    pub(super) key_length: u32,
    /// Whether elements are ranges.
    pub(super) interval: bool,
    /// Whether it is a map to verdicts.
    pub(super) verdicts: bool,
    /// Whether each element counts.
    pub(super) counters: bool,
}

/// A concatenated key: the types of its parts, each of which takes up whole registers of 4 bytes.
const PORT_IPADDR: u32 = TYPE_INET_SERVICE << TYPE_BITS | TYPE_IPADDR;
const PORT_IP6ADDR: u32 = TYPE_INET_SERVICE << TYPE_BITS | TYPE_IP6ADDR;
const PROTOCOL_PORT: u32 = TYPE_INET_PROTOCOL << TYPE_BITS | TYPE_INET_SERVICE;

impl Form {
    pub(super) fn of(elements: &Elements) -> Self {
        let (key_type, key_length, interval, verdicts) = match elements {
            Elements::Ipv4(_) => (TYPE_IPADDR, 4, false, false),
            Elements::Ipv4Ranges(_) => (TYPE_IPADDR, 4, true, false),
            Elements::Ipv6(_) => (TYPE_IP6ADDR, 16, false, false),
            Elements::Ipv6Ranges(_) => (TYPE_IP6ADDR, 16, true, false),
            Elements::Interfaces(_) => (TYPE_IFNAME, 16, false, false),
            Elements::PortIpv4(_) => (PORT_IPADDR, 8, false, false),
            Elements::PortIpv6(_) => (PORT_IP6ADDR, 20, false, false),
            Elements::PortCounters(_) => (PROTOCOL_PORT, 8, false, false),
            Elements::PortVerdicts(_) => (TYPE_INET_SERVICE, 2, true, true),
            Elements::PortIpv4Verdicts(_) => (PORT_IPADDR, 8, false, true),
            Elements::PortIpv6Verdicts(_) => (PORT_IP6ADDR, 20, false, true),
            Elements::Ipv4Verdicts(_) => (TYPE_IPADDR, 4, false, true),
            Elements::Ipv6Verdicts(_) => (TYPE_IP6ADDR, 16, false, true),
        };
        Self {
            key_type,
            key_length,
            interval,
            verdicts,
            counters: matches!(elements, Elements::PortCounters(_)),
        }
    }

    /// No elements of this form; `None` if dfw never writes it.
    pub(super) fn empty(self) -> Option<Elements> {
        [
            Elements::Ipv4(Vec::new()),
            Elements::Ipv4Ranges(Vec::new()),
            Elements::Ipv6(Vec::new()),
            Elements::Ipv6Ranges(Vec::new()),
            Elements::Interfaces(Vec::new()),
            Elements::PortIpv4(Vec::new()),
            Elements::PortIpv6(Vec::new()),
            Elements::PortCounters(Vec::new()),
            Elements::PortVerdicts(Vec::new()),
            Elements::PortIpv4Verdicts(Vec::new()),
            Elements::PortIpv6Verdicts(Vec::new()),
            Elements::Ipv4Verdicts(Vec::new()),
            Elements::Ipv6Verdicts(Vec::new()),
        ]
        .into_iter()
        .find(|elements| Self::of(elements) == self)
    }

    pub(super) fn flags(self) -> u32 {
        let interval = if self.interval { NFT_SET_INTERVAL } else { 0 };
        interval | if self.verdicts { NFT_SET_MAP } else { 0 }
    }

    /// For nft, so that it prints keys and not bytes.
    pub(super) fn byte_order(self) -> u32 {
        match self.key_type {
            TYPE_IFNAME => BYTEORDER_HOST_ENDIAN,
            PORT_IPADDR | PORT_IP6ADDR | PROTOCOL_PORT => BYTEORDER_INVALID,
            _ => BYTEORDER_BIG_ENDIAN,
        }
    }
}

/// Writes one message that adds as many elements to a set as fit, beginning with the `next`th; returns
/// where the message starts and the element that comes next. Those that count begin with what `counted`
/// says.
pub(crate) fn create(
    w: &mut Writer,
    sequence: u32,
    set: &str,
    (elements, counted): (&Elements, Option<&Counted>),
    next: usize,
) -> (usize, usize) {
    let mut after = next;
    let start = list_message(w, (NFT_MSG_NEWSETELEM, CREATE), sequence, set, |w| {
        after = encode(w, elements, counted, next);
    });
    (start, after)
}

/// Writes one message that takes away elements of a set, in the same way.
pub(crate) fn delete(
    w: &mut Writer,
    sequence: u32,
    set: &str,
    elements: &Elements,
    next: usize,
) -> (usize, usize) {
    let mut after = next;
    let start = list_message(w, (NFT_MSG_DELSETELEM, 0), sequence, set, |w| {
        after = encode(w, elements, None, next);
    });
    (start, after)
}

/// Writes the message that takes away all elements of a set.
pub(crate) fn delete_all(w: &mut Writer, sequence: u32, set: &str) -> usize {
    message(w, NFT_MSG_DELSETELEM, 0, sequence, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.string(NFTA_SET_ELEM_LIST_SET, set);
    })
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

/// Writes elements from the `next`th on until the list is full; returns the one that comes next.
/// Those that count begin with what `counted` says.
pub(super) fn encode(
    w: &mut Writer,
    elements: &Elements,
    counted: Option<&Counted>,
    next: usize,
) -> usize {
    match elements {
        Elements::Ipv4(v) => list(w, v, next, |w, a| key(w, &a.to_be_bytes(), None)),
        Elements::Ipv4Ranges(v) => list(w, v, next, |w, (first, last)| {
            let end = last.checked_add(1).map(u32::to_be_bytes);
            range(w, &first.to_be_bytes(), end.as_ref(), None);
        }),
        Elements::Ipv6(v) => list(w, v, next, |w, a| key(w, &a.to_be_bytes(), None)),
        Elements::Ipv6Ranges(v) => list(w, v, next, |w, (first, last)| {
            let end = last.checked_add(1).map(u128::to_be_bytes);
            range(w, &first.to_be_bytes(), end.as_ref(), None);
        }),
        Elements::Interfaces(v) => list(w, v, next, |w, name| key(w, &padded(name), None)),
        Elements::PortIpv4(v) => list(w, v, next, |w, (port, a)| {
            key(w, &beside_port(*port, &a.to_be_bytes()), None);
        }),
        Elements::PortIpv6(v) => list(w, v, next, |w, (port, a)| {
            key(w, &beside_port(*port, &a.to_be_bytes()), None);
        }),
        Elements::PortCounters(v) => list(w, v, next, |w, (protocol, port, comment)| {
            let [high, low] = port.to_be_bytes();
            let bytes = [protocol.number(), 0, 0, 0, high, low, 0, 0];
            let counted = counted.and_then(|all| all.get(&(*protocol, *port)));
            w.nest(NFTA_LIST_ELEM, |w| {
                w.nest(NFTA_SET_ELEM_KEY, |w| w.attribute(NFTA_DATA_VALUE, &bytes));
                if let Some(comment) = comment {
                    let user = user_text(NFTNL_UDATA_SET_ELEM_COMMENT, comment);
                    w.attribute(NFTA_SET_ELEM_USERDATA, &user);
                }
                // Without one the kernel takes the set's own, which begins with nothing.
                if let Some(start) = counted {
                    Instruction::encode_counter(w, NFTA_SET_ELEM_EXPR, *start);
                }
            });
        }),
        Elements::PortVerdicts(v) => list(w, v, next, |w, (first, last, verdict)| {
            let end = last.checked_add(1).map(u16::to_be_bytes);
            range(w, &first.to_be_bytes(), end.as_ref(), Some(verdict));
        }),
        Elements::PortIpv4Verdicts(v) => list(w, v, next, |w, (port, a, verdict)| {
            key(w, &beside_port(*port, &a.to_be_bytes()), Some(verdict));
        }),
        Elements::PortIpv6Verdicts(v) => list(w, v, next, |w, (port, a, verdict)| {
            key(w, &beside_port(*port, &a.to_be_bytes()), Some(verdict));
        }),
        Elements::Ipv4Verdicts(v) => list(w, v, next, |w, (a, verdict)| {
            key(w, &a.to_be_bytes(), Some(verdict));
        }),
        Elements::Ipv6Verdicts(v) => list(w, v, next, |w, (a, verdict)| {
            key(w, &a.to_be_bytes(), Some(verdict));
        }),
    }
}

fn list<T>(w: &mut Writer, all: &[T], next: usize, write: impl Fn(&mut Writer, &T)) -> usize {
    let limit = w.bytes().len() + LIST_MAX;
    let mut after = next;
    for element in all.get(next..).unwrap_or_default() {
        if w.bytes().len() >= limit {
            break;
        }
        write(w, element);
        after += 1;
    }
    after
}

fn key(w: &mut Writer, key: &[u8], verdict: Option<&Verdict>) {
    w.nest(NFTA_LIST_ELEM, |w| {
        w.nest(NFTA_SET_ELEM_KEY, |w| w.attribute(NFTA_DATA_VALUE, key));
        if let Some(verdict) = verdict {
            w.nest(NFTA_SET_ELEM_DATA, |w| encode_verdict(w, verdict));
        }
    });
}

fn range<const N: usize>(
    w: &mut Writer,
    first: &[u8; N],
    end: Option<&[u8; N]>,
    verdict: Option<&Verdict>,
) {
    key(w, first, verdict);
    if let Some(end) = end {
        w.nest(NFTA_LIST_ELEM, |w| {
            w.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            w.nest(NFTA_SET_ELEM_KEY, |w| w.attribute(NFTA_DATA_VALUE, end));
        });
    }
}

/// A port and what stands beside it, as a key.
fn beside_port(port: u16, other: &[u8]) -> Vec<u8> {
    [&port.to_be_bytes(), &[0, 0], other].concat()
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
}

/// Collects the elements of one set over the messages of a dump, which come in any order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    read: Vec<Read>,
    foreign: bool,
}

impl Collector {
    /// Takes one list of elements.
    pub(crate) fn add(&mut self, list: &[u8]) -> Result<(), Malformed> {
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
            // Timeouts, catch-all and whatever else dfw never writes.
            let known = |kind: usize| {
                [
                    NFTA_SET_ELEM_KEY,
                    NFTA_SET_ELEM_DATA,
                    NFTA_SET_ELEM_FLAGS,
                    NFTA_SET_ELEM_USERDATA,
                    NFTA_SET_ELEM_EXPR,
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
                }),
                _ => self.foreign = true,
            }
        }
        Ok(())
    }

    /// Whether any element counts.
    pub(crate) fn has_counters(&self) -> bool {
        self.read.iter().any(|read| read.counter.is_some())
    }

    /// What was counted.
    pub(crate) fn counted(&self) -> Counted {
        let read = self.read.iter();
        let counted = read.filter_map(|e| Some((protocol_and_port(&e.key)?, e.counter?)));
        counted.collect()
    }

    /// The elements as those of the type of others, and whether they are written as dfw writes them, so that they
    /// can be taken away one by one; `None` if something among them is not dfw's.
    pub(crate) fn finish(mut self, like: &Elements) -> Option<(Elements, bool)> {
        let form = Form::of(like);
        // Only some sets count, and only those have comments at their elements.
        let more = |read: &Read| read.counter.is_some() || read.comment.is_some();
        if self.foreign || !form.counters && self.read.iter().any(more) {
            return None;
        }
        self.read.sort_unstable();
        let read = self.read;
        let exact = !form.interval || starts_and_ends(&read);
        let elements = match form.empty()? {
            Elements::Ipv4(_) => Elements::Ipv4(keys(&read, u32::read)?),
            Elements::Ipv6(_) => Elements::Ipv6(keys(&read, u128::read)?),
            Elements::Interfaces(_) => Elements::Interfaces(keys(&read, unpadded)?),
            Elements::PortIpv4(_) => Elements::PortIpv4(keys(&read, port_and)?),
            Elements::PortIpv6(_) => Elements::PortIpv6(keys(&read, port_and)?),
            Elements::PortCounters(_) => {
                let all = read.iter().map(|e| {
                    let (protocol, port) = protocol_and_port(&e.key)?;
                    Some((protocol, port, e.comment.clone()))
                });
                Elements::PortCounters(all.collect::<Option<_>>()?)
            }
            Elements::PortIpv4Verdicts(_) => {
                let all = verdicts(&read, port_and)?.into_iter();
                Elements::PortIpv4Verdicts(all.map(|((port, a), to)| (port, a, to)).collect())
            }
            Elements::PortIpv6Verdicts(_) => {
                let all = verdicts(&read, port_and)?.into_iter();
                Elements::PortIpv6Verdicts(all.map(|((port, a), to)| (port, a, to)).collect())
            }
            Elements::Ipv4Verdicts(_) => Elements::Ipv4Verdicts(verdicts(&read, u32::read)?),
            Elements::Ipv6Verdicts(_) => Elements::Ipv6Verdicts(verdicts(&read, u128::read)?),
            Elements::Ipv4Ranges(_) => Elements::Ipv4Ranges(plain(ranges(&read)?)?),
            Elements::Ipv6Ranges(_) => Elements::Ipv6Ranges(plain(ranges(&read)?)?),
            Elements::PortVerdicts(_) => {
                let all = ranges(&read)?.into_iter();
                let all = all.map(|(first, last, verdict)| Some((first, last, verdict?)));
                Elements::PortVerdicts(all.collect::<Option<_>>()?)
            }
        };
        Some((elements, exact))
    }
}

/// A key that is a number, big-endian on the wire.
trait Number: Copy {
    const MAX: Self;
    fn read(key: &[u8]) -> Option<Self>;
    fn before(self) -> Option<Self>;
}

macro_rules! number {
    ($($kind:ty),+) => {
        $(impl Number for $kind {
            const MAX: Self = <$kind>::MAX;

            fn read(key: &[u8]) -> Option<Self> {
                key.try_into().map(<$kind>::from_be_bytes).ok()
            }

            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }
        })+
    };
}

number!(u16, u32, u128);

/// A port and the number beside it.
fn port_and<T: Number>(key: &[u8]) -> Option<(u16, T)> {
    let ([high, low, 0, 0], rest) = key.split_first_chunk::<4>()? else {
        return None;
    };
    Some((u16::from_be_bytes([*high, *low]), T::read(rest)?))
}

fn protocol_and_port(key: &[u8]) -> Option<(L4Protocol, u16)> {
    let [protocol, 0, 0, 0, high, low, 0, 0] = key else {
        return None;
    };
    let mut all = L4Protocol::ALL.into_iter();
    let protocol = all.find(|known| known.number() == *protocol)?;
    Some((protocol, u16::from_be_bytes([*high, *low])))
}

fn keys<T>(read: &[Read], key: impl Fn(&[u8]) -> Option<T>) -> Option<Vec<T>> {
    read.iter()
        .map(|e| {
            if e.starts && e.verdict.is_none() {
                key(&e.key)
            } else {
                None
            }
        })
        .collect()
}

fn verdicts<T>(read: &[Read], key: impl Fn(&[u8]) -> Option<T>) -> Option<Vec<(T, Verdict)>> {
    read.iter()
        .map(|e| {
            if e.starts {
                Some((key(&e.key)?, e.verdict.clone()?))
            } else {
                None
            }
        })
        .collect()
}

/// Whether each start has an end and each end a start, but for the end of the last range.
fn starts_and_ends(read: &[Read]) -> bool {
    // An end in front of everything, which nft writes, is in nobody's way.
    let nothing = read
        .first()
        .is_some_and(|e| !e.starts && e.key.iter().all(|byte| *byte == 0));
    let rest = &read[usize::from(nothing)..];
    rest.iter()
        .zip([true, false].into_iter().cycle())
        .all(|(e, start)| e.starts == start)
}

/// Puts starts and ends together. nft writes an end before everything as well, at key 0, which
/// says nothing.
fn ranges<T: Number>(read: &[Read]) -> Option<Vec<(T, T, Option<Verdict>)>> {
    let mut ranges = Vec::new();
    let mut open: Option<(T, Option<Verdict>)> = None;
    for element in read {
        let at = T::read(&element.key)?;
        match (element.starts, open.take()) {
            (true, None) => open = Some((at, element.verdict.clone())),
            // The next range starts where this one ends, and its end was left out.
            (true, Some((first, verdict))) => {
                ranges.push((first, at.before()?, verdict));
                open = Some((at, element.verdict.clone()));
            }
            (false, Some((first, verdict))) => ranges.push((first, at.before()?, verdict)),
            (false, None) => {}
        }
    }
    if let Some((first, verdict)) = open {
        ranges.push((first, T::MAX, verdict));
    }
    Some(ranges)
}

fn plain<T>(ranges: Vec<(T, T, Option<Verdict>)>) -> Option<Vec<(T, T)>> {
    ranges
        .into_iter()
        .map(|(first, last, verdict)| verdict.is_none().then_some((first, last)))
        .collect()
}
