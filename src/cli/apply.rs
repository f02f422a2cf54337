//! `dfw apply`: the policies become the rules in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::{Timestamp, Unit};
use serde_json::json;

use crate::compile;
use crate::host::{HostView, Publication};
use crate::kernel::{self, Kernel};
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::table::{align, count};
use crate::output::terminal::{Terminal, Tone};
use crate::policy::{DefaultAction, InterfaceName, Policy, PortPolicy, SourceSelection};
use crate::ruleset::{Ruleset, TABLE};
use crate::site::{Site, Sockets};

use super::changes::Changes;
use super::failure::Failure;
use super::host::{self, EngineArgs};
use super::load::load_tested;
use super::notice::notices as notices_of;

/// How many ports are listed before only their number is told.
const LISTED: usize = 40;
/// How many addresses written in place are listed.
const LISTED_ADDRESSES: usize = 4;

pub(super) fn run(terminal: Terminal, path: &Path, engine: &EngineArgs) -> Result<(), Failure> {
    let (loaded, passed) = load_tested(terminal, path)?;
    let tried = Site::find(&engine.ask(), Sockets::Published).and_then(|found| {
        let ruleset = loaded.compile(&found.host);
        let installation = Kernel::open()?.install(
            &ruleset,
            || stamp(path),
            |installed, plan| Ok::<_, kernel::Error>(Changes::of(installed, &ruleset, plan)),
        )?;
        let (policy, neighbours) = (&loaded.policy, &installation.neighbours);
        let mut notices = host::notices(policy, &found);
        notices.extend(notices_of(policy, &found.host, neighbours));
        Ok((ruleset, installation.proposal, found.host, notices))
    });
    let (ruleset, changes, host, notices) = match tried {
        Ok(done) => done,
        Err(error) => return Err(Failure::kernel(&error, loaded.sources, &loaded.files)),
    };
    for notice in &notices {
        terminal.diagnostic(notice, &loaded.sources);
        terminal.gap();
    }
    terminal.answer(
        || {
            let (list, drift) = match &changes {
                Some(changes) => changes.json(),
                None => (json!([]), json!(false)),
            };
            json!({
                "schema": "dfw/apply/v1",
                "changed": changes.is_some(),
                "changes": list,
                "drift": drift,
                "policy": json::policy(&loaded.policy),
                "tests": json::tests(passed, &[]),
                "size": json::size(&ruleset),
                "engines": json::engines(&host),
                "refused": json::publications(&unnamed(&loaded.policy, &host)),
                "warnings": loaded
                    .warnings
                    .iter()
                    .chain(&notices)
                    .map(|warning| to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            })
        },
        || {
            let outcome = outcome(terminal, changes.is_some(), &ruleset, path);
            let text = changes.as_ref().map(|changes| changes.text(terminal));
            text.unwrap_or_default() + &refused(&loaded.policy, &host) + &tested(passed) + &outcome
        },
    )?;
    Ok(())
}

/// Who put the table there, kept as its comment.
fn stamp(path: &Path) -> String {
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now);
    let path = path
        .display()
        .to_string()
        .replace(|c: char| c == '"' || c.is_control(), "?");
    let mut stamp = format!("dfw {} at {now} from {path}", env!("CARGO_PKG_VERSION"));
    stamp.truncate(stamp.floor_char_boundary(crate::ruleset::check::COMMENT_MAX));
    stamp
}

fn outcome(terminal: Terminal, changed: bool, ruleset: &Ruleset, path: &Path) -> String {
    if changed {
        let rules = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
        format!(
            "{}: table inet {TABLE} is in force ({} in {})\n",
            terminal.paint(Tone::Good, "applied"),
            count(rules, "rule", "rules"),
            count(ruleset.chains.len(), "chain", "chains"),
        )
    } else {
        format!(
            "{}: the rules in force are those of {} already\n",
            terminal.paint(Tone::Good, "no changes"),
            path.display(),
        )
    }
}

/// What engines publish and the policy refuses without having named it.
fn unnamed<'a>(policy: &Policy, host: &'a HostView) -> Vec<Publication<'a>> {
    match policy.default {
        DefaultAction::Deny => compile::unnamed(policy, host).collect(),
        DefaultAction::Allow => Vec::new(),
    }
}

/// The same, a line for each port; empty if there is none.
fn refused(policy: &Policy, host: &HostView) -> String {
    let mut ports: BTreeMap<(u16, String), BTreeSet<String>> = BTreeMap::new();
    for publication in unnamed(policy, host) {
        let port = compile::key(&publication.published.port());
        let titles = ports.entry((port.first, port.to_string())).or_default();
        titles.insert(publication.of.title());
    }
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
        "published at the moment, named by no policy, and so refused:\n{}",
        align(&rows)
    )
}

/// How many `tests:` passed; empty if there are none.
pub(super) fn tested(passed: usize) -> String {
    match passed {
        0 => String::new(),
        _ => format!("{} passed\n", count(passed, "test", "tests")),
    }
}

/// What a policy says, a line for each port.
pub(super) fn summary(policy: &Policy) -> String {
    let mut rows: Vec<[String; 2]> = policy
        .ports
        .iter()
        .take(LISTED)
        .map(|(key, port)| [key.to_string(), who(policy, port)])
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
            DefaultAction::Deny => "refused where Docker publishes them (default: deny)",
            DefaultAction::Allow => "left to Docker (default: allow)",
        }
        .to_owned(),
    ]);
    align(&rows)
}

fn who(policy: &Policy, port: &PortPolicy) -> String {
    let mut text = if port.allow.any {
        "any".to_owned()
    } else {
        let names = names(policy, &port.allow);
        if names.is_empty() {
            "nobody".to_owned()
        } else {
            names.join(", ")
        }
    };
    let except = names(policy, &port.except);
    if !except.is_empty() {
        text.push_str(" except ");
        text.push_str(&except.join(", "));
    }
    if !port.interfaces.is_empty() {
        let names: Vec<_> = port.interfaces.iter().map(InterfaceName::as_str).collect();
        text.push_str(" through ");
        text.push_str(&names.join(", "));
    }
    text
}

fn names(policy: &Policy, selection: &SourceSelection) -> Vec<String> {
    let mut names: Vec<String> = selection
        .named
        .iter()
        .map(|name| {
            match policy
                .sources
                .get(name)
                .map_or(0, |source| source.addresses.len())
            {
                1 => name.to_string(),
                entries => format!("{name} ({entries} entries)"),
            }
        })
        .collect();
    if selection.containers {
        names.push("containers".to_owned());
    }
    names.extend(
        selection
            .inline
            .iter()
            .take(LISTED_ADDRESSES)
            .map(|entry| entry.to_string()),
    );
    if let more @ 1.. = selection.inline.len().saturating_sub(LISTED_ADDRESSES) {
        names.push(format!(
            "and {}",
            count(more, "more address", "more addresses")
        ));
    }
    names
}
