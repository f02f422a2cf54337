//! `dfw fleet status` and `repair`.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::cli::page_file::{self, Page};
use crate::cli::report::failure::Failure;
use crate::file;
use crate::fleet::members;
use crate::fleet::overview::{Overview, Row, Severity};
use crate::fleet::site::{Site, Snapshot};
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::page::fleet_page;
use crate::policy::describe_time;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::{RepairArgs, StatusArgs};

/// How often the status is shown again while nothing changes: hosts fall silent without an event.
const AGAIN: Duration = Duration::from_secs(30);
/// The mode of a page: it names hosts.
const MODE: u32 = 0o640;
/// The shortest time between two of them.
const REST: Duration = Duration::from_secs(1);

pub(super) fn run(terminal: Terminal, args: &StatusArgs) -> Result<(), Failure> {
    let mut site = args.store.open(&[])?;
    if args.watch {
        return watch(terminal, &mut site);
    }
    let (overview, _) = overview(&mut site)?;
    if let Some(path) = &args.metrics_file {
        write(path, &overview.metrics())?;
    }
    let pages = args.html.iter();
    let pages = pages.map(|to| Page::new("--html", to, fleet_page::html(&overview)));
    let page = page_file::write(terminal, MODE, None, pages.collect())?;
    answer(terminal, &overview, page)
}

/// Shows the site once, after something was done.
pub(super) fn show(terminal: Terminal, site: &mut Site) -> Result<(), Failure> {
    let (overview, _) = overview(site)?;
    terminal.answer(|| overview.document().clone(), || text(terminal, &overview))?;
    Ok(())
}

pub(super) fn repair(terminal: Terminal, args: &RepairArgs) -> Result<(), Failure> {
    let mut site = args.store.open(&[])?;
    members::repair(&mut site, |step| terminal.say(Tone::Good, "repair", step))?;
    show(terminal, &mut site)
}

fn overview(site: &mut Site) -> Result<(Overview, Snapshot), Failure> {
    let snapshot = site.read()?;
    let is_full = members::is_full(site)?;
    let members = members::ask(site);
    Ok((
        Overview::of(site.name(), &snapshot, members, is_full),
        snapshot,
    ))
}

fn answer(terminal: Terminal, overview: &Overview, page: Option<String>) -> Result<(), Failure> {
    let text = || page.unwrap_or_else(|| text(terminal, overview));
    terminal.answer(|| overview.document().clone(), text)?;
    if overview.is_good() {
        Ok(())
    } else {
        Err(Failure::Incomplete)
    }
}

fn watch(terminal: Terminal, site: &mut Site) -> Result<(), Failure> {
    let mut shown = String::new();
    loop {
        let (overview, snapshot) = overview(site)?;
        let text = text(terminal, &overview);
        if text != shown {
            terminal.part(|| overview.document().clone(), || text.clone() + "\n")?;
            shown = text;
        }
        // Many hosts change at once.
        std::thread::sleep(REST);
        site.wait(&snapshot, AGAIN)?;
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    file::replace(path, 0o644, text.as_bytes()).map_err(|error| {
        let message = format!("cannot write {}: {error}", untrusted::path(path));
        Failure::plain(Diagnostic::error("unwritable", message))
    })
}

fn text(terminal: Terminal, overview: &Overview) -> String {
    let mut text = String::new();
    let site = &overview.site;
    let _ = match (overview.generation, overview.open) {
        (Some(generation), Some((open, stages))) => {
            writeln!(
                text,
                "site {site}: generation {generation}, stage {} of {stages} open",
                open.min(stages)
            )
        }
        (Some(generation), None) => {
            writeln!(text, "site {site}: generation {generation}, no roll-out")
        }
        (None, _) => writeln!(text, "site {site}"),
    };
    if let Some(reason) = &overview.stopped {
        let _ = writeln!(text, "{}: {reason}", terminal.paint(Tone::Bad, "stopped"));
    }
    if !overview.problems.is_empty() {
        text.push_str("problems:\n");
        for problem in &overview.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    let counts = overview.counts();
    let counts: Vec<_> = counts
        .iter()
        .map(|(severity, count)| format!("{count} {}", severity.name()))
        .collect();
    let _ = writeln!(
        text,
        "{}: {}",
        count(overview.rows.len(), "host", "hosts"),
        counts.join(", ")
    );
    let titles = ["HOST", "STATE", "GENERATION", "DFW", "AGE", "NOTE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(titles)
        .chain(overview.rows.iter().map(row))
        .collect();
    if rows.len() > 1 {
        text.push_str(&terminal.table(&rows));
    }
    text
}

fn row(row: &Row) -> [String; 6] {
    let state = match row.severity {
        Severity::Good | Severity::Pending => row.state.clone(),
        Severity::Failed | Severity::Warned | Severity::Silent => format!("! {}", row.state),
    };
    [
        row.name.clone(),
        state,
        row.generation
            .map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
        row.version.clone(),
        row.age.map_or_else(
            || "-".to_owned(),
            |age| describe_time(Duration::from_secs(age)),
        ),
        row.note.clone(),
    ]
}
