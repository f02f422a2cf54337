//! `dfw explain`: shows whether a source can reach a port, and which rule decides; with one of both, everything that
//! a source reaches, or everyone who reaches a port.

mod from;
mod packet;
mod to;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::analysis::explain::{Destination, Place, Question, explain};
use crate::analysis::surroundings::Surroundings;
use crate::analysis::unfetched::doubt_walks;
use crate::cli::arguments::{BundleArgs, EngineArgs};
use crate::cli::load::load;
use crate::cli::report::engines;
use crate::cli::report::failure::Failure;
use crate::cli::report::problems::Problems;
use crate::host::HostView;
use crate::kernel::ForeignBaseChain;
use crate::kernel::{self, Kernel};
use crate::net::{HostPorts, Protocol};
use crate::nftables::object::{family_name, shares_hook};
use crate::output::terminal::Terminal;
use crate::policy::Mistake;
use crate::ruleset::{Hook, Ruleset};
use crate::site::{HostFacts, Sockets};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted::clean;

use packet::Explained;

// Arguments of `dfw explain`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("question").args(["from", "to"]).required(true).multiple(true)))]
pub(in crate::cli) struct ExplainArgs {
    /// The client's address; alone: all that it reaches
    #[arg(long, value_name = "ADDR")]
    from: Option<IpAddr>,
    /// The interface on which the packet arrives [default: any]
    #[arg(long, value_name = "IF")]
    via: Option<String>,
    /// The published port; alone: all that reach it
    ///
    /// `443`, `192.0.2.1:443` or `[2001:db8::1]:443`; append `/udp` or `/sctp` if it is not TCP.
    #[arg(long, value_name = "PORT", value_parser = port)]
    to: Option<HostPorts>,
    /// Evaluate this policy instead of the rules in force; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = crate::cli::arguments::DEFAULT_PATH)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    bundle: BundleArgs,
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
    if let (Some(from), Some(to)) = (args.from, args.to)
        && to.address.is_some_and(|to| to.is_ipv4() != from.is_ipv4())
    {
        let message = format!("{from} and {to} are of different families");
        return Err(Failure::plain(Diagnostic::error("family", message)));
    }
    let facts = Facts::read(terminal, args)?;
    let mut notices = facts
        .found
        .as_ref()
        .map(engines::unanswered)
        .unwrap_or_default();
    if let (Some(found), Some(via)) = (&facts.found, &args.via)
        && !facts.is_planned
        && !found.host.interfaces.contains_key(via)
    {
        notices.push(Diagnostic::warning(
            "no-interface",
            format!("this host has no interface `{}`", clean(via)),
        ));
    }
    terminal.diagnostics(&notices, &SourceMap::new());
    match (args.from, args.to) {
        (Some(from), Some(to)) => explain_packet(terminal, args, &facts, from, to)?,
        (Some(from), None) => from::run(terminal, &facts, from, args.via.as_ref())?,
        (None, Some(to)) => to::run(terminal, &facts, &facts.destination(to), args.via.as_ref())?,
        // The parser demands one of them.
        (None, None) => {}
    }
    if facts.is_complete() {
        Ok(())
    } else {
        Err(Failure::Incomplete)
    }
}

fn explain_packet(
    terminal: Terminal,
    args: &ExplainArgs,
    facts: &Facts,
    from: IpAddr,
    to: HostPorts,
) -> Result<(), Failure> {
    let question = Question {
        from,
        via: args.via.clone(),
        destination: facts.destination(to),
    };
    let around = facts.surroundings(Some(from));
    let ask = |ruleset: &Ruleset| explain(facts.host(), &around, ruleset, &question);
    let mut answer = ask(&facts.ruleset);
    if let Some(full) = &facts.full {
        doubt_walks(&mut answer.walks, &ask(full).walks);
    }
    let explained = Explained {
        question: &question,
        answer: &answer,
        problems: &facts.problems,
        foreign_chains: &facts.foreign_chains,
        ruleset: &facts.ruleset,
    };
    terminal.answer(|| explained.document(), || explained.text(terminal))?;
    Ok(())
}

/// What an answer is computed from.
struct Facts {
    /// The rules in force, or those of a policy.
    ruleset: Ruleset,
    /// Those of a policy with fetched sources of which nothing is known, as if each held all that it may; `None` without.
    full: Option<Ruleset>,
    /// Whether they are those of a policy, which may be for another host.
    is_planned: bool,
    problems: Problems,
    foreign_chains: Vec<ForeignBaseChain>,
    /// This host; `None` if it cannot be read.
    found: Option<HostFacts>,
    /// The host of which nothing is known.
    unknown: HostView,
}

