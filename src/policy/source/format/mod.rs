//! `format`: how a list is written.

mod json;
mod lines;
mod pointer;
mod recognise;
mod stream;

use serde_json::{Value, json};

use crate::net::{AddressSet, Redundant};
use crate::text::FileId;
use crate::text::diagnostic::Diagnostic;

pub use json::Selection;
pub use pointer::Pointer;
pub(super) use stream::{Reason, read_lines};

/// The format of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Format {
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
    /// Returns the format with what it selects, which another format has not.
    pub(super) fn describe(&self) -> String {
        let (name, selection) = match self {
            Self::Lines => return "lines".to_owned(),
            Self::LinesLoose => return "lines-loose".to_owned(),
            Self::Json(selection) => ("json", selection),
            Self::JsonLines(selection) => ("json-lines", selection),
        };
        let Selection { select, conditions } = selection;
        json!([name, select.to_string(), conditions]).to_string()
    }

    /// Returns the options of a source that say so.
    pub(super) fn options(&self) -> Vec<(&'static str, Value)> {
        let (name, selection) = match self {
            Self::Lines => return vec![("format", json!("lines"))],
            Self::LinesLoose => return vec![("format", json!("lines-loose"))],
            Self::Json(selection) => ("json", selection),
            Self::JsonLines(selection) => ("json-lines", selection),
        };
        let Selection { select, conditions } = selection;
        let conditions = (!conditions.is_empty()).then(|| ("where", json!(conditions)));
        let select = ("select", json!(select.to_string()));
        [("format", json!(name)), select]
            .into_iter()
            .chain(conditions)
            .collect()
    }

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
