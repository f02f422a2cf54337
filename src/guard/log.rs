//! The log of guard: one line for each event, on stderr.
//!
//! Every text is cleaned here, also those for `dfw status`: each becomes one short line, whatever engines,
//! file names or the kernel contain.

use std::io::{self, Write};

use crate::store::bundle::OpenError;
use crate::store::{LoadError, Policies, ReadError};
use crate::text::SourceMap;
use crate::text::diagnostic::{Diagnostic, Severity};
use crate::untrusted::clean_to;

/// The longest line, in characters.
pub(super) const LINE: usize = 2000;
/// The most errors of policies that are logged and kept.
const MISTAKES: usize = 50;

/// The syslog level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    /// Whether stderr is the journal, which parses the level from the prefix.
    journal: bool,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            journal: std::env::var_os("JOURNAL_STREAM").is_some(),
        }
    }

    pub(super) fn say(self, level: Level, text: &str) {
        let text = one_line(text);
        let line = if self.journal {
            format!("<{}>{text}\n", level as u8)
        } else {
            let word = match level {
                Level::Error => "error: ",
                Level::Warning => "warning: ",
                Level::Notice | Level::Info => "",
            };
            format!("dfw guard: {word}{text}\n")
        };
        // The reader of stderr may be gone; guard continues.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Returns a text as one line of bounded length, without control characters.
pub(super) fn one_line(text: &str) -> String {
    clean_to(text, LINE)
}

/// The errors of policies, a line each, up to a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mistakes {
    lines: Vec<String>,
    count: usize,
    /// Whether nothing is wrong, but no generation of a site was accepted yet.
    is_pending: bool,
}

impl Mistakes {
    fn of(mistakes: impl Iterator<Item = String>) -> Self {
        let mut all = Self::default();
        for mistake in mistakes {
            all.count += 1;
            if all.count <= MISTAKES {
                all.lines.push(one_line(&mistake));
            }
        }
        if let Some(more @ 1..) = all.count.checked_sub(MISTAKES) {
            all.lines
                .push(format!("and {more} more errors: run `dfw check`"));
        }
        all
    }

    /// Returns a single error.
    pub(super) fn one(mistake: &str) -> Self {
        Self::of([mistake.to_owned()].into_iter())
    }

    /// Returns the number of errors.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns whether nothing is wrong, but no generation of a site was accepted yet.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Returns a line for each error; the last one counts those left out.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Returns a diagnostic in one line, with its position and without text of the file: users other than root
/// read the journal and guard's socket.
pub(super) fn line(diagnostic: &Diagnostic, sources: &SourceMap) -> String {
    let place = diagnostic.primary.as_ref().map(|label| {
        let (line, column) = sources.line_column(&label.span);
        format!("{}:{line}:{column}: ", sources.name(label.span.file))
    });
    let more = match diagnostic.more {
        0 => String::new(),
        more => format!(" (and {more} more like this)"),
    };
    place.unwrap_or_default() + &diagnostic.public() + &more
}

/// Returns the warnings of valid policies.
pub(super) fn warnings(policies: &Policies) -> Mistakes {
    let warnings = policies.warnings.iter();
    Mistakes::of(warnings.map(|warning| line(warning, &policies.sources)))
}

/// Returns the errors of policies.
pub(super) fn mistakes(wrong: &LoadError) -> Mistakes {
    match wrong {
        LoadError::Unread(error) => Mistakes {
            is_pending: matches!(error, ReadError::Bundle(OpenError::NoneAccepted)),
            ..Mistakes::one(&error.to_string())
        },
        LoadError::Invalid {
            diagnostics,
            sources,
        } => {
            let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
            let more: usize = errors.clone().map(|error| error.more).sum();
            let mut mistakes = Mistakes::of(errors.map(|error| line(error, sources)));
            // Errors that are only counted are included.
            mistakes.count += more;
            mistakes
        }
        LoadError::Failed { report, sources } => {
            let failed = report.failed.iter();
            Mistakes::of(failed.map(|failed| line(&failed.diagnostic, sources)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_and_short() {
        let text = format!("engine:\n<0>forged\u{1b}[2J{}", "x".repeat(5_000_000));
        let line = one_line(&text);
        assert!(
            line.starts_with("engine:\\n<0>forged\\u{1b}[2Jxxx"),
            "{line}"
        );
        assert!(line.ends_with(" bytes cut)"), "{line}");
        assert!(line.chars().count() <= LINE);
    }

    #[test]
    fn thousands_of_mistakes_are_counted() {
        let many = Mistakes::of((0..40_000).map(|n| n.to_string()));
        assert_eq!(many.count(), 40_000);
        assert_eq!(many.lines().len(), MISTAKES + 1);
        assert_eq!(
            many.lines()[MISTAKES],
            "and 39950 more errors: run `dfw check`"
        );
        let few = Mistakes::of((0..MISTAKES).map(|n| n.to_string()));
        assert_eq!((few.count(), few.lines().len()), (MISTAKES, MISTAKES));
    }
}
