//! `dfw status`: what is in force.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::compile::is_marking;
use crate::kernel::{Kernel, Snapshot};
use crate::netlink::object::{family_name, shares_hook};
use crate::netlink::snapshot::{Counter, Installed, Neighbour};
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Hook, TABLE};
use crate::traffic::packets;

use super::failure::Failure;

pub(super) fn run(terminal: Terminal, guard: &Path) -> Result<(), Failure> {
    let snapshot = Kernel::open()?.survey()?;
    // One that does not answer is none; the kernel tells what is in force.
    let guard = crate::guard::ask(guard).ok().flatten();
    terminal.answer(
        || {
            let mut document = document(&snapshot);
            if let (Some(guard), Some(object)) = (&guard, document.as_object_mut()) {
                object.insert("guard".to_owned(), guard.clone());
            }
            document
        },
        || {
            let guard = match &guard {
                Some(guard) => told_by(terminal, guard),
                None if snapshot.installed.is_some() => unguarded(terminal),
                None => String::new(),
            };
            text(terminal, &snapshot) + &guard
        },
    )?;
    Ok(())
}

/// What a running guard says of itself.
fn told_by(terminal: Terminal, guard: &Value) -> String {
    let text = |key: &str| guard[key].as_str().unwrap_or_default();
    let word = terminal.paint(Tone::Good, "guard");
    let mut lines = format!("{word}: process {}: {}\n", guard["pid"], text("summary"));
    for unanswered in guard["unanswered"].as_array().into_iter().flatten() {
        let word = terminal.paint(Tone::Warning, "guard");
        let _ = writeln!(lines, "{word}: {}", unanswered.as_str().unwrap_or_default());
    }
    lines
}

/// That nobody sees to it that the rules stay.
fn unguarded(terminal: Terminal) -> String {
    format!(
        "{}: none runs; after a reboot or a flush of all rules it takes another `dfw apply`\n",
        terminal.paint(Tone::Warning, "guard")
    )
}

/// What is not as dfw would have written it.
fn drift(installed: &Installed) -> Vec<String> {
    let mut drift = installed.foreign();
    if drift.is_empty() && installed.has_drifted() == Some(true) {
        drift.push("the rules are not those that dfw put there; `dfw plan` shows how".to_owned());
    }
    drift
}

/// The base chains on the hooks that dfw uses, in the order in which a packet meets them.
fn hooks(snapshot: &Snapshot) -> Vec<(Hook, Vec<Base>)> {
    [Hook::Forward, Hook::Input]
        .into_iter()
        .map(|hook| {
            let mut bases: Vec<Base> = snapshot
                .neighbours
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

impl From<&Neighbour> for Base {
    fn from(n: &Neighbour) -> Self {
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
        None => line(
            Tone::Warning,
            "not installed",
            "no rules of dfw are in force",
        ),
        Some(installed) => {
            let by = installed
                .comment
                .as_deref()
                .unwrap_or("by nobody knows whom");
            line(Tone::Good, "installed", by);
            for drift in drift(installed) {
                line(Tone::Warning, "drift", &drift);
            }
            let mut rows = vec![["PORT".into(), "ALLOWED".into(), "REFUSED".into()]];
            rows.extend(packets(installed).into_iter().map(|(port, packets)| {
                let number = |counter: Counter| counter.packets.to_string();
                [port, number(packets.allowed), number(packets.refused)]
            }));
            text.push_str(&terminal.table(&rows));
            if is_marking(&installed.ruleset) {
                text.push_str(
                    "marked connections count once in ALLOWED, and once more after each change\n",
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
                    (false, false) => "drops what it does not accept",
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
        "schema": "dfw/status/v1",
        "generation": snapshot.generation,
        "installed": snapshot.installed.as_ref().map(|installed| json!({
            "table": format!("inet {TABLE}"),
            "comment": installed.comment,
            "size": json::size(&installed.ruleset),
            "drift": drift(installed),
            "connection_mark": is_marking(&installed.ruleset),
            "ports": packets(installed)
                .into_iter()
                .map(|(port, packets)| json!({
                    "port": port,
                    "allowed": counter(packets.allowed),
                    "refused": counter(packets.refused),
                }))
                .collect::<Vec<_>>(),
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
