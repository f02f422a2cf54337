//! Fetched sources that are older than their policy says, or were never fetched.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::fetch::cache::Status;
use crate::output::terminal::{Terminal, Tone};
use crate::policy::{List, Policy};
use crate::untrusted::clean_to;

/// The longest text of guard or of the fetcher that is shown, in characters.
const LINE: usize = 4096;
/// The most fetched sources that are shown.
pub(in crate::cli) const SOURCES: usize = 1000;

/// A fetched source that is stale, or whose age is not known.
pub(in crate::cli) struct Stale {
    name: String,
    /// Seconds since it was last fetched; `None` if it never was, or if that is not known.
    age: Option<u64>,
    /// Why it could not be fetched the last time.
    failure: Option<String>,
    /// Why its age is not known.
    unread: Option<String>,
}

impl Stale {
    /// Returns a source of guard's status, if it is stale.
    pub(in crate::cli) fn of(source: &Value) -> Option<Self> {
        let text = |key: &str| Some(clean_to(source[key].as_str()?, LINE));
        (source["stale"] == true).then(|| Self {
            name: text("name").unwrap_or_default(),
            age: source["age"].as_u64(),
            failure: text("failure"),
            unread: None,
        })
    }

    /// Returns the stale sources of guard's status, which is of the rules in force.
    pub(in crate::cli) fn of_guard(status: &Value) -> Vec<Self> {
        let sources = status["sources"].as_array().into_iter().flatten();
        sources.take(SOURCES).filter_map(Self::of).collect()
    }

    /// Returns the stale sources of a policy, by what the fetcher says in its cache.
    pub(in crate::cli) fn of_policy(policy: &Policy, cache: &Path) -> Vec<Self> {
        let sources = policy.fetched().filter_map(|(name, _, fetched)| {
            if let List::Unreadable(_) = &fetched.list
                && let Some(unknown) = fetched.list.unknown()
            {
                return Some(Self {
                    name: name.as_str().to_owned(),
                    age: None,
                    failure: None,
                    unread: Some(clean_to(&unknown.reason, LINE)),
                });
            }
            let status = Status::read(cache, &fetched.request.key());
            let age = status.age(SystemTime::now());
            age.is_none_or(|age| age > fetched.stale_after)
                .then(|| Self {
                    name: name.as_str().to_owned(),
                    age: age.map(|age| age.as_secs()),
                    failure: status.failure,
                    unread: None,
                })
        });
        sources.take(SOURCES).collect()
    }

    /// Returns a line about it.
    pub(in crate::cli) fn line(&self, terminal: Terminal) -> String {
        let word = if self.unread.is_some() {
            "unknown"
        } else {
            "stale"
        };
        let word = terminal.paint(Tone::Warning, word);
        format!("{word}: {}\n", self.sentence())
    }

    /// Returns a sentence about it, without an end.
    pub(in crate::cli) fn sentence(&self) -> String {
        if let Some(reason) = &self.unread {
            return format!(
                "the age of the source `{}` is not known: it {reason}",
                self.name
            );
        }
        let fetched = match self.age {
            Some(seconds) => format!("was last fetched {} ago", age(seconds)),
            None => "was never fetched".to_owned(),
        };
        let failure = self.failure.as_ref();
        let failure = failure.map_or_else(String::new, |text| format!(": {text}"));
        format!("the source `{}` {fetched}{failure}", self.name)
    }

    /// Returns it for programs.
    pub(in crate::cli) fn json(&self) -> Value {
        let failure = self.failure.as_ref().or(self.unread.as_ref());
        json!({"name": self.name, "age": self.age, "failure": failure})
    }
}

/// Returns seconds in the greatest unit in which they are a number, rounded down.
pub(in crate::cli) fn age(seconds: u64) -> String {
    let units = [("d", 24 * 3600), ("h", 3600), ("m", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= *length);
    let (unit, length) = unit.unwrap_or(("s", 1));
    format!("{}{unit}", seconds / length)
}
