//! `dfw status`: shows the rules in force.

mod problems;

use std::fmt::Write;

use serde_json::{Value, json};

use crate::analysis::traffic::packets;
use crate::cli::commands::guard::SocketArgs;
use crate::cli::report::failure::Failure;
use crate::cli::report::grants;
use crate::cli::report::limits;
use crate::cli::report::notice;
use crate::cli::report::problems::Problems;
use crate::cli::report::site;
use crate::cli::report::stale::{SOURCES, age};
use crate::compile::is_marking;
use crate::guard::Answer;
use crate::host::HostView;
use crate::kernel::ForeignBaseChain;
use crate::kernel::unconfirmed::named;
use crate::kernel::{self, Kernel, Snapshot};
use crate::nftables::object::{family_name, shares_hook};
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::Counter;
use crate::ruleset::{Hook, TABLE};
use crate::text::SourceMap;
use crate::untrusted::{clean, clean_to};

/// The longest text of guard that is shown, in characters.
const LINE: usize = 4096;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatusArgs {
    #[command(flatten)]
    guard: SocketArgs,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &StatusArgs) -> Result<(), Failure> {
    let kernel = Kernel::open()?;
    let mut snapshot = kernel.survey()?;
    if let Some(installed) = &mut snapshot.installed {
        kernel.count_added(installed)?;
    }
    // The kernel is the source of truth, whether or not guard answers.
    let guard = crate::guard::ask(&args.guard.path());
    let interfaces = HostView::new(&kernel::links()?, &[], Vec::new()).interfaces;
    let warnings = snapshot
        .installed
        .as_ref()
        .map_or_else(Vec::new, |installed| {
            notice::admitting(&installed.ruleset, &interfaces)
        });
    terminal.diagnostics(&warnings, &SourceMap::new());
    let problems = problems::find(&kernel, &snapshot, &guard)?;
    let installed = snapshot.installed.as_ref();
    let ruleset = installed.map(|installed| &installed.ruleset);
    terminal.answer(
        || {
            let mut document = document(&snapshot);
            document["problems"] = problems::json(&problems);
            document["grants"] = grants::json(ruleset);
            document["guard"] = guard_document(&guard);
            let sources = SourceMap::new();
            document["warnings"] = warnings.iter().map(|w| to_json(w, &sources)).collect();
            document
        },
        || {
            problems::text(terminal, &problems)
                + &grants::text(terminal, ruleset)
                + &text(terminal, &snapshot)
                + &guard_text(terminal, &guard)
        },
    )?;
    Ok(())
}

/// Returns the status of guard as JSON: `null` if it does not run, or why it is unknown.
fn guard_document(guard: &Answer) -> Value {
    match guard {
        Answer::Nobody => Value::Null,
        Answer::Status(status) => {
            let mut status = status.clone();
            status["answers"] = true.into();
            status
        }
        Answer::Silent { process, reason } => {
            json!({"answers": false, "pid": process, "reason": reason})
        }
        Answer::Unknown(reason) => json!({"answers": false, "pid": null, "reason": reason}),
    }
}

/// Returns the lines about a guard that answers.
fn guard_text(terminal: Terminal, guard: &Answer) -> String {
    let Answer::Status(guard) = guard else {
        return String::new();
    };
    let summary = clean_to(guard["summary"].as_str().unwrap_or_default(), LINE);
    let process = guard["pid"].as_u64().unwrap_or_default();
    let word = terminal.paint(Tone::Good, "guard");
    format!("{word}: process {process}: {summary}\n")
        + &site::text(terminal, &guard["site"])
        + &sources(terminal, guard)
}

/// Returns the fetched sources and their ages.
fn sources(terminal: Terminal, guard: &Value) -> String {
    let mut rows = vec![["SOURCE".into(), "ENTRIES".into(), "AGE".into()]];
    let known = guard["sources"].as_array().into_iter().flatten();
    for source in known.take(SOURCES) {
        let name = clean_to(source["name"].as_str().unwrap_or_default(), LINE);
        let age = source["age"].as_u64().map(age);
        let entries = source["entries"].as_u64().unwrap_or_default().to_string();
        rows.push([name, entries, age.unwrap_or_else(|| "never".to_owned())]);
    }
    if rows.len() == 1 {
        return String::new();
    }
    terminal.table(&rows)
}

