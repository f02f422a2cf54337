//! Pages as files, or on stdout.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::file;
use crate::output::terminal::{Terminal, Tone};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::report::failure::Failure;

/// Where a page goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// To stdout, instead of the text.
    Stdout,
    /// Into a file.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

/// A page, and where it goes.
pub(super) struct Page<'a> {
    /// The option that asks for it.
    option: &'static str,
    /// The place.
    destination: &'a Destination,
    /// The text.
    text: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(option: &'static str, destination: &'a Destination, text: String) -> Self {
        Self {
            option,
            destination,
            text,
        }
    }
}

/// Writes the pages that are for files, and returns the one for stdout, unless an option asks for another answer
/// there.
///
/// # Errors
/// If a file cannot be written, or more than one text is for stdout.
pub(super) fn write(
    terminal: Terminal,
    mode: u32,
    answer: Option<&'static str>,
    pages: Vec<Page<'_>>,
) -> Result<Option<String>, Failure> {
    let json = terminal.is_json().then_some("--json");
    let mut taken = answer.or(json).map(str::to_owned);
    let mut page = None;
    for Page {
        option,
        destination,
        text,
    } in pages
    {
        match destination {
            Destination::File(path) => {
                replace(path, mode, &text)?;
                terminal.say(Tone::Good, "written", &untrusted::path(path));
            }
            Destination::Stdout => {
                if let Some(other) = taken.replace(format!("{option} -")) {
                    let message = format!("`{option} -` and `{other}` are both for stdout");
                    return Err(Failure::plain(
                        Diagnostic::error("usage", message).help("name a file"),
                    ));
                }
                page = Some(text);
            }
        }
    }
    Ok(page)
}

/// Puts a file in place of the one that is there, which must be a file: not a device, a pipe or a link.
fn replace(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let unwritable = |why: String| {
        let message = format!("cannot write {}: {why}", untrusted::path(path));
        Failure::plain(Diagnostic::error("unwritable", message).help("`-` stands for stdout"))
    };
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(unwritable(
            "there is something else than a regular file".to_owned(),
        ));
    }
    file::replace(path, mode, text.as_bytes()).map_err(|error| unwritable(error.to_string()))
}
