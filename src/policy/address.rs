//! Canonical sets of IP addresses.

/// A set of addresses as sorted, disjoint, non-adjacent inclusive ranges, IPv4 and IPv6 apart.
///
/// Two sets of the same addresses are equal, however they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct AddressSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    /// The IPv4 ranges, first and last address included, ascending.
    #[must_use]
    pub fn v4(&self) -> &[(u32, u32)] {
        &self.v4
    }

    /// The IPv6 ranges, first and last address included, ascending.
    #[must_use]
    pub fn v6(&self) -> &[(u128, u128)] {
        &self.v6
    }
}
