//! Everything that one source reaches on this host.

use std::fmt::Write;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::analysis::explain::Walk;
use crate::analysis::explain::from::{Reachable, reachable};
use crate::analysis::judgement::{Verdict, line_of, reason_of};
use crate::analysis::unfetched::doubt_walks;
use crate::cli::report::failure::Failure;
use crate::output::json::{self, family};
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Hook, Ruleset};
use crate::text::diagnostic::Diagnostic;

use super::{Facts, OWN, later_json, later_text, not_in_force};

pub(super) fn run(
    terminal: Terminal,
    facts: &Facts,
    from: IpAddr,
    via: Option<&String>,
) -> Result<(), Failure> {
    if facts.found.is_none() {
        let error = Diagnostic::error("host", "this host cannot be read")
            .help("run dfw as root, or name a port with `--to`");
        return Err(Failure::plain(error));
    }
    let around = facts.surroundings(Some(from));
    let ask = |ruleset: &Ruleset| reachable(facts.host(), &around, ruleset, from, via);
    let mut answer = ask(&facts.ruleset);
    if let Some(full) = &facts.full {
        doubt_walks(&mut answer.walks, &ask(full).walks);
    }
    let view = View {
        facts,
        from,
        answer: &answer,
    };
    terminal.answer(|| view.document(), || view.text(terminal))?;
    Ok(())
}

struct View<'a> {
    facts: &'a Facts,
    from: IpAddr,
    answer: &'a Reachable,
}

impl View<'_> {
    fn text(&self, terminal: Terminal) -> String {
        let mut text = self.facts.problems.text(terminal);
        let paths = |verdict| count(self.answer.count(verdict), "path", "paths");
        let _ = writeln!(
            text,
            "{} reaches {} on this host; denied on {}; not judged on {}",
            self.from,
            paths(Verdict::Allow),
            paths(Verdict::Deny),
            paths(Verdict::NotJudged),
        );
        text.push_str(not_in_force(&self.facts.ruleset));
        if self.answer.nothing.is_some() {
            text.push_str(OWN);
        }
        if !self.answer.walks.is_empty() {
            text.push_str(&terminal.table(&self.rows(terminal)));
        }
        text.push_str(&later_text(self.open_hooks(), &self.facts.foreign_chains));
        text
    }

    /// Returns the rows of the table, heading first. Paths to the same port with the same verdict are one row.
    fn rows(&self, terminal: Terminal) -> Vec<[String; 5]> {
        let mut rows = vec![["PORT", "VERDICT", "CONTAINER", "PATH", "BY"].map(str::to_owned)];
        for walk in &self.answer.walks {
            let [port, verdict, title, path, by] = self.row(terminal, walk);
            match rows.last_mut() {
                Some([p, v, t, paths, b])
                    if (&*p, &*v, &*t, &*b) == (&port, &verdict, &title, &by) =>
                {
                    paths.push_str("; ");
                    paths.push_str(&path);
                }
                _ => rows.push([port, verdict, title, path, by]),
            }
        }
        rows
    }

    fn row(&self, terminal: Terminal, walk: &Walk) -> [String; 5] {
        let verdict = walk.judgement.verdict();
        let tone = match verdict {
            Verdict::Allow => Tone::Good,
            Verdict::Deny => Tone::Bad,
            Verdict::NotJudged => Tone::Warning,
        };
        let mut port = walk.path.port_text();
        let mut others = self.answer.walks.iter();
        if others.any(|other| other.path == walk.path && other.addresses != walk.addresses) {
            let addresses: Vec<_> = walk.addresses.iter().map(ToString::to_string).collect();
            let _ = write!(port, " at {}", addresses.join(", "));
        }
        let reason = walk.judgement.reason().map(|reason| reason.to_string());
        [
            port,
            terminal.paint(tone, &verdict.to_string()),
            walk.path.title.clone(),
            format!("{}{}", walk.path.kind_text(), walk.path.reach.title()),
            reason.unwrap_or_else(|| {
                reason_of(&walk.trace.steps) + &walk.limits(&self.facts.ruleset).clause()
            }),
        ]
    }

    fn open_hooks(&self) -> impl Iterator<Item = Hook> {
        let walks = self.answer.walks.iter();
        let open = walks.filter(|walk| walk.judgement.verdict() != Verdict::Deny);
        open.map(|walk| walk.packet.hook)
    }

    fn document(&self) -> Value {
        let of_host = |walk: &Walk| {
            json!({
                "address": walk.path.address,
                "port": walk.path.port,
                "protocol": walk.path.protocol.name(),
                "published_for": walk.path.title,
                "path": walk.path.kind.name(),
                "family": family(walk.path.family()),
                "reach": walk.path.reach.name(),
                "addresses": walk.addresses,
                "incoming": walk.packet.incoming,
                "verdict": walk.judgement.verdict().name(),
                "reason": walk.judgement.reason().map(|reason| reason.to_string()),
                "origin": line_of(&walk.trace.steps).map(|line| line.to_string()),
                "by": reason_of(&walk.trace.steps),
                "limits": json::limits(walk.limits(&self.facts.ruleset)),
            })
        };
        json!({
            "schema": "dfw/explain-from/v1",
            "from": self.from,
            "own": self.answer.nothing.is_some(),
            "problems": self.facts.problems.json(),
            "paths": self.answer.walks.iter().map(of_host).collect::<Vec<_>>(),
            "may_still_drop": later_json(self.open_hooks(), &self.facts.foreign_chains),
        })
    }
}
