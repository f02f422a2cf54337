//! Writes answers to stdout and diagnostics to stderr, optionally in colour.
//!
//! Nothing is expressed by colour alone.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use rustix::termios::tcgetwinsize;
use serde_json::Value;

use crate::text::SourceMap;
use crate::text::diagnostic::{Diagnostic, Severity};
use crate::untrusted::{clean_to, is_deceptive};

use super::diagnostic::{render_within, to_json};
use super::table::align;

/// The two streams of the program.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    json: bool,
    colour_out: bool,
    colour_err: bool,
    width_out: Option<usize>,
    width_err: Option<usize>,
    readers: Readers,
}

/// The readers of stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// The user who called the program.
    Caller,
    /// Everyone who may read the journal.
    Journal,
}

/// Returns whether this stream goes to the journal (`JOURNAL_STREAM`, `systemd.exec(5)`), which users other
/// than root can read.
fn is_journal(stream: impl std::os::fd::AsFd) -> bool {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = rustix::fs::fstat(stream);
    stat.is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Returns the width of the terminal of a stream, by `COLUMNS` or the terminal itself; `None` without a
/// terminal.
pub fn width(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let variable = std::env::var("COLUMNS").ok();
    let columns = variable.and_then(|columns| columns.parse().ok());
    let found = || tcgetwinsize(stream).ok().map(|size| size.ws_col.into());
    columns.or_else(found).filter(|&columns| columns > 0)
}

/// The tone of a line, which selects its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Success.
    Good,
    /// Attention.
    Warning,
    /// Failure.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let colour = match self {
            Self::Good => AnsiColor::Green,
            Self::Warning => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        colour.on_default().bold()
    }
}

impl Terminal {
    /// Creates the terminal of the program's own streams. `colour` decides, or with `None` the terminal and the
    /// environment (`NO_COLOR`, `CLICOLOR`, `TERM`).
    #[must_use]
    pub fn new(json: bool, colour: Option<bool>) -> Self {
        let auto = |choice: ColorChoice| choice != ColorChoice::Never;
        Self {
            json,
            colour_out: colour.unwrap_or_else(|| auto(AutoStream::choice(&io::stdout()))),
            colour_err: colour.unwrap_or_else(|| auto(AutoStream::choice(&io::stderr()))),
            width_out: width(&io::stdout()),
            width_err: width(&io::stderr()),
            readers: if is_journal(io::stdout()) || is_journal(io::stderr()) {
                Readers::Journal
            } else {
                Readers::Caller
            },
        }
    }

    /// Returns whether users other than the caller read stderr: then text of files, which they may not be allowed
    /// to read, is not shown.
    #[must_use]
    pub fn is_public(self) -> bool {
        self.readers == Readers::Journal
    }

    /// Returns the terminal with JSON output.
    #[must_use]
    pub fn as_json(self) -> Self {
        Self { json: true, ..self }
    }

