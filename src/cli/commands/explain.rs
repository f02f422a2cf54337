//! `dfw explain`: shows whether a source can reach a port, and which rule decides.

use crate::net::{HostPorts, Protocol};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::analysis::explain::{Answer, Nothing, Place, Question, Walk, explain};
use crate::analysis::judgement::Verdict;
use crate::analysis::surroundings::Surroundings;
use crate::cli::arguments::EngineArgs;
use crate::cli::load::load;
use crate::cli::report::engines;
use crate::cli::report::failure::Failure;
use crate::cli::report::problems::Problems;
use crate::kernel::ForeignBaseChain;
use crate::kernel::{self, Kernel};
use crate::nftables::object::{family_name, shares_hook};
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::policy::Mistake;
use crate::ruleset::{Hook, Ruleset};
use crate::site::{HostFacts, Sockets};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::clean;

/// Arguments of `dfw explain`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The client's address
    #[arg(long, value_name = "ADDR")]
    from: IpAddr,
    /// The interface on which the packet arrives [default: any]
    #[arg(long, value_name = "IF")]
    via: Option<String>,
    /// The published port
    ///
    /// `443`, `192.0.2.1:443` or `[2001:db8::1]:443`; append `/udp` or `/sctp` if it is not TCP.
    #[arg(long, value_name = "PORT", value_parser = port)]
    to: HostPorts,
    /// Evaluate this policy instead of the rules in force; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = crate::cli::arguments::DEFAULT_PATH)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Parses a single port on the command line.
pub(in crate::cli) fn port(text: &str) -> Result<HostPorts, String> {
    // Policies have no keys for these addresses, but packets can have them as destination.
    let (place, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if let (Ok(socket), Some(protocol)) = (place.parse::<SocketAddr>(), Protocol::by_name(protocol))
        && socket.ip().is_loopback()
        && socket.port() != 0
    {
        return Ok(HostPorts::one(Some(socket.ip()), protocol, socket.port()));
    }
    let key: HostPorts = text
        .parse()
        .map_err(|mistake: Mistake| mistake.to_string())?;
    if key.first == key.last {
        Ok(key)
    } else {
        Err("expected a single port".to_owned())
    }
}

pub(in crate::cli) fn run(terminal: Terminal, args: &ExplainArgs) -> Result<(), Failure> {
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
    let mut problems = Problems::default();
    let (ruleset, foreign_chains, found);
    if let Some(loaded) = &loaded {
        // Without root the host cannot be read; the policy is evaluated without it.
        foreign_chains = Kernel::open()
            .and_then(|kernel| kernel.outline())
            .map_or_else(|_| Vec::new(), |snapshot| snapshot.foreign_chains);
        found = HostFacts::find(&args.engine.ask(), Sockets::All).ok();
        let host = found
            .as_ref()
            .map(|found| found.host.clone())
            .unwrap_or_default();
        ruleset = loaded.compile(&host);
    } else {
        let kernel = Kernel::open()?;
        let snapshot = kernel.snapshot()?;
        problems = Problems::of(snapshot.installed.as_ref());
        foreign_chains = snapshot.foreign_chains;
        ruleset = snapshot
            .installed
            .filter(|_| !problems.dormant)
            .map_or_else(Ruleset::default, |table| table.ruleset);
        found = Some(HostFacts::find(&args.engine.ask(), Sockets::All)?);
    }
    let question = Question {
        from: args.from,
        via: args.via.clone(),
        to: args.to,
        place: found
            .as_ref()
            .and_then(|found| place(found, args.to.address?))
            .filter(|place| loaded.is_none() || leads_to_containers(place, found.as_ref())),
        host_known: found.is_some(),
    };
    let unseen = found.as_ref().is_some_and(|found| {
        !found.unanswered.is_empty() || !found.host.traces_of_engines().is_empty()
    });
    let mut notices = found.as_ref().map(engines::unanswered).unwrap_or_default();
    let is_there = |found: &HostFacts, via: &String| found.host.interfaces.contains_key(via);
    if let (Some(found), Some(via)) = (&found, &args.via)
        && loaded.is_none()
        && !is_there(found, via)
    {
        notices.push(Diagnostic::warning(
            "no-interface",
            format!("this host has no interface `{}`", clean(via)),
        ));
    }
    terminal.diagnostics(&notices, &SourceMap::new());
    let around = found
        .as_ref()
        .map(|found| Surroundings {
            answers_through: way_back(found, args.from).into_iter().collect(),
            ..found.surroundings(&foreign_chains)
        })
        .unwrap_or_default();
    let host = found.map(|found| found.host).unwrap_or_default();
    let answer = explain(&host, &around, &ruleset, &question);
    let explained = Explained {
        question: &question,
        answer: &answer,
        problems: &problems,
        foreign_chains: &foreign_chains,
    };
    terminal.answer(
        || explained.document(),
        || explained.text(terminal, &ruleset),
    )?;
    if problems.is_empty() && (!unseen || loaded.is_some()) {
        Ok(())
    } else {
        Err(Failure::Incomplete)
    }
}

/// Returns the interface of the route to an address; `None` if it cannot be read.
fn way_back(found: &HostFacts, from: IpAddr) -> Option<(IpAddr, Option<String>)> {
    let route = kernel::route_to(from).ok()?;
    let index = route.and_then(|route| route.interface);
    let link = found.links.iter().find(|link| Some(link.index) == index);
    Some((from, link.map(|link| link.name.clone())))
}

/// Returns the route to an address; `None` if it is not known.
fn place(found: &HostFacts, to: IpAddr) -> Option<Place> {
    let Some(route) = kernel::route_to(to).ok()? else {
        return Some(Place::Nowhere);
    };
    if route.local {
        return Some(Place::Host);
    }
    if route.interface.is_none() {
        return Some(Place::Nowhere);
    }
    let link = found
        .links
        .iter()
        .find(|link| Some(link.index) == route.interface)?;
    Some(Place::Through {
        interface: link.name.clone(),
        has_gateway: route.has_gateway,
    })
}

/// Returns whether packets are forwarded to containers or delivered locally. A policy can be evaluated for
/// another host, whose addresses are not known here.
fn leads_to_containers(place: &Place, found: Option<&HostFacts>) -> bool {
    match (place, found) {
        (Place::Through { interface, .. }, Some(found)) => {
            found.host.container_bridges.contains(interface)
        }
        (Place::Host, _) => true,
        (Place::Through { .. } | Place::Nowhere, _) => false,
    }
}

/// An answer with the data it was computed from.
struct Explained<'a> {
    question: &'a Question,
    answer: &'a Answer,
    problems: &'a Problems,
    foreign_chains: &'a [ForeignBaseChain],
}

