//! `dfw trace`: traces packets through all nftables tables.

use crate::net::{HostPorts, Protocol};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::compile::{port_key, shared_ports};
use crate::kernel::{Heard, Kernel, Tracer};
use crate::netlink::header::Headers;
use crate::netlink::trace::Event;
use crate::nftables::object::{family_name, is_inet};
use crate::nftables::tracer::Filter;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Expression, L4Protocol, Origin, Port, Rule, TABLE};
use crate::text::diagnostic::Diagnostic;
use crate::trace::{Fate, Journey, Journeys, Step};
use crate::untrusted::clean;

use super::explain::port;
use crate::cli::report::failure::Failure;
use crate::cli::watch::{Wake, Watch, endpoint, headers, protocol, tcp_flags, time};

/// The number of rules in the cache; when it is full, it is cleared.
const REMEMBERED: usize = 4096;
/// How long to wait for further steps of a packet.
const PAUSE: Duration = Duration::from_millis(100);

// Arguments of `dfw trace`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TraceArgs {
    #[command(flatten)]
    which: Which,
    /// Stop after this time, such as 30s, 5m or 1h
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = time)]
    time: Duration,
    /// Stop after N packets
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
}

// The filter: at least one of these options.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// Trace packets from this address
    #[arg(long, value_name = "ADDR")]
    from: Option<IpAddr>,
    /// Trace packets to this port, before DNAT
    ///
    /// `443`, `192.0.2.1:443` or `[2001:db8::1]:443`; append `/udp` or `/sctp` if it is not TCP.
    #[arg(long, value_name = "PORT", value_parser = port)]
    to: Option<HostPorts>,
}

/// Rules by family, table, chain and handle, as far as they were read; `None` if the rule is gone.
type Rules = BTreeMap<(u8, String, String, u64), Option<Rule>>;

pub(in crate::cli) fn run(terminal: Terminal, args: &TraceArgs) -> Result<(), Failure> {
    let filter = filter(&args.which)?;
    let watch = Watch::new(Some(args.time))?;
    let tracer = Tracer::begin(&filter)?;
    terminal.say(
        Tone::Good,
        "tracing",
        &format!("{}; Ctrl-C ends", about(args)),
    );
    let mut journeys = Journeys::new(tracer.table().to_owned(), args.count);
    let mut show = Show {
        terminal,
        tracer: &tracer,
        rules: Rules::new(),
        origins: None,
        shown: 0,
    };
    let mut overruns = 0_usize;
    while !journeys.is_over() {
        let pause = journeys.is_busy().then_some(PAUSE);
        if watch.wait(&tracer, pause)? == Wake::Over {
            break;
        }
        match tracer.hear()? {
            Heard::Messages(messages) => {
                let now = Instant::now();
                for message in messages {
                    journeys
                        .take(message, now)
                        .iter()
                        .try_for_each(|journey| show.journey(journey))?;
                }
            }
            Heard::Lost => overruns += 1,
        }
        journeys
            .quiet(Instant::now())
            .iter()
            .try_for_each(|journey| show.journey(journey))?;
    }
    for journey in journeys.rest() {
        show.journey(&journey)?;
    }
    let shown = show.shown;
    drop(tracer);
    if overruns > 0 {
        let times = count(overruns, "time", "times");
        let text = format!("trace messages, {times} (ENOBUFS): traces may have gaps");
        terminal.say(Tone::Warning, "lost", &text);
    }
    let packets = match shown {
        0 => "no packet matched".to_owned(),
        _ => count(shown, "packet", "packets"),
    };
    terminal.say(Tone::Good, "ended", &packets);
    Ok(())
}

fn filter(args: &Which) -> Result<Filter, Failure> {
    let destination = args.to.as_ref().and_then(|to| to.address);
    if let (Some(from), Some(to)) = (args.from, destination)
        && from.is_ipv4() != to.is_ipv4()
    {
        let message = format!("{from} and {to} are of different families");
        return Err(Failure::plain(Diagnostic::error("family", message)));
    }
    Ok(Filter {
        source: args.from,
        destination,
        port: args.to.as_ref().map(|to| {
            let protocol = match to.protocol {
                Protocol::Tcp => L4Protocol::Tcp,
                Protocol::Udp => L4Protocol::Udp,
                Protocol::Sctp => L4Protocol::Sctp,
            };
            (protocol, to.first)
        }),
    })
}

