//! What rules and elements have counted, which is no part of the ruleset.

use std::collections::BTreeMap;

use super::L4Protocol;

/// Packets and bytes that a counter has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Counter {
    /// Adds what another has seen.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// The counters of a set's elements, by protocol and port.
pub type Counted = BTreeMap<(L4Protocol, u16), Counter>;
