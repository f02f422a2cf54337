//! Problems of the table in force: drift, dormant, unknown origin.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;

const DORMANT: &str =
    "the table has the flag `dormant`: none of its rules is in force; `dfw apply` activates it";
const UNKNOWN: &str = "the table has no comment of dfw's, so modifications cannot be detected; `dfw apply` recreates it";

/// The problems of the table in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Problems {
    /// Whether the table is dormant.
    pub(in crate::cli) dormant: bool,
    /// The drift: modifications by other programs.
    pub(in crate::cli) drift: Vec<String>,
    /// Whether the table has no comment of dfw's, so that drift cannot be detected.
    pub(in crate::cli) unknown: bool,
}

impl Problems {
    pub(in crate::cli) fn of(installed: Option<&Installed>) -> Self {
        let Some(installed) = installed else {
            return Self::default();
        };
        let mut drift = installed.foreign();
        if drift.is_empty() && installed.has_drifted() == Some(true) {
            let text = "the rules differ from those that dfw applied; `dfw plan` shows how";
            drift.push(text.to_owned());
        }
        Self {
            dormant: installed.facts.dormant,
            unknown: drift.is_empty() && installed.has_drifted().is_none(),
            drift,
        }
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        !self.dormant && self.drift.is_empty() && !self.unknown
    }

    /// Returns the line about a dormant table, if it is dormant.
    pub(in crate::cli) fn dormant_text(&self, terminal: Terminal) -> String {
        if !self.dormant {
            return String::new();
        }
        format!("{}: {DORMANT}\n", terminal.paint(Tone::Bad, "dormant"))
    }

    /// Returns the line about an unknown origin, if it is unknown.
    pub(in crate::cli) fn unknown_text(&self, terminal: Terminal) -> String {
        if !self.unknown {
            return String::new();
        }
        format!("{}: {UNKNOWN}\n", terminal.paint(Tone::Warning, "drift"))
    }

    /// Returns the kind of each problem, as JSON has it, and a sentence.
    pub(in crate::cli) fn sentences(&self) -> impl Iterator<Item = (&'static str, String)> {
        let dormant = self.dormant.then(|| ("dormant", DORMANT.to_owned()));
        let unknown = self.unknown.then(|| ("unknown-origin", UNKNOWN.to_owned()));
        let all = dormant.into_iter().chain(unknown);
        all.chain(self.drift.iter().map(|drift| ("drift", drift.clone())))
    }

    /// Returns a sentence for each problem.
    pub(in crate::cli) fn lines(&self) -> impl Iterator<Item = String> {
        let dormant = self.dormant.then(|| DORMANT.to_owned());
        let unknown = self.unknown.then(|| UNKNOWN.to_owned());
        let all = dormant.into_iter().chain(unknown);
        all.chain(self.drift.iter().map(|drift| format!("drift: {drift}")))
    }

    /// Returns a line for each problem.
    pub(in crate::cli) fn text(&self, terminal: Terminal) -> String {
        let mut text = self.dormant_text(terminal) + &self.unknown_text(terminal);
        for drift in &self.drift {
            let _ = writeln!(text, "{}: {drift}", terminal.paint(Tone::Warning, "drift"));
        }
        text
    }

    /// Returns the problems as JSON.
    pub(in crate::cli) fn json(&self) -> Value {
        let dormant = self.dormant.then(|| json!({"kind": "dormant"}));
        let drift = self.drift.iter();
        let drift = drift.map(|text| json!({"kind": "drift", "text": text}));
        let unknown = self.unknown.then(|| json!({"kind": "unknown-origin"}));
        dormant.into_iter().chain(unknown).chain(drift).collect()
    }
}
