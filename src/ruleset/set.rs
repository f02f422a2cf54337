//! Sets and maps: keys of typed fields, and rows of them.
//!
//! A row is put together of few parts: a field ([`Scalar`]), two of them beside each other (a tuple), a
//! range of them ([`Interval`]), something that leads to a verdict ([`MapTo`]) or that counts
//! ([`Counting`]). A set is a column of rows of one such type, as small in memory as its parts. What
//! treats all types alike is written once for any [`Row`] and reached by `with_rows`; what means one
//! type names it. So a new type of set is one line of `kinds!`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{L4Protocol, Verdict};

/// A set, or a map to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its type and contents.
    pub elements: Elements,
    /// A comment: the place of the policy behind it ([`Origin`](super::Origin)), or what the set is for.
    pub comment: Option<String>,
}

/// The type of one field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A port of TCP, UDP or SCTP.
    Port,
    /// What follows the IP header.
    Protocol,
    /// The name of an interface.
    Interface,
}

impl Field {
    /// Its name in nft's language.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Port => "inet_service",
            Self::Protocol => "inet_proto",
            Self::Interface => "ifname",
        }
    }
}

/// The value of one field of a key; addresses as the numbers that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An IPv4 address.
    Ipv4(u32),
    /// An IPv6 address.
    Ipv6(u128),
    /// A port.
    Port(u16),
    /// A protocol.
    Protocol(L4Protocol),
    /// The name of an interface, 1 to 15 bytes.
    Interface(&'a str),
}

impl Value<'_> {
    /// The type of the field.
    #[must_use]
    pub fn field(self) -> Field {
        match self {
            Self::Ipv4(_) => Field::Ipv4,
            Self::Ipv6(_) => Field::Ipv6,
            Self::Port(_) => Field::Port,
            Self::Protocol(_) => Field::Protocol,
            Self::Interface(_) => Field::Interface,
        }
    }

    /// The value as a number; `None` for a name or a protocol.
    #[must_use]
    pub fn number(self) -> Option<u128> {
        match self {
            Self::Ipv4(number) => Some(number.into()),
            Self::Ipv6(number) => Some(number),
            Self::Port(number) => Some(number.into()),
            Self::Protocol(_) | Self::Interface(_) => None,
        }
    }

    /// The value of this number; `None` if there is none in this field.
    #[must_use]
    pub fn of_number(field: Field, number: u128) -> Option<Self> {
        match field {
            Field::Ipv4 => number.try_into().ok().map(Self::Ipv4),
            Field::Ipv6 => Some(Self::Ipv6(number)),
            Field::Port => number.try_into().ok().map(Self::Port),
            Field::Protocol | Field::Interface => None,
        }
    }

    /// The value behind it; `None` for the greatest, and for what has no order.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Ipv4(number) => number.checked_add(1).map(Self::Ipv4),
            Self::Ipv6(number) => number.checked_add(1).map(Self::Ipv6),
            Self::Port(number) => number.checked_add(1).map(Self::Port),
            Self::Protocol(_) | Self::Interface(_) => None,
        }
    }

    /// The value before it; `None` for the least, and for what has no order.
    #[must_use]
    pub fn before(self) -> Option<Self> {
        match self {
            Self::Ipv4(number) => number.checked_sub(1).map(Self::Ipv4),
            Self::Ipv6(number) => number.checked_sub(1).map(Self::Ipv6),
            Self::Port(number) => number.checked_sub(1).map(Self::Port),
            Self::Protocol(_) | Self::Interface(_) => None,
        }
    }

    /// The greatest value of a field; `None` for what has no order.
    #[must_use]
    pub fn greatest(field: Field) -> Option<Self> {
        match field {
            Field::Ipv4 => Some(Self::Ipv4(u32::MAX)),
            Field::Ipv6 => Some(Self::Ipv6(u128::MAX)),
            Field::Port => Some(Self::Port(u16::MAX)),
            Field::Protocol | Field::Interface => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(number) => Ipv4Addr::from(*number).fmt(f),
            Self::Ipv6(number) => Ipv6Addr::from(*number).fmt(f),
            Self::Port(number) => number.fmt(f),
            Self::Protocol(protocol) => f.write_str(protocol.name()),
            Self::Interface(name) => write!(f, "\"{name}\""),
        }
    }
}

/// A key of one field.
pub trait Scalar: Clone + Ord + fmt::Debug {
    /// The type of the field.
    const FIELD: Field;

    /// Its value.
    fn value(&self) -> Value<'_>;

    /// The key of a value; `None` for one of another type.
    fn of(value: Value<'_>) -> Option<Self>;
}

macro_rules! scalars {
    ($($kind:ident($number:ty)),+) => {
        $(impl Scalar for $number {
            const FIELD: Field = Field::$kind;

            fn value(&self) -> Value<'_> {
                Value::$kind(*self)
            }

            fn of(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::$kind(number) => Some(number),
                    _ => None,
                }
            }
        })+
    };
}

