//! Diagnostics as data: what is wrong, where, and what to do about it.

use crate::text::Span;
use crate::untrusted::{clean_to, is_deceptive};

/// How many characters a message may have, and each advice: names in it may be anybody's.
const LONGEST: usize = 4000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used, but probably does not say what was meant.
    Warning,
}

/// A place that a diagnostic points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is to be seen there; may be empty. Never holds text of a file: see
    /// [`Diagnostic::public`].
    pub text: String,
}

/// One thing that is wrong with the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name for this kind of problem, such as `host-bits`.
    pub slug: &'static str,
    /// One sentence without a period.
    pub message: String,
    /// The place of the problem; `None` only where there is no text to show.
    pub primary: Option<Label>,
    /// Other places that explain it, such as the first of two equal ports.
    pub related: Vec<Label>,
    /// How it came about, each a line or more.
    pub notes: Vec<String>,
    /// What the user can do, each a sentence.
    pub help: Vec<String>,
    /// How many more there are like this that are not shown.
    pub more: usize,
    /// The message for those who may not read the file; see [`public`](Self::public).
    public: Option<String>,
}

impl Diagnostic {
    /// An error that points nowhere yet.
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

    /// A warning that points nowhere yet.
    #[must_use]
    pub fn warning(slug: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(slug, message)
        }
    }

    /// The same as an error.
    #[must_use]
    pub fn into_error(self) -> Self {
        Self {
            severity: Severity::Error,
            ..self
        }
    }

    /// The same, pointing at `span`.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// The same with one more place that explains it.
    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// The same with one more line on how it came about.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// The same, standing for so many more that are not shown.
    #[must_use]
    pub fn and_more(mut self, more: usize) -> Self {
        self.more = more;
        self
    }

    /// The same with a message for those who may not read the file, in place of its label.
    #[must_use]
    pub fn to_public(mut self, text: impl Into<String>) -> Self {
        self.public = Some(text.into());
        self
    }

    /// What everybody may know of it: no word of the file, which may be one that only root reads. dfw
    /// may have been led to read it by the owner of a list.
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

    /// The same with one more advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(clean_to(&text.into(), LONGEST));
        self
    }
}

/// User-written text for a message: in backticks, deceptive characters escaped, long text cut.
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

/// The one of `known` that was probably meant by `written`.
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
