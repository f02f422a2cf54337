//! What is wrong with a file before anybody looks at what it says.

use super::diagnostic::{Diagnostic, quoted};
use super::span::{FileId, Span};

/// What is wrong with a file before anybody looks at what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The file is not UTF-8. Its [text](super::SourceMap::text) has U+FFFD where it is not.
    NotUtf8 {
        /// The first bytes that are not UTF-8, as a place in that text.
        at: usize,
        /// It begins with the mark of UTF-16.
        utf16: bool,
    },
    /// The file is beside policies and looks like one, but its name does not end in `.yaml`: it
    /// would silently be left out.
    WrongExtension,
    /// The file is no text: what it is, such as `gzip`, and how to make text of it.
    NotText {
        /// What it is.
        what: &'static str,
        /// How to go on.
        help: &'static str,
    },
}

impl Problem {
    /// The error that tells it, of the file with this name and text.
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
