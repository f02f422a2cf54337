//! The permissions for a time that are in force.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::since_boot;
use crate::compile;
use crate::host::grant::Grant;
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::policy::describe_time;
use crate::ruleset::Ruleset;

/// How many are listed before only their number is shown.
const LISTED: usize = 20;

/// Returns a line for each permission of a ruleset, the first to end first; nothing without any.
pub(in crate::cli) fn text(terminal: Terminal, ruleset: Option<&Ruleset>) -> String {
    let mut grants = grants(ruleset);
    if grants.is_empty() {
        return String::new();
    }
    let now = since_boot();
    grants.sort_by_key(|grant| grant.end);
    let head = ["GRANTED TO", "PORT", "LEFT"].map(str::to_owned);
    let row = |grant: &Grant| {
        let left = grant.end.saturating_sub(now).as_secs();
        let left = Duration::from_secs(left.saturating_add(1));
        [
            grant.from.to_string(),
            grant.to.to_string(),
            describe_time(left),
        ]
    };
    let mut rows = vec![head];
    rows.extend(grants.iter().take(LISTED).map(row));
    let mut text = terminal.table(&rows);
    if let more @ 1.. = grants.len().saturating_sub(LISTED) {
        let more = count(more, "more grant", "more grants");
        let _ = writeln!(text, "and {more}: `dfw grant list`");
    }
    text
}

/// Returns the permissions of a ruleset for programs.
pub(in crate::cli) fn json(ruleset: Option<&Ruleset>) -> Value {
    let now = since_boot();
    let grant = |grant: &Grant| {
        json!({
            "from": grant.from.to_string(),
            "to": grant.to.to_string(),
            "seconds_left": grant.end.saturating_sub(now).as_secs(),
        })
    };
    grants(ruleset).iter().map(grant).collect()
}

fn grants(ruleset: Option<&Ruleset>) -> Vec<Grant> {
    ruleset.map_or_else(Vec::new, compile::grants)
}
