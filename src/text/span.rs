//! Places in texts.

use std::ops::Range;

/// A file known to a [`SourceMap`](super::SourceMap).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) u32);

/// A range of bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Start (inclusive) and end (exclusive) in the bytes of its text, on character boundaries and inside
    /// the file.
    pub bytes: (usize, usize),
}

impl Span {
    /// Returns the bytes from `start` to `end` of `file`.
    #[must_use]
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        Self {
            file,
            bytes: (start, end),
        }
    }

    /// Returns the bytes as a range.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.bytes.0..self.bytes.1
    }
}
