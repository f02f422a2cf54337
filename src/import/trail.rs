//! The rules that led to a result.

use std::collections::BTreeSet;

/// The rules that led to a result.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trail {
    /// The rules that decided for some source.
    pub(super) deciding: BTreeSet<usize>,
    /// The rules that dropped some source.
    pub(super) dropping: BTreeSet<usize>,
    /// The rules that rejected some source.
    pub(super) rejecting: BTreeSet<usize>,
    /// Rules that were skipped because they are not supported.
    pub(super) skipped: BTreeSet<usize>,
    /// Whether a denial was logged.
    pub(super) logged: bool,
    /// Whether the chains are nested too deeply or form a jump loop; then no source is accepted.
    pub(super) lost: bool,
}

impl Trail {
    pub(super) fn add(&mut self, other: &Self) {
        if *self == Self::default() {
            self.clone_from(other);
            return;
        }
        self.deciding.extend(&other.deciding);
        self.dropping.extend(&other.dropping);
        self.rejecting.extend(&other.rejecting);
        self.skipped.extend(&other.skipped);
        self.logged |= other.logged;
        self.lost |= other.lost;
    }
}
