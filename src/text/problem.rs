//! A problem of a whole file, found before it is parsed.

use super::diagnostic::{Diagnostic, quoted};
use super::span::{FileId, Span};

/// A problem of a whole file, found before it is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file is not UTF-8. Its [text](super::SourceMap::text) has U+FFFD where it is not.
    NotUtf8 {
        /// The offset of the first invalid byte in that text.
        at: usize,
        /// Whether the file begins with a byte order mark of UTF-16.
        utf16: bool,
    },
    /// The file looks like a policy, but its name does not end in `.yaml`, so it would be ignored.
    WrongExtension,
    /// The file is not text, such as a gzip archive.
    NotText {
        /// The format.
        what: &'static str,
        /// The help line.
        help: &'static str,
    },
}

impl Problem {
    /// Returns the problem as an error about the file with this name and text.
    pub(super) fn error(&self, file: FileId, name: &str, text: &str) -> Diagnostic {
        match self {
            Self::NotUtf8 { at, utf16 } => {
                let message = format!("{} is not UTF-8", quoted(name));
                let width = text.get(*at..).and_then(|rest| rest.chars().next());
                let end = at + width.map_or(0, char::len_utf8);
                let error = Diagnostic::error("encoding", message)
                    .at(Span::new(file, *at, end), "the first wrong byte");
                error.help(if *utf16 {
                    "it looks like UTF-16, as some editors on Windows save it; save it as UTF-8: `iconv -f UTF-16 -t UTF-8 FILE`"
                } else {
                    "save it as UTF-8"
                })
            }
            Self::NotText { what, help } => {
                let message = format!("{} is {what}", quoted(name));
                let error = Diagnostic::error("encoding", message).help(*help);
                error.at(Span::new(file, 0, 0), "not plain text")
            }
            Self::WrongExtension => {
                let short = name.rsplit_once('/').map_or(name, |(_, short)| short);
                let stem = short.rsplit_once('.').map_or(short, |(stem, _)| stem);
                let message = format!(
                    "{} does not end in `.yaml` and would be left out",
                    quoted(name)
                );
                let error = Diagnostic::error("extension", message);
                let help = format!(
                    "rename it to {}, or to something that does not look like a policy",
                    quoted(&format!("{stem}.yaml"))
                );
                let public = "the name of this file does not end in `.yaml`";
                error
                    .at(Span::new(file, 0, 0), "")
                    .help(help)
                    .to_public(public)
            }
        }
    }
}
