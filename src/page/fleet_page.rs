//! The page of a site: one row a host, the worst first.

use maud::html;

use crate::fleet::overview::{Overview, Row, Severity};
use crate::output::table::count;
use crate::output::terminal::Tone;

use super::audit::Conclusion;
use super::frame::{Table, Tile, badge, conclusion, document, tiles, unseen};

/// Returns the class, the sign, the title and the meaning of a severity.
fn words(severity: Severity) -> (&'static str, &'static str, &'static str, &'static str) {
    match severity {
        Severity::Failed => ("bad", "▲", "Failed", "do not take the policies"),
        Severity::Silent => (
            "not-judged",
            "?",
            "Silent",
            "nothing is known of them; what was in force stays",
        ),
        Severity::Warned => ("warning", "!", "Warned", "to be looked at"),
        Severity::Pending => ("restricted", "…", "Pending", "do not have the policies yet"),
        Severity::Good => ("good", "✓", "Good", "have the policies in force"),
    }
}

/// Returns the page.
#[must_use]
pub fn html(overview: &Overview) -> String {
    let counts = overview.counts();
    let tile = |severity: Severity| {
        let (class, sign, title, meaning) = words(severity);
        let number = counts.get(&severity).copied().unwrap_or_default();
        Tile {
            class,
            sign,
            title,
            meaning,
            number,
        }
    };
    let row = |row: &Row| {
        let (class, sign, result, _) = words(row.severity);
        vec![
            html! { bdi class="name" { (row.name) } },
            badge(class, sign, result),
            html! { (row.state) },
            html! { @if let Some(generation) = row.generation { (generation) } @else { "none" } },
            html! { (row.version) },
            html! { @if let Some(age) = row.age { (age) " s ago" } @else { "never" } },
            html! { bdi { (row.note) } },
        ]
    };
    let table = Table {
        caption: "Hosts, the worst first",
        columns: &[
            "Host",
            "Result",
            "State",
            "Generation",
            "dfw",
            "Last word",
            "Note",
        ],
        class: "hosts",
        rows: overview.rows.iter().map(row).collect(),
    };
    let body = html! {
        header {
            p class="kicker" { "dfw fleet status" }
            h1 { "Hosts of the site " bdi class="name" { (overview.site) } }
        }
        main {
            (conclusion(&result(overview)))
            (unseen("Problems", &overview.problems))
            (tiles(&Severity::ALL.map(tile)))
            section aria-labelledby="hosts" {
                h2 id="hosts" { "Hosts" }
                (table.markup())
            }
        }
        footer {
            p { "Each row is what the host said of itself. A host that is silent keeps the rules that it had." }
        }
    };
    document(&format!("dfw fleet status of {}", overview.site), &body)
}

fn result(overview: &Overview) -> Conclusion {
    let hosts = count(overview.rows.len(), "host", "hosts");
    let generation = overview.generation.map_or_else(
        || "no generation".to_owned(),
        |number| format!("generation {number}"),
    );
    let (tone, word, text) = match &overview.stopped {
        Some(reason) => (Tone::Bad, "stopped", format!("{generation}: {reason}")),
        None if overview.is_good() => (Tone::Good, "good", format!("{generation}, {hosts}")),
        None => (
            Tone::Warning,
            "look at these",
            format!("{generation}, {hosts}"),
        ),
    };
    Conclusion {
        tone,
        word,
        text,
        next: None,
    }
}
