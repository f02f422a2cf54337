//! The tables of docs/performance.md: each block between two comments is written by the bench.
//!
//! ```text
//! <!-- figures: ports -->
//! …
//! <!-- end of figures -->
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::growth::GROWTH;

const BEGIN: &str = "<!-- figures: ";
const CLOSE: &str = " -->\n";
const END: &str = "<!-- end of figures -->";

/// One ratio of a run.
#[derive(Debug, Deserialize)]
struct Figure {
    work: String,
    what: String,
    value: f64,
    limit: f64,
    at_least: bool,
    binding: bool,
}

/// Returns the name of the block that shows some work.
pub(crate) fn block(work: &str) -> &'static str {
    let begins = |prefix| work.starts_with(prefix);
    match work {
        _ if begins(GROWTH) => "growth",
        _ if begins("flood: ") => "flood",
        _ if begins("diff of ") => "difference",
        _ if begins("load ") => "load",
        _ if begins("guard with ") => "memory",
        _ if begins("audit of ") || begins("a start among ") => "containers",
        _ if [" packet, ", "reply, ", " connection, ", " UDP, "]
            .iter()
            .any(|kind| work.contains(kind)) =>
        {
            "packets"
        }
        _ if work.ends_with(" fetched") => "fetched",
        _ if work.contains(" ports of ") => "ports",
        _ => "change",
    }
}

/// Returns a run's figures, with those of the former run for the blocks that this run has none of.
pub(crate) fn merged(document: &Value, former: &Value) -> Value {
    let rows = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
    let name = |row: &Value| block(row["work"].as_str().unwrap_or_default());
    let new: BTreeSet<&str> = rows(document, "costs")
        .iter()
        .chain(&rows(document, "ratios"))
        .map(name)
        .collect();
    let mut merged = document.clone();
    for key in ["costs", "ratios"] {
        let mut all = rows(former, key);
        all.retain(|row| !new.contains(name(row)));
        all.extend(rows(document, key));
        merged[key] = all.into();
    }
    merged
}

/// Writes all blocks of the page anew.
pub(crate) fn publish(document: &Value) -> Result<()> {
    Ok(fs::write(path(), current(document)?)?)
}

/// Fails if a block of the page is not of these figures.
pub(crate) fn compare(document: &Value) -> Result<()> {
    let page = fs::read_to_string(path())?;
    ensure!(
        page == current(document)?,
        "{} is not current",
        path().display()
    );
    Ok(())
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md")
}

/// Returns the page with the figures of a run.
fn current(document: &Value) -> Result<String> {
    let figures = Vec::<Figure>::deserialize(&document["ratios"]).context("ratios")?;
    let page = fs::read_to_string(path())?;
    let mut parts = page.split(BEGIN);
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut shown = BTreeSet::new();
    for part in parts {
        let (name, rest) = part.split_once(CLOSE).context("a block without a name")?;
        let (_, rest) = rest.split_once(END).context("a block without an end")?;
        let of: Vec<&Figure> = figures.iter().filter(|f| block(&f.work) == name).collect();
        ensure!(!of.is_empty(), "no figures of {name}");
        shown.insert(name);
        let table = table(&of);
        let _ = write!(text, "{BEGIN}{name}{CLOSE}\n{table}\n{END}{rest}");
    }
    for figure in &figures {
        let name = block(&figure.work);
        ensure!(shown.contains(name), "the page does not show {name}");
    }
    Ok(text)
}

/// A row for each work, and a column for each ratio.
fn table(figures: &[&Figure]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for figure in figures {
        if !columns.contains(&figure.what.as_str()) {
            columns.push(&figure.what);
        }
    }
    let mut text = format!("| | {} |\n|---|", columns.join(" | "));
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for row in figures.chunk_by(|a, b| a.work == b.work) {
        let work = row[0]
            .work
            .split_once(": ")
            .map_or(&*row[0].work, |(_, work)| work);
        let _ = write!(text, "| {work} |");
        for column in &columns {
            let cell = row.iter().find(|figure| figure.what == *column);
            let _ = write!(
                text,
                " {} |",
                cell.map_or(String::new(), |figure| cell_of(figure))
            );
        }
        text.push('\n');
    }
    text
}

/// The value, and its limit.
fn cell_of(figure: &Figure) -> String {
    let decimals = match figure.value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let mut text = format!("{:.decimals$}", figure.value);
    if figure.binding {
        let sign = if figure.at_least { '≥' } else { '≤' };
        let _ = write!(text, " ({sign} {})", figure.limit);
    }
    text
}
