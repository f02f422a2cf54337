//! Warnings about what is valid and says less than it seems to, or more: `dfw check` reports them.
//!
//! What a list is alone ([`redundant`]) is found while it is read; what lists, keys and tests are together is found by
//! [`run`] when everything was read. Where an answer would take too long, or depends on a host, there is none.

mod database;
mod keys;
mod lists;
mod tests;

use memchr::memmem;

use crate::net::{AddressSet, Entry, Redundant};
use crate::text::diagnostic::{Diagnostic, quoted};
use crate::text::{FileId, Span};

use super::source::{SourceName, parse_entry};
use super::tests::Statement;
use super::{grants, port, source};

pub use database::{Database, database};
pub(super) use lists::List;

/// Returns what is to be said of ports, sources, grants and tests that have no errors.
pub(super) fn run(
    ports: &port::Draft,
    sources: &source::Draft,
    grants: &grants::Draft,
    tests: &[Statement],
) -> Vec<Diagnostic> {
    let mut report = unused(ports, sources);
    report.extend(keys::unreachable(ports));
    report.extend(keys::open_databases(ports));
    report.extend(keys::missing_for_grants(ports, grants));
    report.extend(lists::covered(ports, sources));
    report.extend(tests::empty(ports, sources, tests));
    report
}

/// Returns a warning about the entries of a list that lie inside others, at one of them.
pub(super) fn redundant<'a>(
    redundant: &Redundant,
    entries: &(impl Iterator<Item = (&'a str, &'a Span)> + Clone),
) -> Option<Diagnostic> {
    let of = |wanted| {
        let spans = entries.clone();
        let mut same = spans.filter(move |(text, _)| parse_entry(text) == Ok(wanted));
        move || same.next().map(|(_, span)| span.clone())
    };
    let mut outer = of(redundant.outer);
    let first = outer()?;
    let inner = if redundant.inner == redundant.outer {
        outer()?
    } else {
        of(redundant.inner)()?
    };
    Some(inside(redundant, inner, first))
}

/// Returns the same about a list of one entry a line.
pub(super) fn redundant_line(
    redundant: &Redundant,
    file: FileId,
    text: &str,
) -> Option<Diagnostic> {
    let of = |wanted| lines_of(wanted, text).map(|(start, end)| Span::new(file, start, end));
    let mut outer = of(redundant.outer);
    let first = outer.next()?;
    let inner = if redundant.inner == redundant.outer {
        outer.next()?
    } else {
        of(redundant.inner).next()?
    };
    Some(inside(redundant, inner, first))
}

/// Returns where an entry is in a list of one entry a line: first as it is printed, which is found in no time, then
/// in other spellings.
fn lines_of(wanted: Entry, text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let printed = wanted.to_string();
    let length = printed.len();
    let found: Vec<usize> = memmem::find_iter(text.as_bytes(), printed.as_bytes())
        .filter(|at| {
            let (before, after) = (&text[..*at], &text[at + length..]);
            let before = before.trim_end_matches([' ', '\t']);
            let after = after.trim_start_matches([' ', '\t', '\r']);
            (before.is_empty() || before.ends_with('\n'))
                && (after.is_empty() || after.starts_with(['\n', '#']))
        })
        .take(2)
        .collect();
    let lines = text.split_inclusive('\n').scan(0, |end, line| {
        let start = *end;
        *end += line.len();
        Some((start, line))
    });
    let respelled = lines.filter_map(move |(start, line)| {
        let entry = line.split('#').next()?;
        let trimmed = entry.trim();
        let at = start + entry.len() - entry.trim_start().len();
        let is_wanted = trimmed != printed && parse_entry(trimmed) == Ok(wanted);
        is_wanted.then_some((at, at + trimmed.len()))
    });
    found
        .into_iter()
        .map(move |at| (at, at + length))
        .chain(respelled)
}

fn inside(redundant: &Redundant, inner: Span, outer: Span) -> Diagnostic {
    let (entry, cover) = (redundant.inner.to_string(), redundant.outer.to_string());
    let message = if redundant.inner == redundant.outer {
        format!("{} is in this list twice", quoted(&entry))
    } else {
        format!(
            "{} is inside {} of the same list",
            quoted(&entry),
            quoted(&cover)
        )
    };
    let warning = Diagnostic::warning("redundant-entry", message)
        .at(inner, "decides nothing")
        .related(outer, "covers it")
        .help("leave it out: the list means the same without it");
    match redundant.count - 1 {
        0 => warning,
        1 => warning
            .note("1 more entry of this list is inside another")
            .and_more(1),
        more => warning
            .note(format!(
                "{more} more entries of this list are inside others"
            ))
            .and_more(more),
    }
}

/// Returns a warning about each source that neither a port nor a test names.
fn unused(ports: &port::Draft, sources: &source::Draft) -> Vec<Diagnostic> {
    let used: std::collections::BTreeSet<&str> =
        ports.uses.iter().map(|(name, ..)| name.as_str()).collect();
    let named = sources.named.iter();
    let unused = named.filter(|(name, _)| !used.contains(name.as_str()));
    unused
        .map(|(name, source)| {
            let message = format!("no port uses the source {}", quoted(name.as_str()));
            Diagnostic::warning("unused-source", message)
                .at(source.origin.clone(), "not used")
                .help(format!(
                    "write its name at a port, as in `80: [{name}]`, or remove it"
                ))
        })
        .collect()
}

/// The addresses of a source; `None` if a host decides them, or a server.
fn addresses<'a>(sources: &'a source::Draft, name: &SourceName) -> Option<&'a AddressSet> {
    let source = sources.named.get(name)?;
    let is_written = source.on_host.is_none() && source.fetched.is_none();
    is_written.then_some(&source.addresses)
}

/// How many ranges are looked at to find out what lies inside others.
const BUDGET: usize = 2_000_000;

/// Finds out whether sets lie inside others, as long as that takes little time.
struct Inside {
    budget: usize,
}

impl Inside {
    fn new() -> Self {
        Self { budget: BUDGET }
    }

    /// Returns whether a set that is not empty lies inside these together; `false` if that would take too long.
    fn is_inside(&mut self, set: &AddressSet, others: &[&AddressSet]) -> bool {
        let Some(first) = set.iter().next() else {
            return false;
        };
        // Most lists have nothing in common.
        let first = AddressSet::from_entries([first.first().into()]);
        if !others.iter().any(|other| other.intersects(&first)) {
            return false;
        }
        let cost: usize = others.iter().map(|other| set.len() + other.len()).sum();
        let Some(budget) = self.budget.checked_sub(cost) else {
            return false;
        };
        self.budget = budget;
        let mut rest = set.clone();
        for other in others {
            let common = rest.intersection(other);
            rest = rest.difference(&common);
        }
        rest.is_empty()
    }
}
