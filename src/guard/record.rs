//! What guard has done so far, for status, metrics and the service manager.

use std::fmt::Write;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use crate::nftables::notice::Modifier;

use super::log::{Mistakes, one_line};

/// What guard's status is, and of which version.
pub(super) const SCHEMA: &str = "dfw/guard/v1";

/// Numbers and the last of each thing.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Since when it runs.
    pub(super) since: Option<Timestamp>,
    /// Whether the table is guard's own.
    pub(super) owned: bool,
    /// Where the policy in force comes from.
    pub(super) origin: Option<Origin>,
    /// When guard last changed the table.
    pub(super) applied: Option<Timestamp>,
    /// How often it did.
    pub(super) changes: u64,
    /// How often others had changed it.
    pub(super) repairs: u64,
    pub(super) repair: Option<Repair>,
    /// What is wrong with the policies.
    pub(super) mistakes: Mistakes,
    /// How often policies were found wrong.
    pub(super) rejected: u64,
    /// Why the last try to bring them into force failed, if it did.
    pub(super) failure: Option<String>,
}

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The directory or file.
    Files,
    /// What was kept of the last good one.
    State,
}

/// A change by others that was taken back.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) at: Timestamp,
    pub(super) by: Option<Modifier>,
    /// From the notice until the table was right again.
    pub(super) took: Duration,
}

pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
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

impl Record {
    /// Returns what `dfw status` and the service manager show.
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
        if let Some(first) = self.mistakes.lines().first() {
            let _ = write!(
                text,
                "; the files have {} errors and are not applied: {first}",
                self.mistakes.count()
            );
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

    /// Returns the same as a document.
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
            "mistakes": self.mistakes.lines(),
            "mistake_count": self.mistakes.count(),
            "rejected": self.rejected,
            "failure": self.failure,
            "unanswered": unanswered.iter().map(|text| one_line(text)).collect::<Vec<_>>(),
            "summary": self.line(),
        })
    }
}