scalars!(Ipv4(u32), Ipv6(u128), Port(u16), Protocol(L4Protocol));

impl Scalar for String {
    const FIELD: Field = Field::Interface;

    fn value(&self) -> Value<'_> {
        Value::Interface(self)
    }

    fn of(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Interface(name) => Some(name.to_owned()),
            _ => None,
        }
    }
}

/// A key: a field, or two beside each other, which nft calls a concatenation.
pub trait Key: Clone + Ord + fmt::Debug {
    /// The types of its fields.
    const FIELDS: &'static [Field];

    /// As many values as there are fields.
    type Values<'a>: AsRef<[Value<'a>]>
    where
        Self: 'a;

    /// The values of its fields.
    fn values(&self) -> Self::Values<'_>;

    /// The key of these values; `None` if they are others than its fields.
    fn of_values(values: &[Value<'_>]) -> Option<Self>;
}

impl<A: Scalar> Key for A {
    const FIELDS: &'static [Field] = &[A::FIELD];

    type Values<'a>
        = [Value<'a>; 1]
    where
        Self: 'a;

    fn values(&self) -> [Value<'_>; 1] {
        [self.value()]
    }

    fn of_values(values: &[Value<'_>]) -> Option<Self> {
        match values {
            [value] => Self::of(*value),
            _ => None,
        }
    }
}

impl<A: Scalar, B: Scalar> Key for (A, B) {
    const FIELDS: &'static [Field] = &[A::FIELD, B::FIELD];

    type Values<'a>
        = [Value<'a>; 2]
    where
        Self: 'a;

    fn values(&self) -> [Value<'_>; 2] {
        [self.0.value(), self.1.value()]
    }

    fn of_values(values: &[Value<'_>]) -> Option<Self> {
        match values {
            [a, b] => Some((A::of(*a)?, B::of(*b)?)),
            _ => None,
        }
    }
}

/// All that a row can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<K> {
    /// The key, or the first one of a range.
    pub first: K,
    /// The last key of a range; `None` if it is none.
    pub last: Option<K>,
    /// Where it leads.
    pub verdict: Option<Verdict>,
    /// The comment of a row that counts.
    pub comment: Option<String>,
}

impl<K> Parts<K> {
    /// A key, or a range of them.
    pub fn new(first: K, last: Option<K>) -> Self {
        Self {
            first,
            last,
            verdict: None,
            comment: None,
        }
    }
}

/// A row of a set.
pub trait Row: Clone + Ord + fmt::Debug {
    /// The type of its key.
    type Key: Key;
    /// Whether it is a range of keys.
    const INTERVAL: bool = false;
    /// Whether it leads to a verdict.
    const MAP: bool = false;
    /// Whether it counts what is found in it.
    const COUNTING: bool = false;

    /// Its key, or the first one of a range.
    fn first(&self) -> &Self::Key;

    /// Its key, or the last one of a range.
    fn last(&self) -> &Self::Key {
        self.first()
    }

    /// Where it leads.
    fn verdict(&self) -> Option<&Verdict> {
        None
    }

    /// Its comment.
    fn comment(&self) -> Option<&str> {
        None
    }

    /// The row of these parts; `None` if it has others.
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
            } => Some(first),
            _ => None,
        }
    }
}

/// A range of keys, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval<K> {
    /// The first key.
    pub first: K,
    /// The last key.
    pub last: K,
}

impl<K> Interval<K> {
    /// From a first to a last key.
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
            } => Some(Self { first, last }),
            _ => None,
        }
    }
}

/// A key, or a range of them, that leads to a verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapTo<R> {
    /// The key.
    pub key: R,
    /// Where it leads.
    pub verdict: Verdict,
}

impl<R> MapTo<R> {
    /// From a key to a verdict.
    pub const fn new(key: R, verdict: Verdict) -> Self {
        Self { key, verdict }
    }
}

impl<R: Row> Row for MapTo<R> {
    type Key = R::Key;
    const INTERVAL: bool = R::INTERVAL;
    const MAP: bool = true;
    const COUNTING: bool = R::COUNTING;

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

/// A key that counts what is found in it, with a comment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counting<R> {
    /// The key.
    pub key: R,
    /// The place of the policy behind it ([`Origin`](super::Origin)).
    pub comment: Option<String>,
}

impl<R: Row> Row for Counting<R> {
    type Key = R::Key;
    const INTERVAL: bool = R::INTERVAL;
    const MAP: bool = R::MAP;
    const COUNTING: bool = true;

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

/// The type of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetType {
    /// The types of the fields of its keys.
    pub key: &'static [Field],
    /// Whether its elements are ranges, which the kernel keeps in order; the others are in a hash.
    pub interval: bool,
    /// Whether its elements lead to verdicts.
    pub map: bool,
    /// Whether each element counts.
    pub counting: bool,
}

impl SetType {
    /// Of a column of rows.
    const fn of<R: Row>(_: &[R]) -> Self {
        Self {
            key: R::Key::FIELDS,
            interval: R::INTERVAL,
            map: R::MAP,
            counting: R::COUNTING,
        }
    }
}

