//! The sources that limits of ports hold.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::analysis::traffic::{Held, held};
use crate::output::json::family;
use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;

/// Returns a table of the limits, and a line for each that is full; empty without limits.
pub(in crate::cli) fn text(terminal: Terminal, installed: &Installed) -> String {
    let all = held(installed);
    if all.is_empty() {
        return String::new();
    }
    let mut rows = vec![["PORT", "LIMIT", "SOURCES", "NOT LIMITED"].map(str::to_owned)];
    let mut full = String::new();
    for held in &all {
        let Held {
            port,
            limit,
            sources,
            room,
            unlimited,
            ..
        } = held;
        let family = held.family.title();
        if held.is_full() {
            let _ = writeln!(
                full,
                "{}: the {limit} limit of port {port} holds {room} {family} sources, which is all that it can; other \
                 sources are not limited",
                terminal.paint(Tone::Warning, "full"),
            );
        }
        rows.push([
            port.clone(),
            format!("{limit}, {family}"),
            sources.map_or_else(|| "not known".to_owned(), |sources| sources.to_string()),
            unlimited.packets.to_string(),
        ]);
    }
    terminal.table(&rows) + &full
}

/// Returns the limits for programs.
pub(in crate::cli) fn json(installed: &Installed) -> Value {
    let all = held(installed).into_iter();
    let all = all.map(|held| {
        json!({
            "port": held.port,
            "limit": held.limit,
            "family": family(held.family),
            "sources": held.sources,
            "room": held.room,
            "full": held.is_full(),
            "unlimited": held.unlimited.packets,
        })
    });
    all.collect()
}