impl Facts {
    fn read(terminal: Terminal, args: &ExplainArgs) -> Result<Self, Failure> {
        let Some(path) = &args.policy else {
            let kernel = Kernel::open()?;
            let snapshot = kernel.snapshot()?;
            let problems = Problems::of(snapshot.installed.as_ref());
            let in_force = snapshot.installed.filter(|_| !problems.dormant);
            return Ok(Self {
                full: None,
                ruleset: in_force.map_or_else(Ruleset::default, |table| table.ruleset),
                is_planned: false,
                problems,
                foreign_chains: snapshot.foreign_chains,
                found: Some(HostFacts::find(&args.engine.ask(), Sockets::All)?),
                unknown: HostView::default(),
            });
        };
        let loaded = load(terminal, &args.bundle.to_show(path)?)?;
        // Without root the host cannot be read; the policy is evaluated without it.
        let foreign_chains = Kernel::open()
            .and_then(|kernel| kernel.outline())
            .map_or_else(|_| Vec::new(), |snapshot| snapshot.foreign_chains);
        let found = HostFacts::find(&args.engine.ask(), Sockets::All).ok();
        let unknown = HostView::default();
        let host = found.as_ref().map_or(&unknown, |found| &found.host);
        Ok(Self {
            full: loaded.compile_full(host),
            ruleset: loaded.compile(host),
            is_planned: true,
            problems: Problems::default(),
            foreign_chains,
            found,
            unknown,
        })
    }

    fn host(&self) -> &HostView {
        self.found
            .as_ref()
            .map_or(&self.unknown, |found| &found.host)
    }

    /// Returns the surroundings, with the route back to a source.
    fn surroundings(&self, from: Option<IpAddr>) -> Surroundings {
        let Some(found) = &self.found else {
            return Surroundings::default();
        };
        Surroundings {
            answers_through: from
                .and_then(|from| way_back(found, from))
                .into_iter()
                .collect(),
            ..found.surroundings(&self.foreign_chains)
        }
    }

    fn destination(&self, to: HostPorts) -> Destination {
        let found = self.found.as_ref();
        Destination {
            to,
            place: found
                .and_then(|found| place(found, to.address?))
                .filter(|place| !self.is_planned || leads_to_containers(place, found)),
            host_known: found.is_some(),
        }
    }

    /// Returns whether the table in force is as dfw left it, and every engine was seen.
    fn is_complete(&self) -> bool {
        let unseen = self.found.as_ref().is_some_and(|found| {
            !found.unanswered.is_empty() || !found.host.traces_of_engines().is_empty()
        });
        self.problems.is_empty() && (!unseen || self.is_planned)
    }
}

/// Returns a line if no rules are in force.
fn not_in_force(ruleset: &Ruleset) -> &'static str {
    if ruleset.chains.is_empty() {
        "dfw's rules are not in force\n"
    } else {
        ""
    }
}

impl Destination {
    /// Returns what is assumed of a port to which no path leads at the moment.
    fn assumption(&self) -> &'static str {
        if self.host_known {
            "no engine publishes the port, and no socket listens; assuming that an engine published it:\n"
        } else {
            "this host could not be read; assuming that an engine publishes the port:\n"
        }
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

/// What is said where this host has no route to the address.
const UNREACHABLE: &str = "this host has no route to that address\n";
/// What is said of a source that is an address of this host.
const OWN: &str = "the source is this host; dfw does not filter its outgoing packets\n";

/// Returns other tables' base chains that can drop packets which dfw accepts at these hooks.
fn later(
    hooks: impl Iterator<Item = Hook>,
    foreign_chains: &[ForeignBaseChain],
) -> Vec<(&ForeignBaseChain, Hook)> {
    let hooks: Vec<Hook> = hooks.collect();
    let mut chains = Vec::new();
    for hook in [Hook::Forward, Hook::Input] {
        if hooks.contains(&hook) {
            let others = foreign_chains.iter().filter(|chain| {
                chain.kind == "filter" && shares_hook(chain.family, chain.hook, hook)
            });
            chains.extend(others.map(|chain| (chain, hook)));
        }
    }
    chains.sort_by_key(|(chain, _)| chain.priority);
    chains
}

/// Returns a line for each of them.
fn later_text(hooks: impl Iterator<Item = Hook>, foreign_chains: &[ForeignBaseChain]) -> String {
    let mut text = String::new();
    for (chain, hook) in later(hooks, foreign_chains) {
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

/// Returns them for programs.
fn later_json(hooks: impl Iterator<Item = Hook>, foreign_chains: &[ForeignBaseChain]) -> Value {
    let chains = later(hooks, foreign_chains).into_iter();
    let chains = chains.map(|(chain, hook)| {
        json!({
            "family": family_name(chain.family),
            "table": chain.table,
            "chain": chain.chain,
            "hook": hook.name(),
            "priority": chain.priority,
            "policy": if chain.accepts { "accept" } else { "drop" },
        })
    });
    chains.collect()
}
