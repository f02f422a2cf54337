//! What is not as dfw left it in its own table, told before anything that rests on that.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;

/// What is wrong with the table in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Problems {
    /// Whether the table is switched off.
    pub(in crate::cli) dormant: bool,
    /// What others have changed in it.
    pub(in crate::cli) drift: Vec<String>,
    /// Whether it does not say who put it there, so that nobody can tell whether others changed it.
    pub(in crate::cli) unknown: bool,
}

impl Problems {
    pub(in crate::cli) fn of(installed: Option<&Installed>) -> Self {
        let Some(installed) = installed else {
            return Self::default();
        };
        let mut drift = installed.foreign();
        if drift.is_empty() && installed.has_drifted() == Some(true) {
            let text = "the rules are not those that dfw put there; `dfw plan` shows how";
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

    /// That the table is switched off, if it is.
    pub(in crate::cli) fn dormant_text(&self, terminal: Terminal) -> String {
        if !self.dormant {
            return String::new();
        }
        let word = terminal.paint(Tone::Bad, "dormant");
        format!(
            "{word}: the table is switched off, and none of its rules is in force; `dfw apply` switches \
             it on\n"
        )
    }

    /// That its origin is not known, if it is not.
    pub(in crate::cli) fn unknown_text(&self, terminal: Terminal) -> String {
        if !self.unknown {
            return String::new();
        }
        let word = terminal.paint(Tone::Warning, "drift");
        format!(
            "{word}: the table does not say who made it, so that nobody can tell whether others have changed \
             it; `dfw apply` makes it anew\n"
        )
    }

    /// A line for each.
    pub(in crate::cli) fn text(&self, terminal: Terminal) -> String {
        let mut text = self.dormant_text(terminal) + &self.unknown_text(terminal);
        for drift in &self.drift {
            let _ = writeln!(text, "{}: {drift}", terminal.paint(Tone::Warning, "drift"));
        }
        text
    }

    /// A list for programs.
    pub(in crate::cli) fn json(&self) -> Value {
        let dormant = self.dormant.then(|| json!({"kind": "dormant"}));
        let drift = self.drift.iter();
        let drift = drift.map(|text| json!({"kind": "drift", "text": text}));
        let unknown = self.unknown.then(|| json!({"kind": "unknown-origin"}));
        dormant.into_iter().chain(unknown).chain(drift).collect()
    }
}
