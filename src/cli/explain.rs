//! `dfw explain`: would this source reach that port, and why?

use crate::net::HostPorts;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::analysis::eval::Decision;
use crate::analysis::explain::{Answer, AtDoor, Question, explain};
use crate::analysis::path::Way;
use crate::diagnostic::Diagnostic;
use crate::kernel::Kernel;
use crate::netlink::object::{family_name, shares_hook};
use crate::netlink::snapshot::Neighbour;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::policy::Mistake;
use crate::ruleset::{Hook, Ruleset};
use crate::site::{Site, Sockets};

use super::audit::{door, door_name};
use super::failure::Failure;
use super::host::EngineArgs;
use super::load::load;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// Who would ask
    #[arg(long, value_name = "ADDR")]
    from: IpAddr,
    /// The interface that the packet comes in through; any if not given
    #[arg(long, value_name = "IF")]
    via: Option<String>,
    /// The port of this host, as the client names it
    ///
    /// `443`, `192.0.2.1:443` or `[2001:db8::1]:443`; if it is not TCP, with `/udp` or `/sctp`.
    #[arg(long, value_name = "PORT", value_parser = port)]
    to: HostPorts,
    /// By this policy instead of the rules in force; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = super::DEFAULT_PATH)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// One port on the command line.
pub(super) fn port(text: &str) -> Result<HostPorts, String> {
    let key: HostPorts = text
        .parse()
        .map_err(|mistake: Mistake| mistake.to_string())?;
    if key.first == key.last {
        Ok(key)
    } else {
        Err("ask about one port at a time".to_owned())
    }
}

pub(super) fn run(terminal: Terminal, args: &ExplainArgs) -> Result<(), Failure> {
    if args
        .to
        .address
        .is_some_and(|to| to.is_ipv4() != args.from.is_ipv4())
    {
        let message = format!("{} and {} are of different families", args.from, args.to);
        return Err(Failure::plain(Diagnostic::error("family", message)));
    }
    let loaded = args
        .policy
        .as_ref()
        .map(|path| load(terminal, path))
        .transpose()?;
    let (ruleset, neighbours, found);
    if let Some(loaded) = &loaded {
        // Without root there is no telling what else is on this host; the policy is what is asked.
        neighbours = Kernel::open()
            .and_then(|kernel| kernel.outline())
            .map_or_else(|_| Vec::new(), |snapshot| snapshot.neighbours);
        found = Site::find(&args.engine.ask(), Sockets::All).ok();
        let host = found
            .as_ref()
            .map(|found| found.host.clone())
            .unwrap_or_default();
        ruleset = loaded.compile(&host);
    } else {
        let snapshot = Kernel::open()?.snapshot()?;
        neighbours = snapshot.neighbours;
        ruleset = snapshot
            .installed
            .map_or_else(Ruleset::default, |table| table.ruleset);
        found = Some(Site::find(&args.engine.ask(), Sockets::All)?);
    }
    let question = Question {
        from: args.from,
        via: args.via.clone(),
        to: args.to,
    };
    let around = found
        .as_ref()
        .map(|found| found.surroundings(&neighbours))
        .unwrap_or_default();
    let host = found.map(|found| found.host).unwrap_or_default();
    let answer = explain(&host, &around, &ruleset, &question);
    terminal.answer(
        || document(&question, &answer, &neighbours),
        || text(terminal, &question, &answer, &neighbours, &ruleset),
    )?;
    Ok(())
}

fn text(
    terminal: Terminal,
    question: &Question,
    answer: &Answer,
    neighbours: &[Neighbour],
    ruleset: &Ruleset,
) -> String {
    let mut text = format!(
        "{}: {} {} port {}\n",
        if answer.is_allowed() {
            terminal.paint(Tone::Good, "allow")
        } else {
            terminal.paint(Tone::Bad, "deny")
        },
        question.from,
        if answer.is_allowed() {
            "reaches"
        } else {
            "does not reach"
        },
        question.to,
    );
    if ruleset.chains.is_empty() {
        text.push_str("no rules of dfw are in force\n");
    }
    if !answer.published {
        text.push_str("no engine publishes the port now; if one did:\n");
    }
    for at in &answer.doors {
        let word = match at.trace.decision {
            Decision::Accept => "let through",
            Decision::Drop => "dropped",
            Decision::Reject => "refused, and told so",
        };
        let title = &at.way.title;
        let to = if title.is_empty() {
            String::new()
        } else {
            format!(" to {title}")
        };
        let _ = writeln!(text, "  {}{to}: {word}", door(&at.way));
        for step in &at.trace.steps {
            let step = step.describe(ruleset).replace('\n', "\n    ");
            let _ = writeln!(text, "    {step}");
        }
        if at.trace.steps.is_empty() {
            text.push_str("    no rule of dfw has anything to say\n");
        }
    }
    for (chain, hook) in later(answer, neighbours) {
        let _ = writeln!(
            text,
            "may still be refused: table {} {}, chain {} on {}, priority {}{}",
            family_name(chain.family),
            chain.table,
            chain.chain,
            hook.name(),
            chain.priority,
            if chain.accepts {
                ""
            } else {
                ", drops by default"
            },
        );
    }
    text
}

/// Base chains of others on the hooks of the doors that are open, and before them: what dfw lets
/// through may still be refused there.
fn later<'a>(answer: &Answer, neighbours: &'a [Neighbour]) -> Vec<(&'a Neighbour, Hook)> {
    let mut chains = Vec::new();
    for hook in [Hook::Forward, Hook::Input] {
        let mut open = answer.doors.iter().filter(|at| at.is_open());
        if open.any(|at| at.packet.hook == hook) {
            let others = neighbours.iter().filter(|chain| {
                chain.kind == "filter" && shares_hook(chain.family, chain.hook, hook)
            });
            chains.extend(others.map(|chain| (chain, hook)));
        }
    }
    chains.sort_by_key(|(chain, _)| chain.priority);
    chains
}

fn document(question: &Question, answer: &Answer, neighbours: &[Neighbour]) -> Value {
    json!({
        "schema": "dfw/explain/v1",
        "verdict": if answer.is_allowed() { "allow" } else { "deny" },
        "from": question.from,
        "to": question.to.to_string(),
        "published": answer.published,
        "doors": answer.doors.iter().map(at_door).collect::<Vec<_>>(),
        "may_still_refuse": later(answer, neighbours)
            .iter()
            .map(|(chain, hook)| json!({
                "family": family_name(chain.family),
                "table": chain.table,
                "chain": chain.chain,
                "hook": hook.name(),
                "priority": chain.priority,
                "policy": if chain.accepts { "accept" } else { "drop" },
            }))
            .collect::<Vec<_>>(),
    })
}

fn at_door(at: &AtDoor) -> Value {
    let AtDoor { way, packet, trace } = at;
    let Way { title, .. } = way;
    json!({
        "door": door_name(way.door),
        "published_for": title,
        "hook": packet.hook.name(),
        "incoming": packet.incoming,
        "verdict": if at.is_open() { "allow" } else { "deny" },
        "steps": json::steps(&trace.steps),
    })
}
