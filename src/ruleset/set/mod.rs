//! Sets and maps: keys of typed fields, and rows of them.
//!
//! The type of a row is composed: a key is one field ([`Scalar`]) or two concatenated (a tuple), a row
//! is a key or an [`Interval`], with a verdict ([`MapTo`]), a counter ([`Counting`]) or an end ([`Until`]), or is one that rules add
//! ([`Added`]). A set is a vector
//! of rows of one type, as small in memory as its parts. Code that treats all types alike is generic
//! over [`Row`] and called by `with_rows`; code about one type names it. A new type of set is one line
//! of `kinds!`.

mod key;
mod row;

use super::{L4Protocol, Verdict};

pub use key::{Field, Key, Scalar, Value};
pub use row::{Added, Counting, Interval, MapTo, Parts, Row, Until};

/// The most elements of a set to which rules add them, as packets of anybody may take memory for each.
pub const ADDED: u32 = 65_535;

/// A set, or a map to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its type and contents.
    pub elements: Elements,
    /// A comment: the policy line behind it ([`Origin`](super::Origin)), or the purpose of the set.
    pub comment: Option<String>,
}

/// The type of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "nf_tables combines these properties freely"
)]
pub struct SetType {
    /// The types of the fields of its keys.
    pub key: &'static [Field],
    /// Whether elements are intervals, which the kernel keeps in a tree; others are in a hash.
    pub interval: bool,
    /// Whether elements have verdicts.
    pub map: bool,
    /// Whether each element has a counter.
    pub counting: bool,
    /// Whether the kernel removes elements at their end; Linux 4.1, for intervals 4.10.
    pub expiring: bool,
    /// Whether rules add the elements (`flags dynamic`), which are no part of the ruleset; Linux 4.3.
    pub dynamic: bool,
}

impl SetType {
    /// Returns the type of a set of these rows.
    const fn of<R: Row>(_: &[R]) -> Self {
        Self {
            key: R::Key::FIELDS,
            interval: R::INTERVAL,
            map: R::MAP,
            counting: R::COUNTING,
            expiring: R::EXPIRING,
            dynamic: R::DYNAMIC,
        }
    }
}

/// Defines [`Elements`] from the list of all types of sets, and `with_rows`. The first argument is a
/// dollar sign, which a macro cannot write into another otherwise.
macro_rules! kinds {
    ($d:tt $($(#[$doc:meta])+ $kind:ident($row:ty),)+) => {
        /// The type and the contents of a set, ascending and without doubles; ranges have both ends
        /// included, are disjoint, and in sets not adjacent.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Elements {
            $($(#[$doc])+ $kind(Vec<$row>),)+
        }

        impl Elements {
            /// Empty elements of every type.
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

/// A type of row that a set can have.
pub trait Column: Row {
    /// Returns the rows of elements of this type; `None` for another type.
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
    /// `type inet_proto . inet_service; counter`, a hash.
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
    /// `type ipv4_addr; flags interval,timeout`.
    Ipv4Until(Until<Interval<u32>>),
    /// `type ipv6_addr; flags interval,timeout`.
    Ipv6Until(Until<Interval<u128>>),
    /// `type ipv4_addr; flags dynamic`, a hash.
    Ipv4Added(Added<u32>),
    /// `type ipv6_addr; flags dynamic`, a hash.
    Ipv6Added(Added<u128>),
    /// `type ipv4_addr; flags dynamic,timeout`, a hash.
    Ipv4AddedUntil(Until<Added<u32>>),
    /// `type ipv6_addr; flags dynamic,timeout`, a hash.
    Ipv6AddedUntil(Until<Added<u128>>),
}

impl Elements {
    /// Returns the type of the set.
    #[must_use]
    pub fn set_type(&self) -> SetType {
        with_rows!(self, rows => SetType::of(rows))
    }

    /// Returns empty elements of every type.
    pub fn types() -> impl Iterator<Item = &'static Self> {
        Self::EMPTY.iter()
    }

    /// Returns the rows if they are of this type.
    #[must_use]
    pub fn rows<R: Column>(&self) -> Option<&[R]> {
        R::rows(self)
    }

    /// Returns the number of elements, a range counting once.
    #[must_use]
    pub fn len(&self) -> usize {
        with_rows!(self, rows => rows.len())
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of elements that a hash of these is made for, which is several times
    /// faster to fill than one that grows; with room for some more, as it cannot grow then. [`ADDED`] for those that
    /// rules add. `None` for ranges, for which no size is known.
    #[must_use]
    pub fn room(&self) -> Option<u32> {
        if self.set_type().dynamic {
            return Some(ADDED);
        }
        let with_more = u32::try_from(self.len() + self.len() / 32 + 1).ok()?;
        let room = with_more.max(16).checked_next_power_of_two()?;
        (!self.set_type().interval).then_some(room)
    }

    /// Returns the verdicts of a map, none for a set.
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
