//! Everyone who reaches a port.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::analysis::access::Access;
use crate::analysis::explain::Destination;
use crate::analysis::explain::to::{Block, Clients, Entrance, clients};
use crate::analysis::judgement::Verdict;
use crate::analysis::unfetched::doubt_clients;
use crate::cli::report::addresses::{addresses_json, ranges, size};
use crate::cli::report::failure::Failure;
use crate::output::json::{self, family};
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::{Hook, Ruleset};

use super::{Facts, UNREACHABLE, later_json, later_text, not_in_force};

/// How many interfaces of a block are named before only their number is shown.
const LISTED: usize = 4;

pub(super) fn run(
    terminal: Terminal,
    facts: &Facts,
    destination: &Destination,
    via: Option<&String>,
) -> Result<(), Failure> {
    let around = facts.surroundings(None);
    let ask = |ruleset: &Ruleset| clients(facts.host(), &around, ruleset, destination, via);
    let mut answer = ask(&facts.ruleset);
    if let Some(full) = &facts.full {
        doubt_clients(&mut answer, &ask(full));
    }
    let view = View {
        facts,
        destination,
        answer: &answer,
    };
    terminal.answer(|| view.document(), || view.text(terminal))?;
    Ok(())
}

struct View<'a> {
    facts: &'a Facts,
    destination: &'a Destination,
    answer: &'a Clients,
}

impl View<'_> {
    fn text(&self, terminal: Terminal) -> String {
        let answer = self.answer;
        let mut text = self.facts.problems.text(terminal);
        let _ = writeln!(text, "port {}, by source address:", self.destination.to);
        text.push_str(not_in_force(&self.facts.ruleset));
        if answer.nothing.is_some() {
            text.push_str(UNREACHABLE);
        } else if !answer.exists() {
            text.push_str(self.destination.assumption());
        }
        if answer
            .blocks
            .iter()
            .any(|block| block.through_some_entrances)
        {
            text.push_str("the verdict depends on the interface that packets come in through\n");
        }
        for block in &answer.blocks {
            let _ = writeln!(text, "{}:", heading(block, answer.exists()));
            let rows = block
                .accesses
                .iter()
                .map(|access| row(terminal, &self.facts.ruleset, block, access));
            let head = ["VERDICT", "ADDRESSES", "SOURCES", "BY"].map(str::to_owned);
            let rows: Vec<_> = [head].into_iter().chain(rows).collect();
            text.push_str(&terminal.table(&rows));
        }
        if answer.services_not_judged {
            text.push_str(
                "a service of the host on this port would not be filtered: it has no policy entry\n",
            );
        }
        text.push_str(&later_text(self.open_hooks(), &self.facts.foreign_chains));
        text
    }

    fn open_hooks(&self) -> impl Iterator<Item = Hook> {
        let is_open = |access: &Access| access.verdict() != Verdict::Deny;
        let blocks = self.answer.blocks.iter();
        let open = blocks.filter(move |block| block.accesses.iter().any(is_open));
        open.flat_map(|block| block.paths.iter().map(crate::analysis::path::Path::hook))
    }

    fn document(&self) -> Value {
        let answer = self.answer;
        json!({
            "schema": "dfw/explain-to/v1",
            "to": self.destination.to.to_string(),
            "problems": self.facts.problems.json(),
            "exists": answer.exists(),
            "reachable": answer.nothing.is_none(),
            "services_not_judged": answer.services_not_judged,
            "blocks": answer.blocks.iter().map(|block| block_json(&self.facts.ruleset, block)).collect::<Vec<_>>(),
            "may_still_drop": later_json(self.open_hooks(), &self.facts.foreign_chains),
        })
    }
}

/// Returns the paths of a block, the addresses of the host and the interfaces, where those make a difference.
fn heading(block: &Block, others_exist: bool) -> String {
    let mut paths: Vec<String> = Vec::new();
    for path in &block.paths {
        let mut text = path.kind_text();
        if !path.title.is_empty() {
            let _ = write!(text, " to {}", path.title);
        }
        if !paths.contains(&text) {
            paths.push(text);
        }
    }
    let mut text = paths.join("; ");
    if block.at_some_addresses {
        let addresses: Vec<_> = block.addresses.iter().map(ToString::to_string).collect();
        let _ = write!(text, " at {}", addresses.join(", "));
    }
    if block.through_some_entrances {
        let _ = write!(text, ", {}", through(&block.entrances));
    }
    if others_exist && !block.exists {
        text.push_str(", if it was published");
    }
    text
}

/// Returns the interfaces of a block: `through eth0, wg0`, `from containers`.
fn through(entrances: &[Entrance]) -> String {
    if entrances.iter().all(|entrance| entrance.containers) {
        return "from containers".to_owned();
    }
    let normal = entrances.iter().filter(|entrance| !entrance.strays);
    let normal: BTreeSet<&str> = normal.map(|entrance| entrance.title.as_str()).collect();
    let names = entrances.iter().filter_map(|entrance| {
        let has_both = entrance.strays && normal.contains(entrance.title.as_str());
        let stray = if entrance.strays {
            " without a reverse path"
        } else {
            ""
        };
        (!has_both).then(|| format!("{}{stray}", entrance.title))
    });
    let names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(LISTED);
    let listed: Vec<String> = names.into_iter().take(LISTED).collect();
    let mut text = format!("through {}", listed.join(", "));
    if more > 0 {
        let _ = write!(text, " and {}", count(more, "more", "more"));
    }
    text
}

fn row(terminal: Terminal, ruleset: &Ruleset, block: &Block, access: &Access) -> [String; 4] {
    let verdict = access.verdict();
    let tone = match verdict {
        Verdict::Allow => Tone::Good,
        Verdict::Deny => Tone::Bad,
        Verdict::NotJudged => Tone::Warning,
    };
    let reason = access.judgement.reason().map(|reason| reason.to_string());
    [
        terminal.paint(tone, &verdict.to_string()),
        size(&access.sources, block.family()),
        ranges(&access.sources, block.family()),
        reason.unwrap_or_else(|| access.reason() + &access.limits(ruleset).clause()),
    ]
}

fn block_json(ruleset: &Ruleset, block: &Block) -> Value {
    let access = |access: &Access| {
        json!({
            "verdict": access.verdict().name(),
            "reason": access.judgement.reason().map(|reason| reason.to_string()),
            "origin": access.line().map(|line| line.to_string()),
            "by": access.reason(),
            "limits": json::limits(access.limits(ruleset)),
            "sources": addresses_json(&access.sources),
        })
    };
    let path = |path: &crate::analysis::path::Path| json!({"path": path.kind.name(), "published_for": path.title, "address": path.address});
    let entrance = |entrance: &Entrance| {
        json!({
            "interface": entrance.title,
            "containers": entrance.containers,
            "reverse_path": !entrance.strays,
        })
    };
    json!({
        "family": family(block.family()),
        "exists": block.exists,
        "paths": block.paths.iter().map(path).collect::<Vec<_>>(),
        "addresses": block.addresses,
        "interfaces": block.entrances.iter().map(entrance).collect::<Vec<_>>(),
        "accesses": block.accesses.iter().map(access).collect::<Vec<_>>(),
    })
}
