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

/// The format of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// One address, network or range per line; `#` begins a comment.
    #[default]
    Lines,
    /// Like `Lines`; also `;` begins a comment, and text after a blank or a comma is ignored.
    LinesLoose,
    /// A JSON document.
    Json(Selection),
    /// One JSON document per line.
    JsonLines(Selection),
}

impl Format {
    /// Reads a list, and adds its errors to the report. Counts entries inside others, except in publishers' lists.
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