fn about(args: &TraceArgs) -> String {
    let mut text = "packets".to_owned();
    if let Some(from) = args.which.from {
        let _ = write!(text, " from {from}");
    }
    if let Some(to) = &args.which.to {
        let _ = write!(text, " to {to}");
    }
    let packets = count(args.count as usize, "packet", "packets");
    format!("{text}, for {:?} or {packets}", args.time)
}

/// Prints traced packets with the rules that they match.
struct Show<'a> {
    terminal: Terminal,
    tracer: &'a Tracer,
    rules: Rules,
    /// The policy lines of ports that share sets; read on first use.
    origins: Option<BTreeMap<HostPorts, String>>,
    shown: usize,
}

impl Show<'_> {
    fn journey(&mut self, journey: &Journey) -> Result<(), Failure> {
        self.shown += 1;
        let rules: Vec<Option<Rule>> = journey
            .steps
            .iter()
            .map(|step| self.rule(step, journey))
            .collect::<Result<_, _>>()?;
        let name = |index: Option<u32>| index.and_then(|index| self.tracer.interface(index));
        let seen = Seen {
            journey,
            rules: &rules,
            incoming: name(journey.incoming),
            outgoing: name(journey.outgoing),
        };
        Ok(self
            .terminal
            .part(|| seen.json(), || seen.text(self.terminal))?)
    }

    /// Returns the rule of a step; if it covers many ports, with the comment of the packet's port.
    fn rule(&mut self, step: &Step, journey: &Journey) -> Result<Option<Rule>, Failure> {
        let mut rule = self.rule_itself(step)?;
        if let Some(rule) = rule.as_mut().filter(|rule| rule.comment.is_none())
            && is_own(step)
            && rule
                .expressions
                .iter()
                .any(|e| matches!(e, Expression::Port(Port::In { .. })))
        {
            rule.comment = journey.headers.as_ref().and_then(|h| self.origin(h));
        }
        Ok(rule)
    }

    /// Returns the comment of a port that shares sets with others.
    fn origin(&mut self, headers: &Headers) -> Option<String> {
        let origins = self.origins.get_or_insert_with(|| {
            let snapshot = Kernel::open().and_then(|kernel| kernel.outline());
            let installed = snapshot.ok().and_then(|snapshot| snapshot.installed);
            let ruleset = installed
                .map(|installed| installed.ruleset)
                .unwrap_or_default();
            shared_ports(&ruleset)
                .filter_map(|(key, comment)| Some((key, comment?.to_owned())))
                .collect()
        });
        let protocol = L4Protocol::ALL
            .into_iter()
            .find(|p| p.number() == headers.protocol)?;
        let (_, destination) = headers.ports?;
        origins.get(&port_key(protocol, destination)?).cloned()
    }

    fn rule_itself(&mut self, step: &Step) -> Result<Option<Rule>, Failure> {
        let Event::Rule(handle) = step.event else {
            return Ok(None);
        };
        let (family, table, chain) = (step.family, &step.table, &step.chain);
        let key = (family, table.clone(), chain.clone(), handle);
        if let Some(rule) = self.rules.get(&key) {
            return Ok(rule.clone());
        }
        let rule = self.tracer.rule(family, table, chain, handle)?;
        let rule = rule.map(|found| found.rule);
        if self.rules.len() >= REMEMBERED {
            self.rules.clear();
        }
        self.rules.insert(key, rule.clone());
        Ok(rule)
    }
}

/// A traced packet with the names of its rules and interfaces.
struct Seen<'a> {
    journey: &'a Journey,
    /// One for each step.
    rules: &'a [Option<Rule>],
    incoming: Option<String>,
    outgoing: Option<String>,
}

