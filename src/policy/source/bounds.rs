//! `within`, `min`, `max`, `max-loss`: what a list that others write may ever mean.

use std::fmt;

use crate::net::{AddressSet, Entry};

/// How many addresses of a family are half of it.
const HALF_V4: u64 = 1 << 31;
const HALF_V6: u128 = 1 << 127;

/// What `min` and `max` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Single addresses, as an answer of DNS has them.
    Addresses,
    /// Entries of the merged list.
    Entries,
}

/// The bounds of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The set that must contain every address of the list.
    pub(super) within: Option<AddressSet>,
    /// The minimum count.
    pub(super) min: Option<u64>,
    /// The maximum number of merged entries.
    pub(super) max: Option<u64>,
    /// What `min` and `max` count.
    pub(super) unit: Unit,
    /// How many per cent of the covered addresses of a family one change may take away.
    pub(super) max_loss: u8,
    /// Whether the list is fetched: without `within` it covers at most half of a family.
    pub(super) is_fetched: bool,
}

/// The reason why a list is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Breach {
    /// An entry is not `within`.
    Outside(Entry),
    /// Fewer than `min`.
    Few(u64, u64, Unit),
    /// More than `max`.
    Many(u64, u64, Unit),
    /// More than half of a family, without `within`.
    Half,
    /// A change takes more away than `max-loss`: the share, the bound, the family.
    Loss(u8, u8, &'static str),
    /// No address of a host: `0.0.0.0`, loopback, multicast.
    NoHost(Entry),
}

impl Bounds {
    /// Checks a list against the bounds.
    ///
    /// # Errors
    /// The bound that it breaks.
    pub(super) fn check(&self, set: &AddressSet) -> Result<(), Breach> {
        if let Some(within) = &self.within
            && let Some(outside) = set.difference(within).iter().next()
        {
            return Err(Breach::Outside(outside));
        }
        if self.unit == Unit::Addresses
            && let Some(entry) = set.intersection(&no_hosts()).iter().next()
        {
            return Err(Breach::NoHost(entry));
        }
        let count = match self.unit {
            Unit::Addresses => {
                let v6 = u64::try_from(set.count_v6()).unwrap_or(u64::MAX);
                set.count_v4().saturating_add(v6)
            }
            Unit::Entries => u64::try_from(set.len()).unwrap_or(u64::MAX),
        };
        match (self.min, self.max) {
            (Some(min), _) if count < min => return Err(Breach::Few(count, min, self.unit)),
            (_, Some(max)) if count > max => return Err(Breach::Many(count, max, self.unit)),
            _ => {}
        }
        let is_wide = set.count_v4() > HALF_V4 || set.count_v6() > HALF_V6;
        if self.is_fetched && self.within.is_none() && is_wide {
            return Err(Breach::Half);
        }
        Ok(())
    }

    /// Checks whether a list may take the place of a former one.
    ///
    /// # Errors
    /// [`Breach::Loss`].
    pub(super) fn check_loss(&self, set: &AddressSet, former: &AddressSet) -> Result<(), Breach> {
        let lost = former.difference(set);
        for (lost, of, family) in [
            (lost.count_v4().into(), former.count_v4().into(), "IPv4"),
            (lost.count_v6(), former.count_v6(), "IPv6"),
        ] {
            if lost > share(of, self.max_loss) {
                let percent = (1..=100).find(|percent| lost <= share(of, *percent));
                return Err(Breach::Loss(percent.unwrap_or(100), self.max_loss, family));
            }
        }
        Ok(())
    }
}

/// Returns so many per cent of a number, rounded down.
fn share(of: u128, percent: u8) -> u128 {
    let percent = u128::from(percent);
    of / 100 * percent + of % 100 * percent / 100
}

