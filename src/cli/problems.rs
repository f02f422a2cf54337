//! What is not as dfw left it in its own table, told before anything that rests on that.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::output::terminal::{Terminal, Tone};
use crate::plan::Installed;

/// What is wrong with the table in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Problems {
    /// Whether the table is switched off.
    pub(super) dormant: bool,
    /// What others have changed in it.
    pub(super) drift: Vec<String>,
}

impl Problems {
    pub(super) fn of(installed: Option<&Installed>) -> Self {
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
            drift,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.dormant && self.drift.is_empty()
    }

    /// That the table is switched off, if it is.
    pub(super) fn dormant_text(&self, terminal: Terminal) -> String {
        if !self.dormant {
            return String::new();
        }
        let word = terminal.paint(Tone::Bad, "dormant");
        format!(
            "{word}: the table is switched off, and none of its rules is in force; `dfw apply` switches \
             it on\n"
        )
    }

    /// A line for each.
    pub(super) fn text(&self, terminal: Terminal) -> String {
        let mut text = self.dormant_text(terminal);
        for drift in &self.drift {
            let _ = writeln!(text, "{}: {drift}", terminal.paint(Tone::Warning, "drift"));
        }
        text
    }

    /// A list for programs.
    pub(super) fn json(&self) -> Value {
        let dormant = self.dormant.then(|| json!({"kind": "dormant"}));
        let drift = self.drift.iter();
        let drift = drift.map(|text| json!({"kind": "drift", "text": text}));
        dormant.into_iter().chain(drift).collect()
    }
}