impl Explained<'_> {
    fn text(&self, terminal: Terminal, ruleset: &Ruleset) -> String {
        let Self {
            question, answer, ..
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
            "{}: {} {reaches} port {}{}",
            terminal.paint(tone, &verdict),
            question.from,
            question.to,
            self.at_some(),
        );
        if ruleset.chains.is_empty() {
            text.push_str("dfw's rules are not in force\n");
        }
        match answer.nothing {
            Some(Nothing::Unreachable) => {
                text.push_str("this host has no route to that address\n");
            }
            Some(Nothing::Own) => {
                text.push_str("the source is this host; dfw does not filter its outgoing packets\n");
            }
            None if answer.exists => {}
            None if !question.host_known => text.push_str(
                "this host could not be read; assuming that an engine publishes the port:\n",
            ),
            None => text.push_str(
                "no engine publishes the port, and no socket listens; assuming that an engine published it:\n",
            ),
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
                "  {}{to}{at}: {}",
                walk.path.kind_text(),
                walk.judgement
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
        for (chain, hook) in later(answer, self.foreign_chains) {
            let _ = writeln!(
                text,
                "may still be dropped: table {} {}, chain {} on {}, priority {}{}",
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

    fn document(&self) -> Value {
        let Self {
            question, answer, ..
        } = self;
        json!({
            "schema": "dfw/explain/v3",
            "verdict": answer.verdict().name(),
            "from": question.from,
            "to": question.to.to_string(),
            "problems": self.problems.json(),
            "exists": answer.exists,
            "services_not_judged": answer.services_not_judged,
            "paths": answer.walks.iter().map(walk).collect::<Vec<_>>(),
            "may_still_drop": later(answer, self.foreign_chains)
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
}

/// Returns other tables' base chains that can drop packets which dfw accepts on the open paths.
fn later<'a>(
    answer: &Answer,
    foreign_chains: &'a [ForeignBaseChain],
) -> Vec<(&'a ForeignBaseChain, Hook)> {
    let mut chains = Vec::new();
    for hook in [Hook::Forward, Hook::Input] {
        let walks = answer.walks.iter();
        let mut open = walks.filter(|walk| walk.judgement.verdict() != Verdict::Deny);
        if open.any(|walk| walk.packet.hook == hook) {
            let others = foreign_chains.iter().filter(|chain| {
                chain.kind == "filter" && shares_hook(chain.family, chain.hook, hook)
            });
            chains.extend(others.map(|chain| (chain, hook)));
        }
    }
    chains.sort_by_key(|(chain, _)| chain.priority);
    chains
}

fn walk(walk: &Walk) -> Value {
    json!({
        "path": walk.path.kind.name(),
        "published_for": walk.path.title,
        "addresses": walk.addresses,
        "hook": walk.packet.hook.name(),
        "incoming": walk.packet.incoming,
        "verdict": walk.judgement.verdict().name(),
        "reason": walk.judgement.reason().map(|reason| reason.to_string()),
        "steps": json::steps(&walk.trace.steps),
    })
}