    /// Returns whether the answer is JSON.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints the answer, as JSON or text.
    ///
    /// A closed pipe is not an error and does not change the exit code.
    ///
    /// # Errors
    /// Errors of writing to stdout.
    pub fn answer(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let written = if self.json {
            write(io::stdout().lock(), &format!("{:#}\n", json()))
        } else {
            write(io::stdout().lock(), &printable(text(), self.colour_out))
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Prints a part of a live answer, as one line of JSON or as text.
    ///
    /// # Errors
    /// Errors of writing to stdout, including a closed pipe.
    pub fn part(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if self.json {
            write(io::stdout().lock(), &format!("{}\n", json()))
        } else {
            write(io::stdout().lock(), &printable(text(), self.colour_out))
        }
    }

    /// Prints the first part of an answer before the rest is known, unless the answer is JSON, which is one
    /// document. Errors are reported with the rest.
    pub fn tell(self, text: &str) {
        if !self.json {
            let _ = write(io::stdout().lock(), &printable(text, self.colour_out));
        }
    }

    /// Prints a diagnostic on stderr, without text of the file if stderr goes to the journal.
    pub fn diagnostic(self, diagnostic: &Diagnostic, sources: &SourceMap) {
        if let (true, Some(label)) = (self.is_public(), &diagnostic.primary) {
            let (line, column) = sources.line_column(&label.span);
            let (name, text) = (sources.name(label.span.file), diagnostic.public());
            let (tone, word) = match diagnostic.severity {
                Severity::Error => (Tone::Bad, "error"),
                Severity::Warning => (Tone::Warning, "warning"),
            };
            self.say(tone, word, &format!("{name}:{line}:{column}: {text}"));
            return;
        }
        self.explain(&render_within(
            diagnostic,
            sources,
            self.colour_err,
            self.width_err,
        ));
    }

    /// Converts a diagnostic to JSON, without text of the file if the output goes to the journal.
    #[must_use]
    pub fn to_json(self, diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
        if self.is_public() && diagnostic.primary.is_some() {
            let mut public = diagnostic.clone();
            public.message = diagnostic.public();
            public.notes.clear();
            public.help.clear();
            return to_json(&public, sources);
        }
        to_json(diagnostic, sources)
    }

    /// Prints diagnostics on stderr, with an empty line after each.
    pub fn diagnostics<'a>(
        self,
        diagnostics: impl IntoIterator<Item = &'a Diagnostic>,
        sources: &SourceMap,
    ) {
        for diagnostic in diagnostics {
            self.diagnostic(diagnostic, sources);
            self.gap();
        }
    }

    /// Prints an empty line between diagnostics.
    pub fn gap(self) {
        self.explain("\n");
    }

    /// Prints a line on stderr: a coloured word and a text.
    pub fn say(self, tone: Tone, word: &str, text: &str) {
        /// The maximum number of characters of a line.
        const LONGEST: usize = 4000;
        let text = clean_to(text, LONGEST);
        self.explain(&format!("{}: {text}\n", paint(self.colour_err, tone, word)));
    }

    fn explain(self, text: &str) {
        // If stderr is closed, nobody reads it.
        let _ = write(io::stderr().lock(), &printable(text, self.colour_err));
    }

    /// Aligns rows of the answer in columns, folded to the width of the terminal.
    #[must_use]
    pub fn table<const N: usize>(self, rows: &[[String; N]]) -> String {
        align(rows, self.width_out)
    }

    /// Colours a word of the answer.
    #[must_use]
    pub fn paint(self, tone: Tone, word: &str) -> String {
        paint(self.colour_out, tone, word)
    }
}

fn paint(colour: bool, tone: Tone, word: &str) -> String {
    if colour {
        let style = tone.style();
        format!("{style}{word}{style:#}")
    } else {
        word.to_owned()
    }
}

fn write(mut stream: impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// Replaces control characters and others that could deceive the reader; keeps line breaks, tabs and, with
/// colour, dfw's own colours. The last line of defence for names that were not cleaned before.
fn printable<'a>(text: impl Into<Cow<'a, str>>, colour: bool) -> Cow<'a, str> {
    let text = text.into();
    let harms = |c: char| is_deceptive(c) && c != '\n' && c != '\t';
    if !text.contains(harms) {
        return text;
    }
    let stays = |at: usize, c: char| !harms(c) || (colour && is_colour(&text[at..]));
    let characters = text.char_indices();
    characters
        .map(|(at, c)| {
            if stays(at, c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

/// Returns whether the text starts with an escape sequence of dfw's colours: others can hide text.
fn is_colour(text: &str) -> bool {
    let colour = |text: &str| match text.parse() {
        Ok(0 | 1 | 31..=36 | 91..=96) => true,
        Ok(_) => false,
        Err(_) => text.is_empty(),
    };
    let parameters = text.strip_prefix("\u{1b}[");
    let end = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != ';');
    parameters.is_some_and(|text: &str| {
        let (parameters, rest) = text.split_at(end(text).unwrap_or(text.len()));
        rest.starts_with('m') && parameters.split(';').all(colour)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_pass() {
        let text = "\u{1b}[1;31mred\u{1b}[0m\n\tä\u{1b}]0;title\u{7}\u{1b}[2J\r\u{9b}";
        let clean =
            "\u{1b}[1;31mred\u{1b}[0m\n\tä\u{fffd}]0;title\u{fffd}\u{fffd}[2J\u{fffd}\u{fffd}";
        assert_eq!(printable(text, true), clean);
        assert_eq!(printable(text, false), clean.replace('\u{1b}', "\u{fffd}"));
        assert!(matches!(printable("plain\n", false), Cow::Borrowed(_)));
        for hides in ["8", "30", "37;40", "38;5;0", "1;8"] {
            let text = format!("\u{1b}[{hides}mgone");
            assert_eq!(printable(&text, true), text.replace('\u{1b}', "\u{fffd}"));
        }
        for turns in ["\u{202e}", "\u{2028}", "\u{200b}", "\u{feff}", "\u{e0041}"] {
            assert_eq!(printable(turns, true), "\u{fffd}");
        }
    }
}
