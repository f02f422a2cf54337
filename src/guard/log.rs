//! What guard says: one line for each thing that happens, on stderr.

use std::io::{self, Write};

use crate::diagnostic::{Diagnostic, Severity};
use crate::policies::Wrong;
use crate::source::Sources;

/// How much it matters, as syslog counts.
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
    /// Whether the journal reads them, which takes the level from their beginning.
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
        // Whoever was to read it is gone; the work goes on.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// The text without what would begin a line: names of files may have anything in them.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A diagnostic in one line, with its place and without a word of the file: the journal and guard's socket
/// are read by others than root.
pub(super) fn line(diagnostic: &Diagnostic, sources: &Sources) -> String {
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

/// What is wrong with policies, a line for each.
pub(super) fn lines(wrong: &Wrong) -> Vec<String> {
    match wrong {
        Wrong::Unread(error) => vec![error.to_string()],
        Wrong::Invalid {
            diagnostics,
            sources,
        } => {
            let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
            errors.map(|error| line(error, sources)).collect()
        }
        Wrong::Failed { report, sources } => {
            let failed = report.failed.iter();
            failed
                .map(|failed| line(&failed.diagnostic, sources))
                .collect()
        }
    }
}
