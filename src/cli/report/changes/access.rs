//! What a plan changes of who has access.

use serde_json::{Value, json};

use crate::analysis::difference::Difference;
use crate::analysis::eval::Pool;
use crate::cli::report::difference;
use crate::kernel::Proposal;
use crate::output::terminal::{Terminal, Tone};
use crate::plan::{Installed, Plan};
use crate::ruleset::Ruleset;
use crate::untrusted::clean;

/// Who gains and loses access by a plan, as far as that can be computed.
#[derive(Debug)]
pub(in crate::cli) enum AccessChanges {
    /// No rules of dfw's are in force, so that it denies nothing yet, and nobody can gain access.
    First,
    /// What the rules in force allow cannot be computed, and why.
    Unknown(String),
    /// Compared with the rules in force.
    Known {
        difference: Difference,
        /// The sets of the rules in force of which nobody knows what they hold.
        unread: Vec<String>,
    },
}

impl AccessChanges {
    /// Compares what a proposal found with what is wanted.
    pub(in crate::cli) fn of(wanted: &Ruleset, proposal: &Proposal<'_>) -> Self {
        if proposal.generation().is_none() {
            let why = "other programs keep changing rulesets, so that the rules in force could not be read";
            return Self::Unknown(why.to_owned());
        }
        match proposal.installed() {
            None => Self::First,
            Some(installed) => Self::between(installed, wanted, proposal.plan()),
        }
    }

    fn between(installed: &Installed, wanted: &Ruleset, plan: &Plan<'_>) -> Self {
        if installed.facts.dormant || installed.ruleset.chains.is_empty() {
            return Self::First;
        }
        if let Some(foreign) = installed.foreign().first() {
            return Self::Unknown(format!("dfw cannot evaluate {foreign}"));
        }
        if plan.is_empty() {
            return Self::Known {
                difference: Difference::default(),
                unread: Vec::new(),
            };
        }
        let (before, unread) = plan.ruleset_before(installed, wanted);
        Self::Known {
            difference: Difference::of(&mut Pool::default(), &before, wanted),
            unread,
        }
    }

    /// Whether somebody has access afterwards, or may have, who had none.
    pub(in crate::cli) fn opens(&self) -> bool {
        match self {
            Self::First => false,
            Self::Unknown(_) => true,
            Self::Known { difference, .. } => difference.openings().next().is_some(),
        }
    }

    /// Returns a line for each row, openings first; nothing for a first apply.
    pub(in crate::cli) fn text(&self, terminal: Terminal) -> String {
        match self {
            Self::First => String::new(),
            Self::Unknown(why) => {
                let word = terminal.paint(Tone::Warning, "not judged");
                format!("{word}: who gains and loses access is not known: {why}\n")
            }
            Self::Known { difference, .. } if difference.is_empty() => {
                "nobody gains or loses access\n".to_owned()
            }
            Self::Known { difference, unread } => {
                let mut text = "who gains and loses access:\n".to_owned();
                text.push_str(&difference::text(difference, terminal));
                if !unread.is_empty() {
                    let sets: Vec<String> = unread.iter().map(|set| clean(set)).collect();
                    let word = terminal.paint(Tone::Warning, "not judged");
                    text.push_str(&format!(
                        "{word}: lists of the rules in force that are too long to be read back: {}\n",
                        sets.join(", ")
                    ));
                }
                text
            }
        }
    }

    /// Returns `access` of a document.
    pub(in crate::cli) fn json(&self) -> Value {
        let (difference, unread, why) = match self {
            Self::First => (None, &[][..], Some("no rules of dfw are in force")),
            Self::Unknown(why) => (None, &[][..], Some(why.as_str())),
            Self::Known { difference, unread } => (Some(difference), unread.as_slice(), None),
        };
        json!({
            "opens": self.opens(),
            "differences": difference.map(difference::json),
            "not_compared": why,
            "unread_sets": unread,
        })
    }
}

#[cfg(test)]
mod tests;
