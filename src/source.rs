//! Texts of policy files and lists, and spans into them.
//!
//! This is the only place where dfw reads policy files. It knows nothing of what they mean.

use std::ops::Range;

/// A file known to a [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) u32);

/// A range of bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// The bytes of its text, on character boundaries and inside the file.
    pub bytes: BytesRange,
}

/// Start (inclusive) and end (exclusive) of a span, in bytes.
pub type BytesRange = (usize, usize);

impl Span {
    /// The bytes as a range.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.bytes.0..self.bytes.1
    }
}