impl Seen<'_> {
    fn text(&self, terminal: Terminal) -> String {
        let journey = self.journey;
        let mut text = match &self.incoming {
            Some(name) => format!("{name}  "),
            None => "sent by this host  ".to_owned(),
        };
        text.push_str(&journey.headers.as_ref().map_or("?".to_owned(), packet));
        if let Some(changed) = &journey.changed {
            let _ = write!(text, ", rewritten to {}", packet(changed));
        }
        if let Some(name) = &self.outgoing {
            let _ = write!(text, ", leaving through {name}");
        }
        text.push('\n');
        let rows: Vec<[String; 5]> = journey.steps.iter().zip(self.rules).map(row).collect();
        text.push_str(&terminal.table(&rows));
        if journey.cut {
            text.push_str("  … further steps omitted\n");
        }
        let last = match journey.fate() {
            Fate::Dropped(step) => {
                let word = terminal.paint(Tone::Bad, "dropped");
                format!("{word} by {}", self.place(step))
            }
            Fate::Taken(step) => format!("stolen or queued by {}", self.place(step)),
            Fate::Accepted => {
                let word = terminal.paint(Tone::Good, "accepted");
                format!("{word} by every chain")
            }
        };
        let _ = writeln!(text, "  {last}");
        text
    }

    /// Returns the table, chain and rule of the last step.
    fn place(&self, step: &Step) -> String {
        let table = format!("{} {}", family_name(step.family), clean(&step.table));
        let rule = match (step.event, self.rules.last()) {
            (Event::Rule(handle), Some(rule)) => {
                let comment = rule.as_ref().and_then(|rule| rule.comment.clone());
                match comment {
                    Some(comment) if is_own(step) => clean(&comment),
                    Some(comment) => format!("rule {handle} ({})", clean(&comment)),
                    None => format!("rule {handle}"),
                }
            }
            (Event::Policy, _) => "by its policy".to_owned(),
            _ => "at its end".to_owned(),
        };
        format!("{table}, chain {}, {rule}", clean(&step.chain))
    }

    fn json(&self) -> Value {
        let journey = self.journey;
        let fate = match journey.fate() {
            Fate::Dropped(_) => "dropped",
            Fate::Taken(_) => "taken",
            Fate::Accepted => "accepted",
        };
        json!({
            "schema": "dfw/trace/v1",
            "incoming": self.incoming,
            "outgoing": self.outgoing,
            "packet": headers(journey.headers.as_ref()),
            "rewritten": headers(journey.changed.as_ref()),
            "steps": journey.steps.iter().zip(self.rules).map(step_json).collect::<Vec<_>>(),
            "complete": !journey.cut,
            "verdict": fate,
        })
    }
}

/// Returns whether a step is in dfw's own table.
fn is_own(step: &Step) -> bool {
    is_inet(step.family) && step.table == TABLE
}

fn step_json((step, rule): (&Step, &Option<Rule>)) -> Value {
    let (event, handle) = match step.event {
        Event::Rule(handle) => ("rule", Some(handle)),
        Event::Return => ("return", None),
        Event::Policy => ("policy", None),
        Event::Unknown => ("unknown", None),
    };
    let comment = rule.as_ref().and_then(|rule| rule.comment.as_deref());
    let origin = comment.filter(|_| is_own(step)).and_then(Origin::parse);
    json!({
        "family": family_name(step.family),
        "table": clean(&step.table),
        "chain": clean(&step.chain),
        "event": event,
        "handle": handle,
        "comment": comment.map(clean),
        "origin": origin.map(|origin| origin.to_string()),
        "verdict": clean(&step.verdict.to_string()),
    })
}

fn row((step, rule): (&Step, &Option<Rule>)) -> [String; 5] {
    let what = match step.event {
        Event::Rule(handle) => format!("rule {handle}"),
        Event::Return => "end".to_owned(),
        Event::Policy => "policy".to_owned(),
        Event::Unknown => "?".to_owned(),
    };
    [
        format!("{} {}", family_name(step.family), clean(&step.table)),
        clean(&step.chain),
        what,
        clean(&step.verdict.to_string()),
        rule.as_ref().map(says).unwrap_or_default(),
    ]
}

/// Returns the text of a rule, if dfw can decode it, and its comment.
fn says(rule: &Rule) -> String {
    let foreign = |e: &Expression| matches!(e, Expression::Unknown { .. });
    let comment = rule
        .comment
        .as_ref()
        .map(|comment| format!("({})", clean(comment)));
    let text = (!rule.expressions.iter().any(foreign))
        .then(|| shortened(Rule::new(rule.expressions.clone(), None).to_string()));
    let parts: Vec<String> = text.into_iter().chain(comment).collect();
    parts.join("  ")
}

fn shortened(mut text: String) -> String {
    const LONGEST: usize = 80;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// `SOURCE > DESTINATION/PROTOCOL FLAGS`
fn packet(headers: &Headers) -> String {
    let (source, destination) = headers.ports.unzip();
    let flags = headers.tcp_flags.map(tcp_flags).unwrap_or_default();
    let mut text = format!(
        "{} > {}/{}",
        endpoint(headers.source, source),
        endpoint(headers.destination, destination),
        protocol(headers.protocol),
    );
    for flag in flags {
        text.push(' ');
        text.push_str(flag);
    }
    text
}
