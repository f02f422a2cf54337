//! `dfw log`: denied packets as they come.

use crate::net::HostPorts;
use std::fmt::Write;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use crate::cli::report::failure::Failure;
use crate::cli::watch::{Wake, Watch, endpoint, headers, protocol, time};
use crate::compile::logged;
use crate::kernel::{Heard, Kernel, Listener};
use crate::netlink::nflog::Logged;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Expression, LOG_GROUP, Ruleset, Statement};

/// What is shown.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LogArgs {
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, such as 30s, 5m or 1h
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
}

/// What was shown, and what could not be.
#[derive(Debug, Default)]
struct Tally {
    shown: u64,
    lost: u64,
    /// The number that the next packet has if none is lost.
    next: u32,
    /// Whether packets were lost since the last that came, so that nobody knows yet how many.
    open: bool,
}

impl Tally {
    /// Counts what was lost before a packet.
    fn take(&mut self, packet: &Logged) -> u64 {
        let Some(sequence) = packet.sequence else {
            return 0;
        };
        let lost = u64::from(sequence.wrapping_sub(self.next));
        self.next = sequence.wrapping_add(1);
        self.lost += lost;
        self.open = false;
        lost
    }
}

pub(in crate::cli) fn run(terminal: Terminal, args: &LogArgs) -> Result<(), Failure> {
    let watch = Watch::new(args.time)?;
    let listener = Listener::open(LOG_GROUP)?;
    let installed = Kernel::open()?.outline()?.installed;
    match installed.map(|table| table.ruleset) {
        None => terminal.say(Tone::Warning, "note", "no rules of dfw are in force"),
        Some(ruleset) if !logs(&ruleset) => terminal.say(
            Tone::Warning,
            "note",
            "no rule in force logs: give ports of the policy, or its `settings`, `log: true`",
        ),
        Some(_) => terminal.say(Tone::Good, "listening", "for denied packets; Ctrl-C ends"),
    }
    let mut tally = Tally::default();
    let limit = args.count.unwrap_or(u64::MAX);
    while tally.shown < limit && watch.wait(&listener, None)? != Wake::Over {
        let packets = match listener.hear()? {
            Heard::Messages(packets) => packets,
            Heard::Lost => {
                tally.open = true;
                continue;
            }
        };
        for packet in packets {
            let lost = tally.take(&packet);
            if lost > 0 {
                terminal.say(Tone::Warning, "lost", &count_of(lost));
            }
            // Others may log to the group too.
            let Some((port, origin)) = logged(&packet.prefix) else {
                continue;
            };
            if tally.shown == limit {
                break;
            }
            tally.shown += 1;
            let denial = Denial {
                time: time_of(&packet),
                incoming: packet.incoming.and_then(|index| listener.interface(index)),
                packet: &packet,
                port,
                origin,
                lost,
            };
            terminal.part(|| denial.json(), || denial.text(terminal))?;
        }
    }
    let mut summary = format!("{} shown", count_of(tally.shown));
    if tally.lost > 0 || tally.open {
        let more = if tally.open { " or more" } else { "" };
        let _ = write!(summary, ", {}{more} lost", tally.lost);
    }
    terminal.say(Tone::Good, "ended", &summary);
    Ok(())
}

fn count_of(packets: u64) -> String {
    count(
        usize::try_from(packets).unwrap_or(usize::MAX),
        "packet",
        "packets",
    )
}

/// Whether any rule logs to dfw's group.
fn logs(ruleset: &Ruleset) -> bool {
    let mut rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    rules.any(|rule| {
        rule.expressions.iter().any(|e| {
            matches!(
                e,
                Expression::Statement(Statement::Log {
                    group: Some(LOG_GROUP),
                    ..
                })
            )
        })
    })
}

/// When the packet came, or else when it was heard of.
fn time_of(packet: &Logged) -> Timestamp {
    let noted = packet.time.and_then(|since| {
        let seconds = i64::try_from(since.as_secs()).ok()?;
        Timestamp::new(seconds, since.subsec_nanos().cast_signed()).ok()
    });
    let time = noted.unwrap_or_else(Timestamp::now);
    time.round(Unit::Millisecond).unwrap_or(time)
}

/// A packet that was denied.
struct Denial<'a> {
    time: Timestamp,
    incoming: Option<String>,
    packet: &'a Logged,
    /// As the policy writes it, if it names it.
    port: Option<&'a str>,
    origin: &'a str,
    /// How many were lost before it.
    lost: u64,
}

impl Denial<'_> {
    fn text(&self, terminal: Terminal) -> String {
        let incoming = self.incoming.as_deref().unwrap_or("?");
        let denied = terminal.paint(Tone::Bad, "denied");
        let (from, to) = match &self.packet.headers {
            Some(headers) => {
                let (source, destination) = headers.ports.unzip();
                (
                    endpoint(headers.source, source),
                    format!(
                        "{}/{}",
                        endpoint(headers.destination, destination),
                        protocol(headers.protocol)
                    ),
                )
            }
            None => ("?".to_owned(), "?".to_owned()),
        };
        let port = self.port.unwrap_or("a port that no policy names");
        // A range of ports does not tell which of them was asked for.
        let asked = match self.packet.original_port {
            Some(asked) if !names(port, asked) => format!(" ({asked})"),
            _ => String::new(),
        };
        format!(
            "{}  {incoming}  {from}  {denied} at {}{asked}, on its way to {to}  ({})\n",
            self.time, port, self.origin
        )
    }

    fn json(&self) -> Value {
        json!({
            "schema": "dfw/log/v1",
            "time": self.time.to_string(),
            "incoming": self.incoming,
            "port": self.port,
            "original_port": self.packet.original_port,
            "packet": headers(self.packet.headers.as_ref()),
            "origin": self.origin,
            "lost_before": self.lost,
        })
    }
}

/// Whether a port of a policy is this one port.
fn names(port: &str, number: u16) -> bool {
    let key: Result<HostPorts, _> = port.parse();
    key.is_ok_and(|key| (key.first, key.last) == (number, number))
}
