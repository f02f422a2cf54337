//! The page of a comparison.

use maud::{Markup, html};

use crate::analysis::difference::Effect;
use crate::output::table::count;

use super::change::{Change, Row, State};
use super::frame::{Table, Tile, badge, conclusion, counts, document, list, tiles, unseen};

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
                @if !self.limits.is_empty() {
                    section aria-labelledby="limits" {
                        h2 id="limits" { "Limits that change" }
                        (list(&self.limits))
                    }
                }
            }
            footer {
                p {
                    "Every address of IPv4 and IPv6, every port and every path is compared, so the counts are exact. \
                     A share such as 1/2³² is of the 2¹²⁸ addresses of IPv6."
                }
            }
        };
        document(
            &format!("dfw diff from {} to {}", self.old, self.new),
            &body,
        )
    }

    fn tile(&self, effect: Effect) -> Tile {
        let Words {
            sign,
            count: title,
            meaning,
            ..
        } = words(effect);
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
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.effect == effect)
            .collect();
        let Words {
            sign,
            title,
            caption,
            ..
        } = words(effect);
        let id = effect.name();
        let table = Table {
            caption,
            columns: &["Ports", "Who", "Before", "After", "Path"],
            class: "change",
            rows: rows.iter().map(|row| cells(row)).collect(),
        };
        html! {
            @if !rows.is_empty() {
                section aria-labelledby=(id) {
                    h2 id=(id) class={ "effect " (class(effect)) } {
                        span aria-hidden="true" { (sign) } " " (title)
                    }
                    (table.markup())
                }
            }
        }
    }
}

/// What an effect is called.
struct Words {
    sign: &'static str,
    /// What is counted.
    count: &'static str,
    meaning: &'static str,
    /// The title and the caption of its table.
    title: &'static str,
    caption: &'static str,
}

fn words(effect: Effect) -> Words {
    let (sign, count, meaning, title, caption) = match effect {
        Effect::Gains => (
            "+",
            "openings",
            "denied before, allowed afterwards",
            "Gain access",
            "Denied before and allowed afterwards; those of most addresses first.",
        ),
        Effect::MayGain => (
            "?",
            "possible openings",
            "whether there is access is not known",
            "May gain access",
            "Denied before and not judged afterwards, or not judged before and not denied afterwards.",
        ),
        Effect::Loses => (
            "−",
            "closings",
            "denied afterwards, and not before",
            "Lose access",
            "Denied afterwards, and not before; those of most addresses first.",
        ),
        Effect::Judged => (
            "~",
            "judged otherwise",
            "as open as before, by another line or by none",
            "Judged otherwise",
            "As open as before: decided by a line of the policy now, or by none any more.",
        ),
    };
    Words {
        sign,
        count,
        meaning,
        title,
        caption,
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
    vec![
        html! {
            @for port in &row.ports { span class="name port" { (port) } }
            @if row.more_ports > 0 {
                span class="muted" { "and " (count(row.more_ports, "more range", "more ranges")) }
            }
        },
        html! {
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
        (badge(state.standing.name(), state.standing.sign(), state.standing.title()))
        (counts(&state.allowed))
        span class="muted" { "by " (state.by) }
    }
}
