//! The command line: `commands` runs them, `report` formats results and failures, `session` deals with
//! the user's terminal and SSH connection. No other module depends on it.

mod arguments;
mod commands;
mod directory;
mod examples;
mod keys;
mod load;
mod page_file;
mod report;
mod session;
mod usage;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, ValueEnum};

use commands::Verb;

/// Firewall the ports that Docker publishes.
#[derive(Debug, Parser)]
#[command(
    name = "dfw",
    version,
    help_template = "\
{about}: {usage}
{subcommands}{after-help}",
    after_help = examples::DFW,
    after_long_help = examples::TOUR
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    /// When to use colour: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    color: Color,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// Returns the command line of `dfw`: every command with its options and help.
///
/// Manual pages and shell completions are generated from it (`cargo run --example generate`).
#[must_use]
pub fn command_line() -> clap::Command {
    Args::command()
}

/// Runs the program: parses the command line, runs the command and reports failures.
#[must_use]
pub fn main() -> ExitCode {
    let (args, terminal) = match usage::read() {
        Ok(read) => read,
        Err(code) => return code,
    };
    match args.verb.run(terminal) {
        Ok(code) => code,
        Err(failure) => failure.report(terminal, args.verb.changes()),
    }
}
