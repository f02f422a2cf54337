//! `dfw grant`: permissions for a time, by guard.

use std::fmt::Write;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use crate::cli::commands::guard::SocketArgs;
use crate::cli::examples;
use crate::cli::report::failure::Failure;
use crate::guard::{self, Answer, Request};
use crate::net::{Entry, HostPorts};
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::policy::{describe_time, parse_entry, parse_time};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::clean;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GrantArgs {
    #[command(subcommand)]
    verb: GrantVerb,
}

#[derive(Debug, Subcommand)]
enum GrantVerb {
    /// Give sources access to ports until a time
    #[command(after_help = examples::GRANT_ADD)]
    Add {
        /// Addresses, networks or ranges
        #[arg(value_name = "ADDR|NETWORK", required = true, value_parser = entry)]
        from: Vec<Entry>,
        /// The port or range, as in a policy: `5432`, `8000-8010/udp`, `203.0.113.10:80`
        #[arg(long, value_name = "PORT", value_parser = ports)]
        to: HostPorts,
        /// How long: `90s`, `5m`, `2h`, `1d`, `2w`
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        time: Duration,
        /// Why; it is logged and listed
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        guard: SocketArgs,
    },
    /// List the grants in force
    #[command(after_help = examples::GRANT_LIST)]
    List {
        #[command(flatten)]
        guard: SocketArgs,
    },
    /// End a grant by its number, or all of an address or a network
    #[command(after_help = examples::GRANT_REVOKE)]
    Revoke {
        /// The number, the address or the network
        #[arg(value_name = "ID|ADDR|NETWORK", value_parser = grant)]
        what: String,
        #[command(flatten)]
        guard: SocketArgs,
    },
}

fn entry(text: &str) -> Result<Entry, String> {
    parse_entry(text).map_err(|mistake| mistake.to_string())
}

fn ports(text: &str) -> Result<HostPorts, String> {
    text.parse()
        .map_err(|mistake: crate::policy::Mistake| mistake.to_string())
}

fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).ok_or_else(|| "write a time such as `90s`, `5m`, `2h` or `1d`".to_owned())
}

fn grant(text: &str) -> Result<String, String> {
    let is_number = text.parse::<u64>().is_ok();
    match parse_entry(text) {
        Err(mistake) if !is_number => Err(mistake.to_string()),
        _ => Ok(text.to_owned()),
    }
}

pub(in crate::cli) fn run(terminal: Terminal, args: &GrantArgs) -> Result<(), Failure> {
    let (request, guard) = match &args.verb {
        GrantVerb::Add {
            from,
            to,
            time,
            reason,
            guard,
        } => {
            let add = Request::Add {
                from: from.iter().map(Entry::to_string).collect(),
                to: to.to_string(),
                seconds: time.as_secs(),
                reason: reason.clone(),
            };
            (add, guard)
        }
        GrantVerb::List { guard } => (Request::List, guard),
        GrantVerb::Revoke { what, guard } => (Request::Revoke(what.clone()), guard),
    };
    let failed = |message: String| Failure::plain(Diagnostic::error("grant", message));
    let document = match guard::request(&guard.path(), &request) {
        Answer::Status(document) => document,
        Answer::Nobody => {
            let message = "guard does not run: grants are given, and ended, by guard".to_owned();
            let help = "start it with `systemctl enable --now dfw`; nothing was changed";
            return Err(Failure::plain(
                Diagnostic::error("no-guard", message).help(help),
            ));
        }
        Answer::Silent { reason, .. } => {
            return Err(failed(format!("guard does not answer: {reason}")));
        }
        Answer::Unknown(reason) => return Err(failed(format!("guard cannot be asked: {reason}"))),
    };
    if let Some(error) = document["error"].as_str() {
        return Err(failed(clean(error)));
    }
    let grants = document["grants"].as_array().cloned().unwrap_or_default();
    terminal.answer(
        || document,
        || match args.verb {
            GrantVerb::Add { .. } => sentences(terminal, "granted", &grants),
            GrantVerb::Revoke { .. } => sentences(terminal, "revoked", &grants),
            GrantVerb::List { .. } => list(terminal, &grants),
        },
    )?;
    Ok(())
}

/// How many grants are named before only their number is.
const NAMED: usize = 20;

/// Returns a line for each grant.
fn sentences(terminal: Terminal, word: &str, grants: &[Value]) -> String {
    let mut lines = String::new();
    for grant in grants.iter().take(NAMED) {
        let text = |key: &str| clean(grant[key].as_str().unwrap_or_default());
        let _ = writeln!(
            lines,
            "{} {} to {} until {} ({}), grant {}",
            terminal.paint(Tone::Good, word),
            text("from"),
            text("to"),
            text("until"),
            left(grant),
            grant["id"]
        );
    }
    if let more @ 1.. = grants.len().saturating_sub(NAMED) {
        let _ = writeln!(lines, "and {}", count(more, "more grant", "more grants"));
    }
    lines
}

/// Returns a table of grants.
fn list(terminal: Terminal, grants: &[Value]) -> String {
    if grants.is_empty() {
        return "no grants\n".to_owned();
    }
    let head = ["GRANT", "FROM", "TO", "LEFT", "UNTIL", "BY", "REASON"].map(str::to_owned);
    let row = |grant: &Value| {
        let text = |key: &str| clean(grant[key].as_str().unwrap_or_default());
        [
            grant["id"].to_string(),
            text("from"),
            text("to"),
            left(grant),
            text("until"),
            by(grant),
            text("reason"),
        ]
    };
    let rows: Vec<[String; 7]> = std::iter::once(head)
        .chain(grants.iter().map(row))
        .collect();
    terminal.table(&rows)
}

/// Returns who asked for a grant.
fn by(grant: &Value) -> String {
    match grant["uid"].as_u64() {
        Some(0) => "root".to_owned(),
        Some(uid) => format!("user {uid}"),
        None => "?".to_owned(),
    }
}

/// Returns the time that is left, rounded up.
fn left(grant: &Value) -> String {
    let seconds = grant["seconds_left"].as_u64().unwrap_or_default();
    describe_time(Duration::from_secs(seconds.saturating_add(1)))
}
