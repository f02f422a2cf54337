//! The text and the JSON about one packet.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::analysis::explain::{Answer, Nothing, Question, Walk};
use crate::analysis::judgement::Verdict;
use crate::cli::report::problems::Problems;
use crate::kernel::ForeignBaseChain;
use crate::net::Limits;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Hook, Ruleset};

use super::{OWN, UNREACHABLE, later_json, later_text, not_in_force};

/// An answer with the data it was computed from.
pub(super) struct Explained<'a> {
    pub(super) question: &'a Question,
    pub(super) answer: &'a Answer,
    pub(super) problems: &'a Problems,
    pub(super) foreign_chains: &'a [ForeignBaseChain],
    pub(super) ruleset: &'a Ruleset,
}

impl Explained<'_> {
    pub(super) fn text(&self, terminal: Terminal) -> String {
        let Self {
            question,
            answer,
            ruleset,
            ..
        } = self;
        let mut text = self.problems.text(terminal);
        let verdict = answer.verdict();
        let (tone, reaches) = match verdict {
            Verdict::Allow => (Tone::Good, "reaches"),
            Verdict::Deny => (Tone::Bad, "does not reach"),
            Verdict::NotJudged => (Tone::Warning, "may reach"),
        };
        let verdict = verdict.to_string();
        let _ = writeln!(
            text,
            "{}: {} {reaches} port {}{}{}",
            terminal.paint(tone, &verdict),
            question.from,
            question.destination.to,
            self.at_some(),
            self.limited(),
        );
        text.push_str(not_in_force(ruleset));
        match answer.nothing {
            Some(Nothing::Unreachable) => {
                text.push_str(UNREACHABLE);
            }
            Some(Nothing::Own) => {
                text.push_str(OWN);
            }
            None if answer.exists => {}
            None => text.push_str(question.destination.assumption()),
        }
        for walk in &answer.walks {
            let title = &walk.path.title;
            let to = if title.is_empty() {
                String::new()
            } else {
                format!(" to {title}")
            };
            let at = if self.differ(walk) {
                let addresses: Vec<_> = walk.addresses.iter().map(ToString::to_string).collect();
                format!(" at {}", addresses.join(", "))
            } else {
                String::new()
            };
            let _ = writeln!(
                text,
                "  {}{to}{at}: {}{}",
                walk.path.kind_text(),
                walk.judgement,
                walk.limits(self.ruleset).clause(),
            );
            for step in &walk.trace.steps {
                let step = step.describe(ruleset).replace('\n', "\n    ");
                let _ = writeln!(text, "    {step}");
            }
            if walk.trace.steps.is_empty() {
                text.push_str("    no rule of dfw matches\n");
            }
        }
        if answer.services_not_judged {
            text.push_str(
                "  a service of the host on this port would not be filtered: it has no policy entry\n",
            );
        }
        text.push_str(&later_text(self.open_hooks(), self.foreign_chains));
        text
    }

    /// Returns the hooks of the packets that are not denied.
    fn open_hooks(&self) -> impl Iterator<Item = Hook> {
        let walks = self.answer.walks.iter();
        let open = walks.filter(|walk| walk.judgement.verdict() != Verdict::Deny);
        open.map(|walk| walk.packet.hook)
    }

    /// Returns whether the verdict on this path depends on the address of the host.
    fn differ(&self, walk: &Walk) -> bool {
        let mut others = self.answer.walks.iter();
        others.any(|other| other.path == walk.path && other.addresses != walk.addresses)
    }

    /// Returns the addresses of the host at which the port is reached, unless it is all of them.
    fn at_some(&self) -> String {
        let verdict = self.answer.verdict();
        let walks = || self.answer.walks.iter();
        let reached = |walk: &&Walk| walk.judgement.verdict() == verdict;
        let is_split = walks().filter(reached).any(|walk| self.differ(walk));
        if !is_split || verdict == Verdict::Deny {
            return String::new();
        }
        let addresses: BTreeSet<IpAddr> = walks()
            .filter(reached)
            .flat_map(|walk| walk.addresses.iter().copied())
            .collect();
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        format!(" at {} only", addresses.join(", "))
    }

    /// Returns the limits of the port, if they are those of every path on which it is reached.
    fn limited(&self) -> String {
        let walks = self.answer.walks.iter();
        let open = walks.filter(|walk| walk.judgement.verdict() == Verdict::Allow);
        let mut limits: Vec<Limits> = open.map(|walk| walk.limits(self.ruleset)).collect();
        limits.dedup();
        match limits[..] {
            [limits] => limits.clause(),
            _ => String::new(),
        }
    }

    pub(super) fn document(&self) -> Value {
        let Self {
            question, answer, ..
        } = self;
        json!({
            "schema": "dfw/explain/v3",
            "verdict": answer.verdict().name(),
            "from": question.from,
            "to": question.destination.to.to_string(),
            "problems": self.problems.json(),
            "exists": answer.exists,
            "services_not_judged": answer.services_not_judged,
            "paths": answer.walks.iter().map(|walk| self.walk(walk)).collect::<Vec<_>>(),
            "may_still_drop": later_json(self.open_hooks(), self.foreign_chains),
        })
    }

    fn walk(&self, walk: &Walk) -> Value {
        json!({
            "path": walk.path.kind.name(),
            "published_for": walk.path.title,
            "addresses": walk.addresses,
            "hook": walk.packet.hook.name(),
            "incoming": walk.packet.incoming,
            "verdict": walk.judgement.verdict().name(),
            "reason": walk.judgement.reason().map(|reason| reason.to_string()),
            "limits": json::limits(walk.limits(self.ruleset)),
            "steps": json::steps(&walk.trace.steps),
        })
    }
}
