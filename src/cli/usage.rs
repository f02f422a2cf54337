//! Parses the command line, and reports errors in it as text or JSON.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, FromArgMatches};
use serde_json::json;

use crate::output::diagnostic::to_json;
use crate::output::terminal::{Terminal, width};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;

use super::{Args, Color, command_line};

/// The width of help in columns, without a terminal and at most.
const WIDTH: usize = 80;
const WIDEST: usize = 100;

/// The exit code of a wrong command line.
const WRONG: u8 = 2;

/// Parses the command line.
///
/// # Errors
/// The exit code, after help or a usage error was printed.
pub(super) fn read() -> Result<(Args, Terminal), ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let typed = Typed::of(&words);
    let columns = width(&io::stdout()).map_or(WIDTH, |columns| columns.min(WIDEST));
    let command = command_line().color(typed.color).term_width(columns);
    let args = command
        .try_get_matches_from(words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    match args {
        Ok(args) => {
            let colour = match args.color {
                Color::Auto => None,
                Color::Always => Some(true),
                Color::Never => Some(false),
            };
            let terminal = Terminal::new(args.json, colour);
            Ok((args, terminal))
        }
        Err(error) => Err(typed.report(&error)),
    }
}

/// Options that apply even if the rest of the command line is invalid.
struct Typed {
    json: bool,
    color: ColorChoice,
}

impl Typed {
    fn of(words: &[OsString]) -> Self {
        let mut typed = Self {
            json: false,
            color: ColorChoice::Auto,
        };
        let mut words = words.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next().filter(|word| word != "--") {
            let when = match &*word {
                "--json" => {
                    typed.json = true;
                    continue;
                }
                "--color" => words.next(),
                word => word
                    .strip_prefix("--color=")
                    .map(|when| when.to_owned().into()),
            };
            typed.color = match when.as_deref() {
                Some("always") => ColorChoice::Always,
                Some("never") => ColorChoice::Never,
                _ => typed.color,
            };
        }
        typed
    }

    /// Prints the requested help or the usage error, and returns the exit code.
    fn report(&self, error: &clap::Error) -> ExitCode {
        // If the stream is closed, nobody reads it.
        let _ = error.print();
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ) {
            return ExitCode::SUCCESS;
        }
        let document = || {
            json!({
                "schema": "dfw/failure/v2",
                "exit_code": WRONG,
                "changed": false,
                "diagnostics": [to_json(&diagnostic(error), &SourceMap::new())],
            })
        };
        // If this fails, the exit code remains.
        let _ = Terminal::new(self.json, Some(false)).answer(document, String::new);
        ExitCode::from(WRONG)
    }
}

/// Converts clap's error to a diagnostic, without the usage text.
fn diagnostic(error: &clap::Error) -> Diagnostic {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message: Vec<&str> = message.split_whitespace().collect();
    let mut diagnostic = Diagnostic::error("usage", message.join(" "));
    for tip in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "))
    {
        diagnostic = diagnostic.help(tip);
    }
    diagnostic
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a usual terminal, less one for the prompt that follows.
    const LINES: usize = 23;

    #[test]
    fn a_command_is_described_as_in_the_list_of_commands() {
        let described = |dfw: &clap::Command| -> Vec<_> {
            let verbs = dfw
                .get_subcommands()
                .filter(|verb| verb.get_name() != "help");
            let text =
                |verb: &clap::Command| (verb.get_about().cloned(), verb.get_long_about().cloned());
            verbs
                .map(|verb| (verb.get_name().to_owned(), text(verb)))
                .collect()
        };
        let mut dfw = command_line();
        let listed = described(&dfw);
        dfw.build();
        assert_eq!(described(&dfw), listed);
    }

    #[test]
    fn help_fits_a_screen_and_has_examples() {
        let mut dfw = command_line().term_width(WIDTH);
        dfw.build();
        let own = dfw.clone();
        let verbs = dfw
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
        for command in std::iter::once(&own).chain(verbs) {
            let name = command.get_name();
            let [short, long] = [
                command.clone().render_help().to_string(),
                command.clone().render_long_help().to_string(),
            ];
            let lines = short.lines().count();
            assert!(lines <= LINES, "{name}: {lines} lines\n{short}");
            for line in short.lines().chain(long.lines()) {
                assert!(line.chars().count() <= WIDTH, "{name}: {line}");
            }
            for word in ["\n  dfw ", "--json", "--color", "--help"] {
                assert!(long.contains(word), "{name}: no {word} in\n{long}");
            }
        }
    }
}
