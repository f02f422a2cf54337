//! `within`, `min`, `max`: what a list that others write may ever mean.

use std::fmt;

use crate::net::{AddressSet, Entry};

/// The bounds of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The set that must contain every address of the list.
    pub(super) within: Option<AddressSet>,
    /// The minimum number of merged entries.
    pub(super) min: Option<u64>,
    /// The maximum number of merged entries.
    pub(super) max: Option<u64>,
}

/// The reason why a list is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Breach {
    /// An entry is not `within`.
    Outside(Entry),
    /// The list has fewer entries than `min`: both numbers.
    Few(u64, u64),
    /// The list has more entries than `max`: both numbers.
    Many(u64, u64),
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
        let count = u64::try_from(set.len()).unwrap_or(u64::MAX);
        match (self.min, self.max) {
            (Some(min), _) if count < min => Err(Breach::Few(count, min)),
            (_, Some(max)) if count > max => Err(Breach::Many(count, max)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside(entry) => write!(f, "{entry} is not `within`"),
            Self::Few(count, min) => write!(f, "fewer entries ({count}) than `min: {min}`"),
            Self::Many(count, max) => write!(f, "more entries ({count}) than `max: {max}`"),
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
}
