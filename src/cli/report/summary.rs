//! Summaries of a policy.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile;
use crate::host::HostView;
use crate::output::table::count;
use crate::output::terminal::Terminal;
use crate::policy::{DefaultAction, Policy};

/// The number of ports listed before the rest is summed up.
const LISTED: usize = 40;

/// Returns the published ports that are denied because they have no policy entry; empty if there are none.
pub(in crate::cli) fn denied(terminal: Terminal, policy: &Policy, host: &HostView) -> String {
    let mut places: BTreeMap<(u16, String), (BTreeSet<bool>, BTreeSet<String>)> = BTreeMap::new();
    for publication in compile::denied(policy, host) {
        let port = publication.published.port().named();
        let place = places.entry((port.first, port.to_string())).or_default();
        place.0.insert(publication.published.address.is_ipv4());
        place.1.insert(publication.of.title());
    }
    let ports: BTreeMap<(u16, String), BTreeSet<String>> = places
        .into_iter()
        .map(|((first, port), (families, titles))| {
            let family = match (families.contains(&true), families.contains(&false)) {
                (true, false) if !port.contains('.') => " (IPv4)",
                (false, true) if !port.contains('[') => " (IPv6)",
                _ => "",
            };
            ((first, port + family), titles)
        })
        .collect();
    if ports.is_empty() {
        return String::new();
    }
    let mut rows: Vec<[String; 2]> = ports
        .iter()
        .take(LISTED)
        .map(|((_, port), titles)| {
            let titles: Vec<_> = titles.iter().map(String::as_str).collect();
            [port.clone(), titles.join(", ")]
        })
        .collect();
    if let more @ 1.. = ports.len().saturating_sub(LISTED) {
        rows.push([
            "…".to_owned(),
            format!("and {}", count(more, "more port", "more ports")),
        ]);
    }
    format!(
        "published ports without a policy entry, denied by default:\n{}",
        terminal.table(&rows)
    )
}

/// Returns the number of `tests:` that passed; empty if there are none.
pub(in crate::cli) fn tested(passed: usize) -> String {
    match passed {
        0 => String::new(),
        _ => format!("{} passed\n", count(passed, "test", "tests")),
    }
}

/// Returns the policy as text: one line for each port, the default, and the bounds of grants.
pub(in crate::cli) fn summary(terminal: Terminal, policy: &Policy) -> String {
    let mut rows: Vec<[String; 2]> = policy
        .ports
        .iter()
        .take(LISTED)
        .map(|(key, port)| [key.to_string(), port.describe(&policy.sources)])
        .collect();
    if let more @ 1.. = policy.ports.len().saturating_sub(LISTED) {
        rows.push([
            "…".to_owned(),
            format!("and {}", count(more, "more port", "more ports")),
        ]);
    }
    rows.push([
        "all others".to_owned(),
        match policy.default {
            DefaultAction::Deny => "denied if published (default: deny)",
            DefaultAction::Allow => "not filtered (default: allow)",
        }
        .to_owned(),
    ]);
    if let Some(grants) = &policy.grants {
        rows.push(["grants".to_owned(), grants.describe()]);
    }
    terminal.table(&rows)
}
