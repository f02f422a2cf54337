//! Which key holds what.

use crate::bundle::Digest;
use crate::bundle::word::Word;

/// The most bytes of a value: etcd takes requests of up to 1.5 MiB.
pub const PIECE: usize = 1 << 20;

/// The keys of a site, below `/dfw/v1/SITE/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
}

impl Layout {
    /// Creates the layout of a site.
    #[must_use]
    pub fn new(site: &Word) -> Self {
        Self {
            prefix: format!("/dfw/v1/{site}/"),
        }
    }

    /// Returns the beginning of all keys.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key of the head. It is written whenever the roll-out is, so that it alone is to be watched.
    #[must_use]
    pub fn head(&self) -> String {
        self.at("head")
    }

    /// Returns the key of the roll-out.
    #[must_use]
    pub fn rollout(&self) -> String {
        self.at("rollout")
    }

    /// Returns the key of a manifest.
    #[must_use]
    pub fn manifest(&self, digest: &Digest) -> String {
        self.at(&format!("manifests/{digest}"))
    }

    /// Returns the key of a piece of a file.
    #[must_use]
    pub fn piece(&self, digest: &Digest, number: usize) -> String {
        self.at(&format!("blobs/{digest}/{number:03}"))
    }

    /// Returns the key of the delta between two files.
    #[must_use]
    pub fn delta(&self, from: &Digest, to: &Digest) -> String {
        self.at(&format!("deltas/{from}/{to}"))
    }

    /// Returns the beginning of the keys of hosts.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.at("hosts/")
    }

    /// Returns the key of a host's status.
    #[must_use]
    pub fn status(&self, host: &Word) -> String {
        self.at(&format!("hosts/{host}/status"))
    }

    /// Returns a key by its name below the prefix.
    #[must_use]
    pub fn at(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Returns how many pieces a file of this size has; an empty one has one.
#[must_use]
pub fn pieces(size: u64) -> usize {
    let piece = u64::try_from(PIECE).unwrap_or(u64::MAX);
    usize::try_from(size.div_ceil(piece).max(1)).unwrap_or(usize::MAX)
}
