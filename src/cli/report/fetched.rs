//! Fetched sources and the ages of their lists, as `plan` and `apply` show them.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::fetch::cache::Status;
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::policy::{Fetched, List, NamedSource, SourceName};
use crate::store::Policies;
use crate::untrusted::clean_to;

use super::stale::{SOURCES, age};

/// The number of sources listed before the rest is summed up.
const LISTED: usize = 40;
/// The longest reason that is shown, in characters.
const REASON: usize = 300;

/// A fetched source of policies.
struct Listed<'a> {
    name: &'a SourceName,
    source: &'a NamedSource,
    fetched: &'a Fetched,
    /// Seconds since the list in the cache was fetched, as the fetcher says; `None` if it says nothing.
    age: Option<u64>,
}

/// Returns the fetched sources of policies.
fn sources(policies: &Policies) -> impl Iterator<Item = Listed<'_>> {
    let (cache, now) = (policies.sources.cache(), SystemTime::now());
    let all = policies.policy.fetched().take(SOURCES);
    all.map(move |(name, source, fetched)| {
        let status = cache.map(|cache| Status::read(cache, &fetched.request.key()));
        let age = status.and_then(|status| status.age(now));
        Listed {
            name,
            source,
            fetched,
            age: age.map(|age| age.as_secs()),
        }
    })
}

/// Returns a line for each fetched source, with the age of its list; nothing without any.
pub(in crate::cli) fn text(terminal: Terminal, policies: &Policies) -> String {
    let all: Vec<_> = sources(policies).collect();
    if all.is_empty() {
        return String::new();
    }
    let row = |source: &Listed<'_>| [format!("  {}", source.name), source.text()];
    let mut rows: Vec<_> = all.iter().take(LISTED).map(row).collect();
    if let more @ 1.. = all.len().saturating_sub(LISTED) {
        let more = count(more, "more source", "more sources");
        rows.push(["  …".to_owned(), format!("and {more}")]);
    }
    format!(
        "sources that are fetched, as in the cache:\n{}",
        terminal.table(&rows)
    )
}

/// Returns the same for programs.
pub(in crate::cli) fn json(policies: &Policies) -> Value {
    let source = |source: Listed<'_>| {
        let unused = source.fetched.list.unused();
        json!({
            "name": source.name.as_str(),
            "what": source.fetched.request.describe(),
            "entries": source.source.addresses.len(),
            "age": source.age,
            "stale": source.is_stale(),
            "unused": unused.map(|reason| clean_to(reason, REASON)),
        })
    };
    sources(policies).map(source).collect()
}

impl Listed<'_> {
    /// Returns whether the list is older than the policy says it may be, or was never fetched.
    fn is_stale(&self) -> bool {
        let stale = self.fetched.stale_after.as_secs();
        self.age.is_none_or(|age| age > stale)
    }

    fn text(&self) -> String {
        let entries = count(self.source.addresses.len(), "entry", "entries");
        let fetched = self.age.map_or_else(
            || "of unknown age".to_owned(),
            |seconds| format!("fetched {} ago", age(seconds)),
        );
        let stale = if self.is_stale() { ", stale" } else { "" };
        match &self.fetched.list {
            List::Never => "nobody: never fetched".to_owned(),
            List::Unreadable(_) => "not readable".to_owned(),
            List::Refused(_) => format!("nobody: the list {fetched} is not used"),
            List::Former(_) => {
                format!("{entries}, accepted before: the list {fetched} is not used{stale}")
            }
            List::Accepted | List::New => format!("{entries}, {fetched}{stale}"),
        }
    }
}
