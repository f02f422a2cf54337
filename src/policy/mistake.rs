//! What is wrong with one text, wherever it stands.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::diagnostic::Diagnostic;
use crate::source::{FileId, Span};

/// Why a text is not an address, a port or a name: a [`Diagnostic`] without a place, for texts
/// that come from elsewhere, such as the command line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Mistake {
    /// The kind of mistake, such as `host-bits`.
    pub slug: &'static str,
    /// What is wrong, with the text in it.
    pub message: String,
    /// What is to be seen at the text.
    pub label: &'static str,
    /// What to write instead.
    pub help: Vec<String>,
}

impl Mistake {
    pub(super) fn new(slug: &'static str, message: String, label: &'static str) -> Self {
        Self {
            slug,
            message,
            label,
            help: Vec::new(),
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The mistake as an error at `span`.
    pub(super) fn at(self, span: Span) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.slug, self.message).at(span, self.label);
        diagnostic.help = self.help;
        diagnostic
    }
}

/// How many diagnostics of one kind are shown of one file: a program that writes policies makes the same
/// mistake everywhere.
pub(super) const SHOWN: usize = 20;

/// The same without what is beyond [`SHOWN`] of its kind in its file; the last that is shown counts the
/// others.
pub(super) fn summarise(report: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<(Option<FileId>, &str), usize> = BTreeMap::new();
    let mut kept: Vec<Diagnostic> = Vec::new();
    let mut last: BTreeMap<(Option<FileId>, &str), usize> = BTreeMap::new();
    for diagnostic in report {
        let file = diagnostic.primary.as_ref().map(|label| label.span.file);
        let kind = (file, diagnostic.slug);
        let seen = seen.entry(kind).or_default();
        *seen += 1;
        if *seen <= SHOWN {
            last.insert(kind, kept.len());
            kept.push(diagnostic);
        } else if let Some(shown) = last.get(&kind).and_then(|at| kept.get_mut(*at)) {
            shown.more += 1 + diagnostic.more;
        }
    }
    for diagnostic in &mut kept {
        // A list counts its own.
        if diagnostic.more > 0 && diagnostic.slug != "list" {
            let more = diagnostic.more;
            let note = format!("{more} more like this in this file are not shown");
            diagnostic.notes.push(note);
        }
    }
    kept
}