/// Returns the base chains on the hooks that dfw uses, by hook and priority.
fn hooks(snapshot: &Snapshot) -> Vec<(Hook, Vec<Base>)> {
    [Hook::Forward, Hook::Input]
        .into_iter()
        .map(|hook| {
            let mut bases: Vec<Base> = snapshot
                .foreign_chains
                .iter()
                .filter(|n| n.kind == "filter" && shares_hook(n.family, n.hook, hook))
                .map(Base::from)
                .collect();
            let own = snapshot.installed.iter().flat_map(|i| &i.ruleset.chains);
            bases.extend(own.filter_map(|(name, chain)| {
                let base = chain.base.filter(|base| base.hook == hook)?;
                Some(Base {
                    priority: base.priority,
                    name: format!("inet {TABLE} {name}"),
                    accepts: true,
                    own: true,
                })
            }));
            bases.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
            (hook, bases)
        })
        .collect()
}

struct Base {
    priority: i32,
    name: String,
    accepts: bool,
    own: bool,
}

impl From<&ForeignBaseChain> for Base {
    fn from(n: &ForeignBaseChain) -> Self {
        Self {
            priority: n.priority,
            name: format!("{} {} {}", family_name(n.family), n.table, n.chain),
            accepts: n.accepts,
            own: false,
        }
    }
}

fn text(terminal: Terminal, snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let mut line = |tone, word: &str, rest: &str| {
        let _ = writeln!(text, "{}: {rest}", terminal.paint(tone, word));
    };
    match &snapshot.installed {
        None => {}
        Some(installed) => {
            let by = installed.comment.as_deref().map(clean);
            let by = by.unwrap_or_else(|| "origin unknown".to_owned());
            line(Tone::Good, "installed", &by);
            let mut rows = vec![["PORT".into(), "ALLOWED".into(), "DENIED".into()]];
            rows.extend(packets(installed).into_iter().map(|(port, packets)| {
                let number = |counter: Counter| counter.packets.to_string();
                [port, number(packets.allowed), number(packets.denied)]
            }));
            text.push_str(&terminal.table(&rows));
            text.push_str(&limits::text(terminal, installed));
            if is_marking(&installed.ruleset) {
                text.push_str(
                    "with `connection-mark`, ALLOWED counts each connection once, and once more after \
                     each change\n",
                );
            }
        }
    }
    for (hook, bases) in hooks(snapshot) {
        if bases.is_empty() {
            continue;
        }
        let _ = writeln!(text, "filter chains on the {} hook, in order:", hook.name());
        let rows: Vec<[String; 3]> = bases
            .into_iter()
            .map(|base| {
                let note = match (base.own, base.accepts) {
                    (true, _) => "(this is dfw)",
                    (false, true) => "",
                    (false, false) => "policy drop",
                };
                [base.priority.to_string(), base.name, note.to_owned()]
            })
            .collect();
        text.push_str(&terminal.table(&rows));
    }
    text
}

fn document(snapshot: &Snapshot) -> Value {
    let counter = |counter: Counter| json!({"packets": counter.packets, "bytes": counter.bytes});
    json!({
        "schema": "dfw/status/v2",
        "generation": snapshot.generation,
        "installed": snapshot.installed.as_ref().map(|installed| json!({
            "table": format!("inet {TABLE}"),
            "comment": installed.comment.as_deref().map(clean),
            "unconfirmed": named(installed.comment.as_deref())
                .map(|(process, waits)| json!({"process": process, "waits": waits})),
            "size": json::size(&installed.ruleset),
            "dormant": installed.facts.dormant,
            "drift": Problems::of(Some(installed)).drift,
            "connection_mark": is_marking(&installed.ruleset),
            "ports": packets(installed)
                .into_iter()
                .map(|(port, packets)| json!({
                    "port": port,
                    "allowed": counter(packets.allowed),
                    "denied": counter(packets.denied),
                }))
                .collect::<Vec<_>>(),
            "limits": limits::json(installed),
        })),
        "hooks": hooks(snapshot)
            .into_iter()
            .map(|(hook, bases)| json!({
                "hook": hook.name(),
                "chains": bases
                    .into_iter()
                    .map(|base| json!({
                        "priority": base.priority,
                        "chain": base.name,
                        "policy": if base.accepts { "accept" } else { "drop" },
                        "dfw": base.own,
                    }))
                    .collect::<Vec<_>>(),
            }))
            .collect::<Vec<_>>(),
    })
}
