//! Diagnostics as data: message, place and help.

use crate::text::Span;
use crate::untrusted::{clean_to, is_deceptive};

/// The longest message or help line, in characters: names in it may come from other programs.
const LONGEST: usize = 4000;

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but probably does not mean what was intended.
    Warning,
}

/// A labelled span that a diagnostic points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The span.
    pub span: Span,
    /// The label; may be empty. It never contains text of a file: see [`Diagnostic::public`].
    pub text: String,
}

/// An error or warning with its place, label and help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity of a diagnostic.
    pub severity: Severity,
    /// The stable name of the mistake, such as `host-bits`.
    pub slug: &'static str,
    /// The message: one sentence without a period.
    pub message: String,
    /// The place of the problem; `None` if there is no text to show.
    pub primary: Option<Label>,
    /// Related places, such as the first of two equal ports.
    pub related: Vec<Label>,
    /// Notes on the cause, each of one or more lines.
    pub notes: Vec<String>,
    /// Help lines: what the user can do, each a sentence.
    pub help: Vec<String>,
    /// The number of similar diagnostics that are not shown.
    pub more: usize,
    /// The message for users who may not read the file; see [`public`](Self::public).
    public: Option<String>,
}

impl Diagnostic {
    /// Creates an error without a place.
    #[must_use]
    pub fn error(slug: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            slug,
            message: clean_to(&message.into(), LONGEST),
            primary: None,
            related: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
            more: 0,
            public: None,
        }
    }

    /// Creates a warning without a place.
    #[must_use]
    pub fn warning(slug: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(slug, message)
        }
    }

    /// Returns the diagnostic with the severity `error`.
    #[must_use]
    pub fn into_error(self) -> Self {
        Self {
            severity: Severity::Error,
            ..self
        }
    }

    /// Sets the place and its label.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds a related place.
    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds a note on the cause.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Sets the number of similar diagnostics that are not shown.
    #[must_use]
    pub fn and_more(mut self, more: usize) -> Self {
        self.more = more;
        self
    }

    /// Sets the message for users who may not read the file, instead of the label.
    #[must_use]
    pub fn to_public(mut self, text: impl Into<String>) -> Self {
        self.public = Some(text.into());
        self
    }

    /// Returns the message without text of the file. The file may be readable only by root: the owner of a list
    /// can make dfw open it.
    #[must_use]
    pub fn public(&self) -> String {
        let label = self.primary.as_ref().map(|label| label.text.as_str());
        match (&self.public, label) {
            (Some(text), _) => clean_to(text, LONGEST),
            (None, Some(label)) if !label.is_empty() => format!("{}: {label}", self.slug),
            (None, Some(_)) => self.slug.to_owned(),
            // It points into no file.
            (None, None) => self.message.clone(),
        }
    }

    /// Adds a help line.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(clean_to(&text.into(), LONGEST));
        self
    }
}

/// Returns text of a user in backticks, with deceptive characters escaped and long text cut.
#[must_use]
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut quoted = String::from("`");
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST {
            quoted.push('…');
            break;
        }
        if is_deceptive(character) {
            quoted.extend(character.escape_default());
        } else {
            quoted.push(character);
        }
    }
    quoted.push('`');
    quoted
}

/// Returns the known word that is most similar to a written one; `None` if none is similar.
#[must_use]
pub(crate) fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if written.len() > 64 {
        return None;
    }
    let folded = written.to_ascii_lowercase().replace('_', "-");
    // A third of the letters may be wrong; a short word allows one.
    let limit = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        // Whatever else is different, so many letters are too many or too few.
        .filter(|name| name.len().abs_diff(written.len()) <= limit * 4)
        .map(|name| {
            let candidate = name.to_ascii_lowercase().replace('_', "-");
            (strsim::damerau_levenshtein(&folded, &candidate), name)
        })
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_users_cannot_reach_the_terminal_raw() {
        assert_eq!(quoted("a\x1b[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn a_near_word_is_suggested() {
        assert_eq!(did_you_mean("ofice", ["office", "any"]), Some("office"));
        assert_eq!(did_you_mean("Allow", ["allow", "except"]), Some("allow"));
        assert_eq!(did_you_mean("xyz", ["allow", "except"]), None);
    }
}
