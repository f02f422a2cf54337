//! Where answers and diagnostics go, and in which colours.
//!
//! stdout is the answer, stderr is everything about it. Nothing depends on colour.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::source::Sources;

use super::diagnostic::render;

/// The two streams of the program.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    json: bool,
    colour_out: bool,
    colour_err: bool,
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
        }
    }

    /// Gives the answer: as JSON if asked for, else as text.
    ///
    /// # Errors
    /// As the stream's.
    pub fn answer(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &json())?;
            writeln!(out)?;
        } else {
            out.write_all(text().as_bytes())?;
        }
        out.flush()
    }

    /// Gives a part of an answer that has no end: as one line of JSON if asked for, else as text.
    ///
    /// # Errors
    /// As the stream's.
    pub fn part(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, &json())?;
            writeln!(out)?;
        } else {
            out.write_all(text().as_bytes())?;
        }
        out.flush()
    }

    /// Says the first part of an answer before the rest is known, unless it will be JSON, which is
    /// one document. That nobody reads it is told when the rest is.
    pub fn tell(self, text: &str) {
        if !self.json {
            let mut out = io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// Shows a diagnostic.
    pub fn diagnostic(self, diagnostic: &Diagnostic, sources: &Sources) {
        // Nobody is left to be told if stderr is closed.
        let _ = io::stderr()
            .lock()
            .write_all(render(diagnostic, sources, self.colour_err).as_bytes());
    }

    /// An empty line between diagnostics.
    pub fn gap(self) {
        let _ = writeln!(io::stderr().lock());
    }

    /// Says something about the work, in one line: a coloured word and what it is about.
    pub fn say(self, tone: Tone, word: &str, text: &str) {
        let _ = writeln!(
            io::stderr().lock(),
            "{}: {text}",
            paint(self.colour_err, tone, word)
        );
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
