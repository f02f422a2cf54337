//! Rows of sets: keys and intervals, with a verdict, a counter or an end, and keys that rules add.

use core::time::Duration;
use std::fmt;

use super::super::Verdict;
use super::key::{Key, Scalar};

/// The parts of a row of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<K> {
    /// The key, or the first key of an interval.
    pub first: K,
    /// The last key of an interval; `None` for a single key.
    pub last: Option<K>,
    /// The verdict of a map.
    pub verdict: Option<Verdict>,
    /// The comment of an element with a counter.
    pub comment: Option<String>,
    /// When the kernel removes the element, since boot; see [`Until`].
    pub end: Option<Duration>,
}

impl<K> Parts<K> {
    /// Returns the parts of a key or an interval, without verdict, comment and end.
    pub fn new(first: K, last: Option<K>) -> Self {
        Self {
            first,
            last,
            verdict: None,
            comment: None,
            end: None,
        }
    }
}

/// A row of a set.
pub trait Row: Clone + Ord + fmt::Debug {
    /// The type of its key.
    type Key: Key;
    /// Whether the row is an interval of keys.
    const INTERVAL: bool = false;
    /// Whether the row has a verdict.
    const MAP: bool = false;
    /// Whether the row has a counter.
    const COUNTING: bool = false;
    /// Whether the kernel removes the row at some time.
    const EXPIRING: bool = false;
    /// Whether a rule adds the row.
    const DYNAMIC: bool = false;

    /// Returns the key, or the first key of an interval.
    fn first(&self) -> &Self::Key;

    /// Returns the key, or the last key of an interval.
    fn last(&self) -> &Self::Key {
        self.first()
    }

    /// Returns the verdict of a map.
    fn verdict(&self) -> Option<&Verdict> {
        None
    }

    /// Returns the comment of an element with a counter.
    fn comment(&self) -> Option<&str> {
        None
    }

    /// Returns when the kernel removes the row, since boot.
    fn end(&self) -> Option<Duration> {
        None
    }

    /// Returns the row with these parts; `None` if rows of this type have others.
    fn of_parts(parts: Parts<Self::Key>) -> Option<Self>;
}

impl<K: Key> Row for K {
    type Key = K;

    fn first(&self) -> &K {
        self
    }

    fn of_parts(parts: Parts<K>) -> Option<Self> {
        match parts {
            Parts {
                first,
                last: None,
                verdict: None,
                comment: None,
                end: None,
            } => Some(first),
            _ => None,
        }
    }
}

/// An interval of keys, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval<K> {
    /// The first key.
    pub first: K,
    /// The last key.
    pub last: K,
}

impl<K> Interval<K> {
    /// Returns the interval from a first to a last key.
    pub const fn new(first: K, last: K) -> Self {
        Self { first, last }
    }
}

impl<K: Scalar> Row for Interval<K> {
    type Key = K;
    const INTERVAL: bool = true;

    fn first(&self) -> &K {
        &self.first
    }

    fn last(&self) -> &K {
        &self.last
    }

    fn of_parts(parts: Parts<K>) -> Option<Self> {
        match parts {
            Parts {
                first,
                last: Some(last),
                verdict: None,
                comment: None,
                end: None,
            } => Some(Self { first, last }),
            _ => None,
        }
    }
}

/// A key or an interval with a verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapTo<R> {
    /// The key.
    pub key: R,
    /// The verdict of a map.
    pub verdict: Verdict,
}

impl<R> MapTo<R> {
    /// Returns the row that maps a key to a verdict.
    pub const fn new(key: R, verdict: Verdict) -> Self {
        Self { key, verdict }
    }
}

impl<R: Row> Row for MapTo<R> {
    type Key = R::Key;
    const INTERVAL: bool = R::INTERVAL;
    const MAP: bool = true;
    const COUNTING: bool = R::COUNTING;
    const DYNAMIC: bool = R::DYNAMIC;

    fn first(&self) -> &R::Key {
        self.key.first()
    }

    fn last(&self) -> &R::Key {
        self.key.last()
    }

    fn verdict(&self) -> Option<&Verdict> {
        Some(&self.verdict)
    }

    fn comment(&self) -> Option<&str> {
        self.key.comment()
    }

    fn of_parts(mut parts: Parts<R::Key>) -> Option<Self> {
        let verdict = parts.verdict.take()?;
        let key = R::of_parts(parts)?;
        Some(Self { key, verdict })
    }
}

/// A key with a counter and a comment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counting<R> {
    /// The key.
    pub key: R,
    /// The place of the policy behind it ([`Origin`](crate::ruleset::Origin)).
    pub comment: Option<String>,
}

impl<R: Row> Row for Counting<R> {
    type Key = R::Key;
    const INTERVAL: bool = R::INTERVAL;
    const MAP: bool = R::MAP;
    const COUNTING: bool = true;
    const DYNAMIC: bool = R::DYNAMIC;

    fn first(&self) -> &R::Key {
        self.key.first()
    }

    fn last(&self) -> &R::Key {
        self.key.last()
    }

    fn verdict(&self) -> Option<&Verdict> {
        self.key.verdict()
    }

    fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    fn of_parts(mut parts: Parts<R::Key>) -> Option<Self> {
        let comment = parts.comment.take();
        let key = R::of_parts(parts)?;
        Some(Self { key, comment })
    }
}

/// A key or an interval that the kernel removes at a time (`NFTA_SET_ELEM_TIMEOUT`), with nobody running.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until<R> {
    /// The key.
    pub key: R,
    /// When it ends: the time since boot, of which a suspended machine counts, too (`CLOCK_BOOTTIME`).
    pub end: Duration,
}

impl<R> Until<R> {
    /// Returns the row that ends at a time since boot.
    pub const fn new(key: R, end: Duration) -> Self {
        Self { key, end }
    }
}

impl<R: Row> Row for Until<R> {
    type Key = R::Key;
    const INTERVAL: bool = R::INTERVAL;
    const MAP: bool = R::MAP;
    const COUNTING: bool = R::COUNTING;
    const DYNAMIC: bool = R::DYNAMIC;
    const EXPIRING: bool = true;

    fn first(&self) -> &R::Key {
        self.key.first()
    }

    fn last(&self) -> &R::Key {
        self.key.last()
    }

    fn verdict(&self) -> Option<&Verdict> {
        self.key.verdict()
    }

    fn comment(&self) -> Option<&str> {
        self.key.comment()
    }

    fn end(&self) -> Option<Duration> {
        Some(self.end)
    }

    fn of_parts(mut parts: Parts<R::Key>) -> Option<Self> {
        let end = parts.end.take()?;
        let key = R::of_parts(parts)?;
        Some(Self { key, end })
    }
}

/// A key that a rule adds for a packet, with the state of the rule's limit for it. A compiled ruleset has none, and
/// none is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Added<K>(pub K);

impl<K: Scalar> Row for Added<K> {
    type Key = K;
    const DYNAMIC: bool = true;

    fn first(&self) -> &K {
        &self.0
    }

    fn of_parts(parts: Parts<K>) -> Option<Self> {
        K::of_parts(parts).map(Self)
    }
}
