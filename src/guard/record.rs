//! The activity record of guard, for status, metrics and the service manager.

use std::fmt::Write;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use crate::nftables::notice::Modifier;

use super::feeds::sources::Source;
use super::log::{Mistakes, one_line};
use super::site::Report;

/// The schema of the status document.
pub(super) const SCHEMA: &str = "dfw/guard/v2";

/// Counters and the last event of each kind.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Since when it runs.
    pub(super) since: Option<Timestamp>,
    /// Whether guard owns the table.
    pub(super) owned: bool,
    /// The origin of the policies in force.
    pub(super) origin: Option<Origin>,
    /// When guard last changed the table.
    pub(super) applied: Option<Timestamp>,
    /// The number of changes.
    pub(super) changes: u64,
    /// The number of restores.
    pub(super) repairs: u64,
    pub(super) repair: Option<Repair>,
    /// The errors of the policies.
    pub(super) mistakes: Mistakes,
    /// The number of reads that found new errors.
    pub(super) rejected: u64,
    /// The fetched sources of the policies in force.
    pub(super) sources: Vec<Source>,
    /// How many grants there are.
    pub(super) grants: usize,
    /// How far the site is that is followed.
    pub(super) site: Option<Report>,
    /// The error of the last attempt to enforce them, if it failed.
    pub(super) failure: Option<String>,
}

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The directory or file.
    Files,
    /// The last good policies from the state directory.
    State,
}

/// A modification by another program that was restored.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) at: Timestamp,
    pub(super) by: Option<Modifier>,
    /// The time from the notification until the table was restored.
    pub(super) took: Duration,
}

pub(super) fn now() -> Timestamp {
    rounded(Timestamp::now())
}

/// Returns a time in whole seconds.
pub(super) fn rounded(time: Timestamp) -> Timestamp {
    time.round(Unit::Second).unwrap_or(time)
}

impl Repair {
    /// Returns how long the table differed, in whole milliseconds, rounded up.
    pub(super) fn milliseconds(&self) -> u128 {
        self.took.as_micros().div_ceil(1000)
    }
}

/// Returns the process that modified the table, for people.
pub(super) fn process(modifier: Option<&Modifier>) -> String {
    modifier.map_or_else(
        || "an unknown process".to_owned(),
        |modifier| format!("`{}` (pid {})", modifier.name, modifier.pid),
    )
}

/// Returns what is known of a fetched source; ages and times are in seconds.
fn document_of(source: &Source) -> Value {
    json!({
        "name": source.name,
        "what": source.what,
        "entries": source.entries,
        "age": source.age().map(|age| age.as_secs()),
        "stale_after": source.stale_after().as_secs(),
        "stale": source.is_stale(),
        "failures": source.failures(),
        "failure": source.failure(),
        "unused": source.unused,
    })
}

impl Record {
    /// Returns the summary for `dfw status` and the service manager.
    pub(super) fn line(&self) -> String {
        one_line(&self.sentence())
    }

    fn sentence(&self) -> String {
        let mut text = match self.origin {
            None if self.failure.is_some() => "no policies are in force yet".to_owned(),
            None => "no valid policy yet: the rules in force stay".to_owned(),
            Some(Origin::Files) => "the policies are in force".to_owned(),
            Some(Origin::State) => "the last good policies are in force".to_owned(),
        };
        if let Some(failure) = &self.failure {
            let _ = write!(text, "; failing: {failure}");
        }
        match self.mistakes.lines().first() {
            Some(first) if self.mistakes.is_pending() => {
                let _ = write!(text, "; {first}");
            }
            Some(first) => {
                let _ = write!(
                    text,
                    "; the files have {} errors and are not applied: {first}",
                    self.mistakes.count()
                );
            }
            None => {}
        }
        if let Some(repair) = &self.repair {
            let _ = write!(
                text,
                "; restored {} times, last at {} after a change by {}",
                self.repairs,
                repair.at,
                process(repair.by.as_ref())
            );
        }
        text
    }

    /// Returns the status document.
    pub(super) fn document(&self, path: &str, unanswered: &[String]) -> Value {
        json!({
            "schema": SCHEMA,
            "pid": std::process::id(),
            "since": self.since.map(|at| at.to_string()),
            "policies": one_line(path),
            "in_force": match self.origin {
                None => "former",
                Some(Origin::Files) => "policies",
                Some(Origin::State) => "last-good",
            },
            "owned": self.owned,
            "applied": self.applied.map(|at| at.to_string()),
            "changes": self.changes,
            "repairs": self.repairs,
            "last_repair": self.repair.as_ref().map(|repair| json!({
                "at": repair.at.to_string(),
                "by": repair.by.as_ref().map(|by| json!({"pid": by.pid, "name": by.name})),
                "milliseconds": repair.took.as_secs_f64() * 1000.0,
            })),
            "policy_errors": self.mistakes.lines(),
            "policy_error_count": self.mistakes.count(),
            "rejected": self.rejected,
            "failure": self.failure,
            "sources": self.sources.iter().map(document_of).collect::<Vec<_>>(),
            "grants": self.grants,
            "site": self.site.as_ref().map(Report::document),
            "unanswered": unanswered.iter().map(|text| one_line(text)).collect::<Vec<_>>(),
            "summary": self.line(),
        })
    }
}
