//! What is wrong with one text, wherever it stands.

use thiserror::Error;

use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

/// The reason why a text is not an address, a port or a name: a [`Diagnostic`] without a place, for texts such
/// as arguments of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Mistake {
    /// The stable name of the mistake, such as `host-bits`.
    pub slug: &'static str,
    /// The message, with the text in it.
    pub message: String,
    /// The label of the text.
    pub label: &'static str,
    /// What to write instead.
    pub help: Vec<String>,
}

impl Mistake {
    pub(in crate::policy) fn new(slug: &'static str, message: String, label: &'static str) -> Self {
        Self {
            slug,
            message,
            label,
            help: Vec::new(),
        }
    }

    pub(in crate::policy) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Returns the mistake as an error at `span`.
    pub(in crate::policy) fn at(self, span: Span) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.slug, self.message).at(span, self.label);
        diagnostic.help = self.help;
        diagnostic
    }
}
