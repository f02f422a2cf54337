//! `format`: how a list is written.

mod json;
mod lines;
mod pointer;
mod recognise;

use crate::net::AddressSet;
use crate::net::address::Redundant;
use crate::text::FileId;
use crate::text::diagnostic::Diagnostic;

pub(super) use json::Selection;
pub(super) use pointer::Pointer;

/// How a list is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// An address, a network or a range a line; `#` begins a comment.
    #[default]
    Lines,
    /// The same, where `;` begins a comment as well, and what is behind a blank or a comma is ignored.
    LinesLoose,
    /// A JSON document.
    Json(Selection),
    /// A JSON document a line.
    JsonLines(Selection),
}

impl Format {
    /// Reads the list that `text` is, and adds what is wrong with it to `report`. Entries inside others are counted in
    /// lists that people write; a publisher's list is as it is.
    pub(super) fn parse(
        &self,
        file: FileId,
        text: &str,
        report: &mut Vec<Diagnostic>,
    ) -> (AddressSet, Option<Redundant>) {
        match self {
            Self::Lines => lines::parse(file, text, lines::strict, report),
            Self::LinesLoose => (lines::parse(file, text, lines::loose, report).0, None),
            Self::Json(selection) => (json::document(file, text, selection, report), None),
            Self::JsonLines(selection) => (json::lines(file, text, selection, report), None),
        }
    }
}
