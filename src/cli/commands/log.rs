//! `dfw log`: shows denied packets, live.

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

// Arguments of `dfw log`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LogArgs {
    /// Stop after N packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this time, such as 30s, 5m or 1h
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
}

/// Counts of shown and lost packets.
#[derive(Debug, Default)]
struct Tally {
    shown: u64,
    lost: u64,
    /// The expected sequence number of the next packet.
    next: u32,
    /// Whether packets were lost since the last one, and their number is not known yet.
    open: bool,
}

impl Tally {
    /// Counts the packets lost before this one.
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
        None => terminal.say(Tone::Warning, "note", "dfw's rules are not in force"),
        Some(ruleset) if !logs(&ruleset) => terminal.say(
            Tone::Warning,
            "note",
            "no rule in force logs: add `log: true` to ports of the policy, or to its `settings`",
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
            // Other rulesets may log to the same group.
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

/// Returns whether any rule logs to dfw's group.
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

/// Returns when the packet arrived, or else when it was read.
fn time_of(packet: &Logged) -> Timestamp {
    let noted = packet.time.and_then(|since| {
        let seconds = i64::try_from(since.as_secs()).ok()?;
        Timestamp::new(seconds, since.subsec_nanos().cast_signed()).ok()
    });
    let time = noted.unwrap_or_else(Timestamp::now);
    time.round(Unit::Millisecond).unwrap_or(time)
}

/// A denied packet.
struct Denial<'a> {
    time: Timestamp,
    incoming: Option<String>,
    packet: &'a Logged,
    /// The port's key in the policy, if it has one.
    port: Option<&'a str>,
    origin: &'a str,
    /// The number of packets lost before this one.
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
        let port = self.port.unwrap_or("a port without a policy entry");
        // For a range, add the port that was requested.
        let asked = match self.packet.original_port {
            Some(asked) if !names(port, asked) => format!(" ({asked})"),
            _ => String::new(),
        };
        format!(
            "{}  {incoming}  {from}  {denied} at {}{asked}, destination {to}  ({})\n",
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

/// Returns whether a key of a policy is exactly this port.
fn names(port: &str, number: u16) -> bool {
    let key: Result<HostPorts, _> = port.parse();
    key.is_ok_and(|key| (key.first, key.last) == (number, number))
}