/// Returns the addresses that no host has for others. Resolvers that block a name answer with such.
fn no_hosts() -> AddressSet {
    AddressSet::from_entries([
        Entry::V4(0, 0x00ff_ffff),
        Entry::V4(0x7f00_0000, 0x7fff_ffff),
        Entry::V4(0xe000_0000, u32::MAX),
        Entry::V6(0, 1),
        Entry::V6(0xff << 120, u128::MAX),
    ])
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Addresses => "addresses",
            Self::Entries => "entries",
        })
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(entry) => write!(f, "{entry} is not `within`"),
            Self::Few(count, min, unit) => write!(f, "fewer {unit} ({count}) than `min: {min}`"),
            Self::Many(count, max, unit) => write!(f, "more {unit} ({count}) than `max: {max}`"),
            Self::Half => {
                f.write_str("it covers more than half of all addresses, and there is no `within`")
            }
            Self::Loss(lost, most, family) => write!(
                f,
                "it takes away {lost} % of the {family} addresses, more than `max-loss: {most}%`"
            ),
            Self::NoHost(entry) => write!(f, "{entry} is not the address of a host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse_entry;

    fn set(entries: &[&str]) -> AddressSet {
        let entries = entries.iter();
        entries.map(|entry| parse_entry(entry).unwrap()).collect()
    }

    #[test]
    fn each_bound_is_kept() {
        let bounds = Bounds {
            within: Some(set(&["203.0.113.0/24", "2001:db8::/32"])),
            min: Some(2),
            max: Some(3),
            unit: Unit::Entries,
            max_loss: 100,
            is_fetched: false,
        };
        let check = |entries: &[&str]| bounds.check(&set(entries)).map_err(|it| it.to_string());
        assert_eq!(check(&["203.0.113.7", "2001:db8::1"]), Ok(()));
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(
            check(&["203.0.113.7", "192.0.2.1"]),
            error("192.0.2.1 is not `within`")
        );
        assert_eq!(
            check(&["203.0.113.6", "203.0.113.7"]),
            error("fewer entries (1) than `min: 2`")
        );
        assert_eq!(
            check(&["203.0.113.1", "203.0.113.3", "203.0.113.5", "203.0.113.7"]),
            error("more entries (4) than `max: 3`")
        );
    }

    fn fetched(unit: Unit) -> Bounds {
        Bounds {
            within: None,
            min: Some(1),
            max: Some(16),
            unit,
            max_loss: 50,
            is_fetched: true,
        }
    }

    #[test]
    fn what_is_fetched_covers_half_of_a_family_at_most() {
        let bounds = fetched(Unit::Entries);
        bounds.check(&set(&["0.0.0.0/1"])).unwrap();
        assert_eq!(
            bounds.check(&set(&["0.0.0.0/1", "192.0.2.1"])),
            Err(Breach::Half)
        );
        assert_eq!(bounds.check(&set(&["::/0"])), Err(Breach::Half));
        assert_eq!(
            bounds.check(&AddressSet::default()),
            Err(Breach::Few(0, 1, Unit::Entries))
        );
        let all = Bounds {
            within: Some(set(&["0.0.0.0/0"])),
            ..bounds
        };
        all.check(&set(&["0.0.0.0/0"])).unwrap();
    }

    #[test]
    fn a_name_has_few_addresses_and_all_are_hosts() {
        let name = fetched(Unit::Addresses);
        name.check(&set(&["192.0.2.0/28"])).unwrap();
        for wrong in [
            &["192.0.2.0/28", "2001:db8::1"][..],
            &["2001:db8::/32"],
            &["0.0.0.0"],
            &["127.0.0.1"],
            &["::"],
            &["::1"],
            &["ff02::1"],
            &["255.255.255.255"],
        ] {
            name.check(&set(wrong)).unwrap_err();
        }
    }

    #[test]
    fn a_change_takes_a_share_of_each_family_away_at_most() {
        let former = set(&["192.0.2.0/25", "2001:db8::/32"]);
        let check = |entries: &[&str]| fetched(Unit::Entries).check_loss(&set(entries), &former);
        check(&["192.0.2.0/26", "2001:db8::/33"]).unwrap();
        check(&["0.0.0.0/0", "::/0"]).unwrap();
        assert_eq!(
            check(&["192.0.2.0/27", "2001:db8::/32"]),
            Err(Breach::Loss(75, 50, "IPv4"))
        );
        assert_eq!(check(&["192.0.2.0/25"]), Err(Breach::Loss(100, 50, "IPv6")));
        let none = AddressSet::default();
        fetched(Unit::Entries)
            .check_loss(&set(&["192.0.2.1"]), &none)
            .unwrap();
    }
}
