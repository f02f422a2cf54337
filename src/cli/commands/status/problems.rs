//! What is wrong, which `dfw status` says before anything else.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::report::problems::Problems;
use crate::cli::report::site;
use crate::cli::report::stale::{SOURCES, Stale};
use crate::compile::is_marking;
use crate::guard::Answer;
use crate::host::units::Units;
use crate::kernel::unconfirmed::named;
use crate::kernel::{Error, Kernel, Snapshot};
use crate::output::terminal::{Terminal, Tone};
use crate::untrusted::clean_to;

/// Bounds of guard's answer: characters of a line, and engines that do not answer.
const LINE: usize = 4096;
const ENGINES: usize = 64;

/// A problem: what has it, and a sentence.
pub(super) struct Problem {
    kind: &'static str,
    text: String,
}

/// Returns the problems of what is in force, of guard, and of this host.
pub(super) fn find(
    kernel: &Kernel,
    snapshot: &Snapshot,
    guard: &Answer,
) -> Result<Vec<Problem>, Error> {
    let units = Units::read(Path::new("/"));
    let mut problems = in_force(snapshot);
    problems.extend(of_guard(guard, &units, snapshot.installed.is_some()));
    let installed = snapshot.installed.as_ref();
    if installed.is_some_and(|installed| is_marking(&installed.ruleset)) {
        problems.extend(kernel.marking_tables()?.iter().map(|table| Problem {
            kind: "mark",
            text: format!(
                "`connection-mark` is on, and rules of the table `{table}` use the marks of connections, too"
            ),
        }));
    }
    Ok(problems)
}

/// Returns the problems of dfw's table.
fn in_force(snapshot: &Snapshot) -> Vec<Problem> {
    let Some(installed) = &snapshot.installed else {
        return vec![Problem {
            kind: "not-installed",
            text: "dfw's rules are not in force".to_owned(),
        }];
    };
    let mut problems: Vec<_> = Problems::of(Some(installed))
        .sentences()
        .map(|(kind, text)| Problem { kind, text })
        .collect();
    if let Some((process, false)) = named(installed.comment.as_deref()) {
        problems.push(Problem {
            kind: "unconfirmed",
            text: format!(
                "these rules were never confirmed, and process {process}, which would roll them back, does not run"
            ),
        });
    }
    problems
}

/// Returns the problems of guard, and of what guard reports.
fn of_guard(guard: &Answer, units: &Units, is_installed: bool) -> Vec<Problem> {
    let disabled = match units {
        Units::Disabled(units) => Some(Problem {
            kind: "unit",
            text: format!(
                "not enabled: {}; after a reboot no rule is in force until `dfw apply`",
                units.join(", ")
            ),
        }),
        Units::None | Units::Enabled(_) => None,
    };
    let says = |text: String| {
        vec![Problem {
            kind: "guard",
            text,
        }]
    };
    let mut problems = match guard {
        Answer::Status(status) => reported(status),
        Answer::Nobody if !is_installed => Vec::new(),
        Answer::Nobody => match units {
            Units::Enabled(_) => {
                says("not running; run `dfw apply` again after `nft flush ruleset`".to_owned())
            }
            Units::None | Units::Disabled(_) => says(
                "not running; run `dfw apply` again after a reboot or `nft flush ruleset`"
                    .to_owned(),
            ),
        },
        Answer::Silent { process, reason } => {
            let process = process.map_or_else(
                || "a process that dfw cannot see".to_owned(),
                |process| format!("process {process}"),
            );
            says(format!("does not answer ({process}): {reason}"))
        }
        Answer::Unknown(reason) => says(format!("cannot be queried: {reason}")),
    };
    problems.extend(disabled);
    problems
}

/// Returns the problems that guard reports: engines that do not answer, its site, and fetched sources.
fn reported(guard: &Value) -> Vec<Problem> {
    let clean = |value: &Value| clean_to(value.as_str().unwrap_or_default(), LINE);
    let unanswered = guard["unanswered"].as_array().into_iter().flatten();
    let engines = unanswered.take(ENGINES).map(|text| Problem {
        kind: "engine",
        text: clean(text),
    });
    let site = site::problems(&guard["site"]).into_iter();
    let site = site.map(|text| Problem { kind: "site", text });
    let sources = guard["sources"].as_array().into_iter().flatten();
    let sources = sources.take(SOURCES).flat_map(|source| {
        let stale = Stale::of(source).map(|stale| Problem {
            kind: "stale",
            text: stale.sentence(),
        });
        let rest = match source["entries"].as_u64() {
            Some(0) => "it allows nobody",
            _ => "the former one is in force",
        };
        let unused = source["unused"].is_string().then(|| Problem {
            kind: "not-used",
            text: format!(
                "the list that was fetched for `{}`: {}; {rest}",
                clean(&source["name"]),
                clean(&source["unused"])
            ),
        });
        stale.into_iter().chain(unused)
    });
    engines.chain(site).chain(sources).collect()
}

/// Returns the block of the problems; nothing without any.
pub(super) fn text(terminal: Terminal, problems: &[Problem]) -> String {
    let mut text = String::new();
    if !problems.is_empty() {
        let _ = writeln!(text, "{}:", terminal.paint(Tone::Bad, "problems"));
    }
    for Problem {
        kind,
        text: sentence,
    } in problems
    {
        let word = terminal.paint(Tone::Warning, &kind.replace('-', " "));
        let _ = writeln!(text, "  {word}: {sentence}");
    }
    text
}

/// Returns the problems for programs.
pub(super) fn json(problems: &[Problem]) -> Value {
    let problem = |problem: &Problem| json!({"kind": problem.kind, "text": problem.text});
    problems.iter().map(problem).collect()
}
