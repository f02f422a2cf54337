//! How many addresses are in a set, exactly, as a number or as a share of a family.

use std::fmt;

use crate::net::{AddressSet, Counts, Family};
use crate::output::table::grouped;

/// How many addresses of a family a set has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// `u128::MAX` for all of IPv6, which are one more.
    number: u128,
    family: Family,
    is_all: bool,
}

/// So many addresses of IPv6 are shown as a number, and more as a share.
const FEW: u128 = u32::MAX as u128;

impl Count {
    /// Counts the addresses of a family.
    #[must_use]
    pub fn of(set: &AddressSet, family: Family) -> Self {
        Self::new(Counts::of(set), family)
    }

    /// Returns the count of a family.
    #[must_use]
    pub fn new(counts: Counts, family: Family) -> Self {
        Self {
            number: match family {
                Family::V4 => counts.v4().into(),
                Family::V6 => counts.v6(),
            },
            family,
            is_all: counts.are_all(family),
        }
    }

    /// Returns the family.
    #[must_use]
    pub fn family(self) -> Family {
        self.family
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.number == 0
    }

    /// Returns whether these are all addresses of the family.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.is_all
    }

    /// Returns the number in digits, for programs.
    #[must_use]
    pub fn digits(self) -> String {
        match self.family {
            Family::V6 if self.is_all => "340282366920938463463374607431768211456".to_owned(),
            _ => self.number.to_string(),
        }
    }

    /// Returns the number for people, where [`Display`](fmt::Display) shows a share.
    #[must_use]
    pub fn exact(self) -> Option<String> {
        let is_share = self.family == Family::V6 && !self.is_all && self.number > FEW;
        is_share.then(|| format!("{} addresses", grouped(self.number)))
    }

    /// Returns the addresses of the family that are not counted.
    #[must_use]
    pub fn others(self) -> Self {
        let number = match self.family {
            Family::V4 => (1 << 32_u32) - self.number,
            Family::V6 if self.is_all => 0,
            Family::V6 if self.is_zero() => u128::MAX,
            // 2^128 less the number.
            Family::V6 => self.number.wrapping_neg(),
        };
        Self {
            number,
            is_all: self.is_zero(),
            ..self
        }
    }
}

/// IPv4 as a number, IPv6 as a share unless they are few.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family.title();
        match self.family {
            _ if self.is_zero() => write!(f, "no {family}"),
            Family::V4 if self.is_all => write!(f, "all {} {family}", grouped(self.number)),
            Family::V6 if self.is_all => write!(f, "all {family}"),
            Family::V4 => write!(f, "{} {family}", grouped(self.number)),
            Family::V6 if self.number <= FEW => {
                write!(f, "{} {family}", grouped(self.number))
            }
            Family::V6 => {
                let others = self.others().number;
                if others < self.number >> 16 {
                    let others = if others <= FEW {
                        grouped(others)
                    } else {
                        share(others)
                    };
                    write!(f, "all {family} but {others}")
                } else {
                    write!(f, "{} of {family}", share(self.number))
                }
            }
        }
    }
}

/// A part of 2^128 as a fraction; one that is long by the power of two below it.
fn share(number: u128) -> String {
    /// The largest numerator that is easy to read.
    const LONGEST: u128 = 9_999;
    let zeros = number.trailing_zeros();
    match number >> zeros {
        part @ ..=LONGEST => format!("{}/2{}", grouped(part), raised(128 - zeros)),
        _ => format!("about 1/2{}", raised(128 - number.ilog2())),
    }
}

/// A number as an exponent.
fn raised(number: u32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digits = number.to_string();
    let digits = digits
        .bytes()
        .map(|digit| DIGITS[usize::from(digit - b'0')]);
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Entry;

    fn set(entries: &[&str]) -> AddressSet {
        let entries = entries.iter().map(|entry| entry.parse::<Entry>().unwrap());
        AddressSet::from_entries(entries)
    }

    #[test]
    fn a_count_is_exact_and_short() {
        for (entries, v4, v6) in [
            (&[][..], "no IPv4", "no IPv6"),
            (&["0.0.0.0/0", "::/0"], "all 4,294,967,296 IPv4", "all IPv6"),
            (
                &["203.0.113.0/24", "2001:db8::/32"],
                "256 IPv4",
                "1/2³² of IPv6",
            ),
            (&["203.0.113.7", "2001:db8::7"], "1 IPv4", "1 IPv6"),
            (
                &["2001:db8::/33", "2001:db9::/32"],
                "no IPv4",
                "3/2³³ of IPv6",
            ),
            (&["::/1"], "no IPv4", "1/2¹ of IPv6"),
            (
                &["2001:db8::/48", "2001:db9::1"],
                "no IPv4",
                "about 1/2⁴⁸ of IPv6",
            ),
            (&["::/1", "8000::/1"], "no IPv4", "all IPv6"),
            (
                &[
                    "::-2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
                    "2001:db9::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                ],
                "no IPv4",
                "all IPv6 but 1/2³²",
            ),
            (
                &["::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                "no IPv4",
                "all IPv6 but 1",
            ),
        ] {
            let set = set(entries);
            assert_eq!(Count::of(&set, Family::V4).to_string(), v4, "{entries:?}");
            assert_eq!(Count::of(&set, Family::V6).to_string(), v6, "{entries:?}");
        }
    }

    #[test]
    fn what_is_counted_and_the_rest_are_the_family() {
        for entries in [&[][..], &["0.0.0.0/0", "::/0"], &["::1", "10.0.0.0/8"]] {
            let set = set(entries);
            for family in Family::ALL {
                let others = Count::of(&set.complement(), family);
                assert_eq!(Count::of(&set, family).others(), others, "{entries:?}");
            }
        }
        let all = Count::of(&AddressSet::all(Family::V6), Family::V6);
        assert_eq!(all.digits().parse::<u128>().ok(), None);
    }
}
