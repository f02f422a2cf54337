//! What a plan changes of who has access.

use std::fmt::Write;

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
    /// Compares what a proposal found with what is desired.
    pub(in crate::cli) fn of(desired: &Ruleset, proposal: &Proposal<'_>) -> Self {
        if proposal.generation().is_none() {
            let why = "other programs keep changing rulesets, so that the rules in force could not be read";
            return Self::Unknown(why.to_owned());
        }
        match proposal.installed() {
            None => Self::First,
            Some(installed) => Self::between(installed, desired, proposal.plan()),
        }
    }

    fn between(installed: &Installed, desired: &Ruleset, plan: &Plan<'_>) -> Self {
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
        let (before, unread) = plan.ruleset_before(installed, desired);
        Self::Known {
            difference: Difference::of(&mut Pool::default(), &before, desired),
            unread,
        }
    }

    /// Returns whether somebody has access afterwards, or may have, who had none.
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
            Self::Known { difference, .. } if difference.rows.is_empty() => {
                let limits = difference::limits_text(difference, terminal);
                format!("nobody gains or loses access\n{limits}")
            }
            Self::Known { difference, unread } => {
                let mut text = "who gains and loses access:\n".to_owned();
                text.push_str(&difference::text(difference, terminal));
                if !unread.is_empty() {
                    let sets: Vec<String> = unread.iter().map(|set| clean(set)).collect();
                    let word = terminal.paint(Tone::Warning, "not judged");
                    let _ = writeln!(
                        text,
                        "{word}: lists of the rules in force that are too long to be read back: {}",
                        sets.join(", ")
                    );
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
            "limits": difference.map(difference::limits_json),
            "not_compared": why,
            "unread_sets": unread,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostView;
    use crate::plan::diff;
    use crate::ruleset::{Elements, Expression, Rule};
    use crate::store::Policies;
    use crate::text::SourceMap;

    /// Compiles a policy.
    fn compiled(text: &str) -> Ruleset {
        let sources = SourceMap::in_memory([("p.yaml", text)]);
        let host = HostView {
            container_bridges: ["docker0".to_owned()].into(),
            ..HostView::default()
        };
        let policies = Policies::read(sources, "p.yaml".as_ref()).unwrap();
        policies.compile(&host)
    }

    /// Returns a table with a ruleset, all of which was read.
    fn installed(ruleset: Ruleset) -> Installed {
        let mut installed = Installed {
            ruleset,
            ..Installed::default()
        };
        for name in installed.ruleset.sets.keys() {
            let facts = installed.facts.sets.entry(name.clone()).or_default();
            facts.name.clone_from(name);
            facts.read = true;
        }
        for (name, chain) in &installed.ruleset.chains {
            let handles = (1..).take(chain.rules.len()).collect();
            installed.facts.handles.insert(name.clone(), handles);
        }
        installed
    }

    fn between(old: &Installed, new: &str) -> AccessChanges {
        let new = compiled(new);
        AccessChanges::between(old, &new, &diff(Some(old), &new, 7))
    }

    /// Returns what is shown, without the paths.
    fn shown(access: &AccessChanges) -> String {
        let text = access.text(Terminal::new(false, Some(false)));
        let mut shown = String::new();
        for line in text.lines() {
            match line.rsplit_once("  by ") {
                Some((who, by)) if !who.contains(": sockets") => {
                    let who = who.split(": published").next().unwrap_or(who);
                    writeln!(shown, "{}; by {by}", who.trim_end()).unwrap();
                }
                _ => writeln!(shown, "{line}").unwrap(),
            }
        }
        shown
    }

    fn policy(ports: &str) -> String {
        format!("default: deny\nsources: {{office: [203.0.113.0/24]}}\nports:\n{ports}")
    }

    #[test]
    fn who_gains_and_who_loses_is_shown_with_the_lines_that_decide() {
        let range = "  8000-8010: any\n";
        let key = "  8000-8010: any\n  8005: [office]\n";
        for (old, new, expected) in [
            // A key goes, and the range decides.
            (
                policy(key),
                policy(range),
                "  + 8005/tcp  everybody gains access, were 256 addresses; by `8000-8010/tcp` (p.yaml:4), was \
                 `8005/tcp` (p.yaml:5)\n",
            ),
            // It starts to decide.
            (
                policy(range),
                policy(key),
                "  - 8005/tcp  everybody but 203.0.113.0/24 loses access; by `8005/tcp` (p.yaml:5), was \
                 `8000-8010/tcp` (p.yaml:4)\n",
            ),
            // An entry of a list comes, and another goes.
            (
                policy("  80: [office, 192.0.2.1]\n"),
                policy("  80: [office, 192.0.2.2]\n"),
                "  + 80/tcp  192.0.2.2 gains access; by `80/tcp` (p.yaml:4)\n  \
                 - 80/tcp  192.0.2.1 loses access; by `80/tcp` (p.yaml:4)\n",
            ),
            (
                "default: deny\n".to_owned(),
                "default: allow\n".to_owned(),
                "  + every TCP port, every UDP port, every SCTP port  everybody gains access, was nobody; by no \
                 rule, was default (p.yaml:1)\n",
            ),
        ] {
            let access = between(&installed(compiled(&old)), &new);
            let text = format!("who gains and loses access:\n{expected}");
            assert_eq!(shown(&access), text, "{old}\n{new}");
            assert_eq!(access.opens(), expected.contains("  + "));
        }
        let same = between(&installed(compiled(&policy(key))), &policy(key));
        assert_eq!(shown(&same), "nobody gains or loses access\n");
        assert!(!same.opens());
    }

    #[test]
    fn what_no_key_names_any_more_is_not_judged_at_services_of_the_host() {
        let old = installed(compiled(&policy("  80: [office]\n  443: any\n")));
        let shown = shown(&between(&old, &policy("  443: any\n")));
        for line in [
            "  - 80/tcp  203.0.113.0/24 loses access; by default (p.yaml:1), was `80/tcp` (p.yaml:4)\n",
            "  ? 80/tcp  everybody but 203.0.113.0/24 is not judged from now on, and may have access: sockets",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
    }

    #[test]
    fn what_is_not_known_of_the_rules_in_force_is_not_judged() {
        let policy = policy("  80: [office]\n");
        let mut unread = installed(compiled(&policy));
        let set = unread
            .facts
            .sets
            .keys()
            .find(|set| set.starts_with("office"));
        let set = set.unwrap().clone();
        unread.ruleset.sets.get_mut(&set).unwrap().elements = Elements::Ipv4(Vec::new());
        unread.facts.sets.get_mut(&set).unwrap().read = false;
        let access = between(&unread, &policy);
        let text = shown(&access);
        assert!(access.opens(), "{text}");
        let known = ["gains", "loses access: published"];
        let rows = text.lines().skip(1);
        assert!(
            !rows
                .clone()
                .any(|row| known.iter().any(|word| row.contains(word))),
            "{text}"
        );
        assert!(text.contains("203.0.113.0/24 may gain access"), "{text}");
        assert!(text.contains(&set), "{text}");

        let mut foreign = installed(compiled(&policy));
        let chain = foreign.ruleset.chains.values_mut().next().unwrap();
        chain.rules.push(Rule {
            expressions: vec![Expression::Unknown {
                name: "meta".to_owned(),
                data: Vec::new(),
            }],
            comment: None,
        });
        let access = between(&foreign, &policy);
        assert!(access.opens());
        assert!(shown(&access).starts_with("not judged: "), "{access:?}");
        assert_eq!(access.json()["differences"], Value::Null);
    }

    #[test]
    fn a_first_apply_opens_nothing() {
        let mut switched_off = installed(compiled(&policy("  80: any\n")));
        switched_off.facts.dormant = true;
        for old in [Installed::default(), switched_off] {
            let access = between(&old, &policy("  80: any\n"));
            assert!(!access.opens());
            assert_eq!(access.text(Terminal::new(false, Some(false))), "");
            assert!(access.json()["not_compared"].is_string());
        }
    }
}
