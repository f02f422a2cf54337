//! What all pages are made of: the document around them, and tables that become cards where there is little room.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::output::terminal::Tone;

use super::audit::Conclusion;
use super::count::Count;
use super::svg;

/// Nothing is loaded, sent or run; the page's own style is all there is.
const SECURITY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Returns a document.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(SECURITY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("dfw ", env!("CARGO_PKG_VERSION")));
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) (PreEscaped(svg::STYLE)) }
            }
            body { (body) }
        }
    };
    markup.into_string() + "\n"
}

/// Returns the result, as the first that is read.
pub(super) fn conclusion(conclusion: &Conclusion) -> Markup {
    let (class, sign) = match conclusion.tone {
        Tone::Good => ("good", "✓"),
        Tone::Warning => ("warning", "!"),
        Tone::Bad => ("bad", "▲"),
    };
    html! {
        div class={ "conclusion " (class) } {
            span class="sign" aria-hidden="true" { (sign) }
            div {
                p { strong { (conclusion.word) ":" } " " (conclusion.text) }
                @if let Some(next) = conclusion.next { p class="muted" { "Next: " (prose(next)) } }
            }
        }
    }
}

/// Returns what is not known, before everything that is.
pub(super) fn unseen(title: &str, sentences: &[String]) -> Markup {
    html! {
        @if !sentences.is_empty() {
            section class="unseen" aria-labelledby="unseen" {
                h2 id="unseen" { (title) }
                (list(sentences))
            }
        }
    }
}

/// Returns a list.
pub(super) fn list(sentences: &[String]) -> Markup {
    html! { ul { @for sentence in sentences { li { (prose(sentence)) } } } }
}

/// A text with code in backticks.
fn prose(text: &str) -> Markup {
    html! {
        @for (n, part) in text.split('`').enumerate() {
            @if n % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// Returns a label whose sign and colour stand for its class.
pub(super) fn badge(class: &str, sign: &str, title: &str) -> Markup {
    html! {
        span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (title) }
    }
}

/// A number of a summary.
pub(super) struct Tile {
    /// A class of the style.
    pub(super) class: &'static str,
    /// The sign that stands for the class.
    pub(super) sign: &'static str,
    /// What is counted.
    pub(super) title: &'static str,
    /// What that means.
    pub(super) meaning: &'static str,
    /// How many.
    pub(super) number: usize,
}

/// Returns a summary.
pub(super) fn tiles(tiles: &[Tile]) -> Markup {
    html! {
        dl class="tiles" {
            @for tile in tiles {
                div class={ "tile " (if tile.number == 0 { "none" } else { tile.class }) } {
                    dt { span aria-hidden="true" { (tile.sign) } " " (tile.title) }
                    dd class="number" { (tile.number) }
                    dd class="muted" { (tile.meaning) }
                }
            }
        }
    }
}

/// Returns how many addresses there are: for people, and in digits for programs.
pub(super) fn counts(counts: &[Count]) -> Markup {
    html! {
        @for count in counts {
            span class="count" { data value=(count.digits()) title=[count.exact()] { (count) } }
        }
    }
}

/// A table: its title for those who do not see it, its columns with their classes, and its rows, each of whose
/// first cell is its heading.
pub(super) struct Table<'a> {
    /// What it has.
    pub(super) caption: &'a str,
    /// The titles of the columns.
    pub(super) columns: &'a [&'a str],
    /// A class of the style.
    pub(super) class: &'a str,
    /// The rows.
    pub(super) rows: Vec<Vec<Markup>>,
}

impl Table<'_> {
    /// Returns the table. Roles are said, as browsers forget those of tables that are shown as blocks.
    pub(super) fn markup(&self) -> Markup {
        html! {
            table role="table" class=(self.class) {
                caption { (self.caption) }
                thead role="rowgroup" {
                    tr role="row" {
                        @for column in self.columns {
                            th role="columnheader" scope="col" { (column) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for row in &self.rows {
                        tr role="row" { (cells(self.columns, row)) }
                    }
                }
            }
        }
    }
}

fn cells(columns: &[&str], row: &[Markup]) -> Markup {
    html! {
        @for (n, (cell, column)) in row.iter().zip(columns).enumerate() {
            @if n == 0 {
                th role="rowheader" scope="row" { (cell) }
            } @else {
                td role="cell" data-label=(column) { (cell) }
            }
        }
    }
}
