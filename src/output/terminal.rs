//! Where answers and diagnostics go, and in which colours.
//!
//! stdout is the answer, stderr is everything about it. Nothing depends on colour.

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

/// Who reads what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// The user who called the program.
    Caller,
    /// Users who may read the journal.
    Journal,
}

/// Whether this stream goes to the journal, as systemd says it in `JOURNAL_STREAM` (`systemd.exec(5)`): it
/// is read by others than root.
fn is_journal(stream: impl std::os::fd::AsFd) -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = rustix::fs::fstat(stream);
    stat.is_ok_and(|stat| told == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// How wide the terminal behind a stream is: as `COLUMNS` says, or else as itself says. `None`
/// without a terminal, where nobody wants lines to be folded.
pub fn width(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let told = std::env::var("COLUMNS").ok();
    let told = told.and_then(|columns| columns.parse().ok());
    let found = || tcgetwinsize(stream).ok().map(|size| size.ws_col.into());
    told.or_else(found).filter(|&columns| columns > 0)
}

/// What a line is about, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went as wanted.
    Good,
    /// Worth a look.
    Warning,
    /// It did not.
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
    /// The program's own streams. `colour` decides, or with `None` the terminal and the
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

    /// Whether others than the caller read what is said: then no text of a file is shown that they may not
    /// read.
    #[must_use]
    pub fn is_public(self) -> bool {
        self.readers == Readers::Journal
    }

    /// Returns the same streams, for an answer as JSON.
    #[must_use]
    pub fn as_json(self) -> Self {
        Self { json: true, ..self }
    }

    /// Gives the answer: as JSON if asked for, else as text.
    ///
    /// Whoever closes the pipe has read enough: that is no error, and the exit code is what it would
    /// have been.
    ///
    /// # Errors
    /// As the stream's.
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

    /// Gives a part of an answer that has no end: as one line of JSON if asked for, else as text.
    ///
    /// # Errors
    /// As the stream's; a closed pipe is the end.
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

    /// Says the first part of an answer before the rest is known, unless it will be JSON, which is
    /// one document. That nobody reads it is told when the rest is.
    pub fn tell(self, text: &str) {
        if !self.json {
            let _ = write(io::stdout().lock(), &printable(text, self.colour_out));
        }
    }

    /// Shows a diagnostic; without a word of the file where the journal reads it.
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

    /// The diagnostic as JSON; without a word of the file where the journal reads it.
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

    /// Shows diagnostics on stderr, with an empty line behind each.
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

    /// An empty line between diagnostics.
    pub fn gap(self) {
        self.explain("\n");
    }

    /// Says something about the work, in one line: a coloured word and what it is about.
    pub fn say(self, tone: Tone, word: &str, text: &str) {
        /// How many characters the line has at most.
        const LONGEST: usize = 4000;
        let text = clean_to(text, LONGEST);
        self.explain(&format!("{}: {text}\n", paint(self.colour_err, tone, word)));
    }

    fn explain(self, text: &str) {
        // Nobody is left to be told if stderr is closed.
        let _ = write(io::stderr().lock(), &printable(text, self.colour_err));
    }

    /// Rows of the answer in columns, folded where the terminal is too narrow for them.
    #[must_use]
    pub fn table<const N: usize>(self, rows: &[[String; N]]) -> String {
        align(rows, self.width_out)
    }

    /// A word of the answer in the colour of its tone.
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

/// The text without what would move the cursor, hide or turn around what is written, which names from
/// elsewhere may hold where nobody has cleaned them: only breaks and tabs are left, and dfw's own colours
/// if there are any.
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

/// Whether it begins with an escape that sets one of the colours that dfw uses, or none: others hide text.
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