/// Takes the list of all types of sets. The first argument is a dollar sign, for the macro that it makes.
macro_rules! kinds {
    ($d:tt $($(#[$doc:meta])+ $kind:ident($row:ty),)+) => {
        /// The type and the contents of a set, ascending and without doubles; ranges have both ends
        /// included, are disjoint, and in sets not adjacent.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Elements {
            $($(#[$doc])+ $kind(Vec<$row>),)+
        }

        impl Elements {
            /// No elements of each type.
            const EMPTY: &[Self] = &[$(Self::$kind(Vec::new()),)+];
        }

        $(impl From<Vec<$row>> for Elements {
            fn from(rows: Vec<$row>) -> Self {
                Self::$kind(rows)
            }
        }

        impl Column for $row {
            fn rows(elements: &Elements) -> Option<&[Self]> {
                match elements {
                    Elements::$kind(rows) => Some(rows),
                    _ => None,
                }
            }
        })+

        /// Evaluates an expression with the rows of elements, whatever their type is.
        macro_rules! with_rows {
            ($d elements:expr, $d rows:ident => $d body:expr) => {
                match $d elements {
                    $($crate::ruleset::Elements::$kind($d rows) => $d body,)+
                }
            };
        }
        pub(crate) use with_rows;
    };
}

/// A row of a type that sets have.
pub trait Column: Row {
    /// The rows of elements of this type; `None` if they are of another.
    fn rows(elements: &Elements) -> Option<&[Self]>;
}

kinds! { $
    /// `type ipv4_addr`, a hash.
    Ipv4(u32),
    /// `type ipv4_addr; flags interval`.
    Ipv4Ranges(Interval<u32>),
    /// `type ipv6_addr`, a hash.
    Ipv6(u128),
    /// `type ipv6_addr; flags interval`.
    Ipv6Ranges(Interval<u128>),
    /// `type ifname`, a hash.
    Interfaces(String),
    /// `type inet_service . ipv4_addr`, a hash: the first address of a network beside a port.
    PortIpv4((u16, u32)),
    /// `type inet_service . ipv6_addr`, the same.
    PortIpv6((u16, u128)),
    /// `type inet_proto . inet_service; counter`, a hash whose elements count what is found in them.
    PortCounters(Counting<(L4Protocol, u16)>),
    /// `type inet_service : verdict; flags interval`.
    PortVerdicts(MapTo<Interval<u16>>),
    /// `type inet_service . ipv4_addr : verdict`, a hash.
    PortIpv4Verdicts(MapTo<(u16, u32)>),
    /// `type inet_service . ipv6_addr : verdict`, a hash.
    PortIpv6Verdicts(MapTo<(u16, u128)>),
    /// `type ipv4_addr : verdict`, a hash.
    Ipv4Verdicts(MapTo<u32>),
    /// `type ipv6_addr : verdict`, a hash.
    Ipv6Verdicts(MapTo<u128>),
}

impl Elements {
    /// The type of the set that they are of.
    #[must_use]
    pub fn set_type(&self) -> SetType {
        with_rows!(self, rows => SetType::of(rows))
    }

    /// No elements, of each type that sets have.
    pub fn types() -> impl Iterator<Item = &'static Self> {
        Self::EMPTY.iter()
    }

    /// The rows, if they are of this type.
    #[must_use]
    pub fn rows<R: Column>(&self) -> Option<&[R]> {
        R::rows(self)
    }

    /// The number of elements, a range counting once.
    #[must_use]
    pub fn len(&self) -> usize {
        with_rows!(self, rows => rows.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of elements that a hash of these is made for, which is several times faster to
    /// fill than one that grows; with room for some more, as it cannot grow then. `None` for
    /// ranges, for which no size is known.
    #[must_use]
    pub fn room(&self) -> Option<u32> {
        let with_more = u32::try_from(self.len() + self.len() / 32 + 1).ok()?;
        let room = with_more.max(16).checked_next_power_of_two()?;
        (!self.set_type().interval).then_some(room)
    }

    /// The verdicts of a map, none for a set.
    #[must_use]
    pub fn verdicts(&self) -> Box<dyn Iterator<Item = &Verdict> + '_> {
        if !self.set_type().map {
            return Box::new(std::iter::empty());
        }
        with_rows!(self, rows => Box::new(rows.iter().filter_map(Row::verdict)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sets_are_of_one_type() {
        for elements in Elements::types() {
            let of = elements.set_type();
            let alike = Elements::types().filter(|other| other.set_type() == of);
            assert_eq!(alike.count(), 1, "{of:?}");
        }
    }

    #[test]
    fn rows_are_as_small_as_their_parts() {
        assert_eq!(size_of::<Interval<u32>>(), 8);
        assert_eq!(size_of::<Interval<u128>>(), 32);
        assert_eq!(size_of::<(u16, u32)>(), 8);
        assert_eq!(size_of::<MapTo<u32>>(), size_of::<(u32, Verdict)>());
    }
}
