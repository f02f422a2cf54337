//! The page of a comparison.

use maud::{Markup, html};

use crate::analysis::difference::Effect;
use crate::output::table::count;

use super::change::{Change, Row, State};
use super::frame::{Table, Tile, badge, conclusion, counts, document, tiles, unseen};

const EFFECTS: [Effect; 4] = [
    Effect::Gains,
    Effect::MayGain,
    Effect::Loses,
    Effect::Judged,
];

impl Change {
    /// Returns the page.
    #[must_use]
    pub fn html(&self) -> String {
        let body = html! {
            header {
                p class="kicker" { "dfw diff" }
                h1 { "Who gains and who loses access" }
                p class="muted" {
                    "From " bdi class="name" { (self.old) } " to " bdi class="name" { (self.new) } "."
                }
            }
            main {
                (conclusion(&self.conclusion))
                (unseen("Not known without a host", &self.unseen))
                (tiles(&EFFECTS.map(|effect| self.tile(effect))))
                @for effect in EFFECTS { (self.section(effect)) }
                @if self.more > 0 {
                    p { (count(self.more, "more change is", "more changes are")) " not shown." }
                }
            }
            footer {
                p {
                    "Every address of IPv4 and IPv6, every port and every path is compared, so the counts are exact. \
                     A share such as 1/2³² is of the 2¹²⁸ addresses of IPv6."
                }
            }
        };
        document(&format!("dfw diff from {} to {}", self.old, self.new), &body)
    }

    fn tile(&self, effect: Effect) -> Tile {
        let (sign, title, meaning) = words(effect);
        let rows = self.rows.iter().filter(|row| row.effect == effect);
        Tile {
            class: class(effect),
            sign,
            title,
            meaning,
            number: rows.count(),
        }
    }

    fn section(&self, effect: Effect) -> Markup {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.effect == effect).collect();
        let (_, title, meaning) = words(effect);
        let id = effect.name();
        let table = Table {
            caption: meaning,
            columns: &["Ports", "Change", "Before", "After", "Path"],
            class: "change",
            rows: rows.iter().map(|row| cells(row)).collect(),
        };
        html! {
            @if !rows.is_empty() {
                section aria-labelledby=(id) { h2 id=(id) { (capital(title)) } (table.markup()) }
            }
        }
    }
}

/// A title at the beginning of a line.
fn capital(title: &str) -> String {
    let mut characters = title.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// The sign, the name and what it means.
fn words(effect: Effect) -> (&'static str, &'static str, &'static str) {
    match effect {
        Effect::Gains => ("+", "gains access", "denied before, allowed afterwards"),
        Effect::MayGain => ("?", "may gain access", "whether there is access is not known"),
        Effect::Loses => ("−", "loses access", "denied afterwards, and not before"),
        Effect::Judged => ("~", "judged otherwise", "by another line, or by none"),
    }
}

/// The class of the style.
fn class(effect: Effect) -> &'static str {
    match effect {
        Effect::Gains => "exposed",
        Effect::MayGain => "not-judged",
        Effect::Loses => "open",
        Effect::Judged => "restricted",
    }
}

fn cells(row: &Row) -> Vec<Markup> {
    let (sign, title, _) = words(row.effect);
    vec![
        html! {
            @for port in &row.ports { span class="name port" { (port) } }
            @if row.more_ports > 0 {
                span class="muted" { "and " (count(row.more_ports, "more range", "more ranges")) }
            }
        },
        html! {
            (badge(class(row.effect), sign, title))
            span class="who" { (row.sentence) }
            span class="muted" { (counts(&row.sources)) }
        },
        state(&row.before),
        state(&row.after),
        html! { @for path in &row.paths { span class="path" { (path) } } },
    ]
}

/// How it is before or afterwards.
fn state(state: &State) -> Markup {
    html! {
        (counts(&state.allowed))
        span class="muted" { "by " (state.by) }
    }
}
