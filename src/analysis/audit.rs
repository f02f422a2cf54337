//! The audit: who can reach published ports and sockets of this host, and which policy line allows it.
//!
//! It evaluates every [path](super::find) to a port for an address that is in no set of the ruleset, on each
//! interface. If that address is denied, the rules that dropped its packet name the sources that are allowed.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::compile::{self, List, SHARED_DENIED, entries, port_of_chain, shared_sets};
use crate::host::HostView;
use crate::host::engine;
use crate::net::ranges::Number;
use crate::net::{AddressSet, Family, HostPorts, Limits, Protocol, Ranges};
use crate::ruleset::{Address, End, Expression, Origin, Port, Ruleset};

use super::access::destinations;
use super::eval::{Element, Step, Trace};
use super::find::paths;
use super::judgement::{Judgement, Reason, Verdict, judge, limits_of, line_of};
use super::path::{Kind, Path, Reach, Target};
use super::surroundings::Surroundings;

/// The result of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every path to a port of a container, with the allowed sources.
    pub exposures: Vec<Exposure>,
    /// Every path to a service of the host, with the allowed sources.
    pub services: Vec<Exposure>,
    /// Ports in the rules that no container publishes and no socket has.
    pub unused: Vec<String>,
    /// Networks whose containers no rule of dfw can judge.
    pub unjudged: Vec<Unjudged>,
}

/// A path to a port, with the allowed sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The path.
    pub path: Path,
    /// The sources that are allowed on it.
    pub admits: Admits,
    /// The policy line that decides; `None` without a policy.
    pub origin: Option<Origin>,
    /// How many connections each of the allowed sources may make.
    pub limits: Limits,
}

/// The sources that a path allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admits {
    /// All sources.
    Any,
    /// These sources: names, or addresses.
    Some(Vec<String>),
    /// Nobody.
    Nobody,
    /// Unknown: dfw's rules do not decide.
    NotJudged(Reason),
}

/// A network whose packets do not pass dfw's hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// The name.
    pub network: String,
    /// The driver.
    pub driver: String,
    /// The running containers.
    pub containers: Vec<String>,
}

impl Report {
    /// Returns the paths that are open to everyone without a policy entry.
    pub fn uncovered(&self) -> impl Iterator<Item = &Exposure> {
        self.exposures
            .iter()
            .filter(|exposure| exposure.admits == Admits::Any && exposure.origin.is_none())
    }

    /// Returns whether some path to a container's port cannot be judged.
    #[must_use]
    pub fn has_unjudged(&self) -> bool {
        let is_unjudged = |exposure: &Exposure| exposure.verdict() == Verdict::NotJudged;
        !self.unjudged.is_empty() || self.exposures.iter().any(is_unjudged)
    }
}

impl Exposure {
    /// Returns the verdict on clients that no source lists.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.admits {
            Admits::Any => Verdict::Allow,
            Admits::Some(_) | Admits::Nobody => Verdict::Deny,
            Admits::NotJudged(_) => Verdict::NotJudged,
        }
    }
}

/// Audits a host. `ruleset` is dfw's table, if there is one in force.
#[must_use]
pub fn audit(host: &HostView, around: &Surroundings, ruleset: Option<&Ruleset>) -> Report {
    let nothing = Ruleset::default();
    let ruleset = ruleset.unwrap_or(&nothing);
    let mut all = exposures(all_paths(host, around, &[ruleset]), around, ruleset);
    drop_repetitions(&mut all, &paths(host, around));
    let unused = unused(host, ruleset, &all);
    let is_service = |exposure: &Exposure| exposure.path.kind == Kind::Service;
    let (services, exposures) = all.into_iter().partition(is_service);
    Report {
        exposures,
        services,
        unused,
        unjudged: unjudged(host),
    }
}

/// Returns all paths of a host; separate ones where rulesets distinguish ports.
pub(super) fn all_paths(
    host: &HostView,
    around: &Surroundings,
    rulesets: &[&Ruleset],
) -> Vec<Path> {
    let mut all = paths(host, around);
    for ruleset in rulesets {
        let more = named(&all, ruleset);
        all.extend(more);
    }
    all
}

fn exposures(paths: Vec<Path>, around: &Surroundings, ruleset: &Ruleset) -> Vec<Exposure> {
    // Without published ports there is no need to walk long lists.
    let strangers = LazyCell::new(|| strangers(ruleset));
    let told_apart = told_apart(ruleset);
    let expose_one = |path: Path| {
        let source = strangers[usize::from(path.family() == Family::V6)];
        let mut asked = path.asked(around);
        if let Some(told_apart) = &told_apart {
            // A host has an address for each network of an engine.
            let mut is_first = true;
            asked.retain(|address| {
                told_apart.contains(address)
                    || address.is_loopback()
                    || std::mem::take(&mut is_first)
            });
        }
        expose(ruleset, around, path, (source, &asked))
    };
    paths.into_iter().map(expose_one).collect()
}

/// Returns the destinations that rules tell apart, beside loopback addresses; `None` if they may be others.
fn told_apart(ruleset: &Ruleset) -> Option<BTreeSet<IpAddr>> {
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    let mut expressions = rules.flat_map(|rule| &rule.expressions);
    let asks_for_more = expressions.any(|expression| {
        matches!(
            expression,
            Expression::Address(Address::DestinationIn { .. })
                | Expression::Port(Port::AddressMap {
                    end: End::Destination,
                    ..
                })
        )
    });
    (!asks_for_more).then(|| destinations(&[ruleset]))
}

/// Removes ports of a container that have the same result as all its ports and no path of their own.
fn drop_repetitions(exposures: &mut Vec<Exposure>, own: &[Path]) {
    let to_all: Vec<Exposure> = exposures
        .iter()
        .filter(|exposure| exposure.path.port.is_none())
        .cloned()
        .collect();
    if to_all.is_empty() {
        return;
    }
    exposures.retain(|exposure| {
        let same = |all: &Exposure| {
            (all.path.kind, all.path.address) == (exposure.path.kind, exposure.path.address)
                && (&all.admits, &all.origin) == (&exposure.admits, &exposure.origin)
        };
        exposure.path.port.is_none() || own.contains(&exposure.path) || !to_all.iter().any(same)
    });
}

/// The most ports of a container that are reported one by one.
const NAMED: usize = 256;

/// Returns separate paths for the ports that keys name, if a path leads to all ports of a container.
fn named(paths: &[Path], ruleset: &Ruleset) -> Vec<Path> {
    let to_all: Vec<&Path> = paths.iter().filter(|path| path.port.is_none()).collect();
    if to_all.is_empty() {
        return Vec::new();
    }
    let keys: BTreeSet<HostPorts> = named_ports(ruleset);
    let mut named = Vec::new();
    for path in to_all {
        let about = keys
            .iter()
            .filter(|key| key.address.is_none_or(|address| address == path.address));
        let ports = about.flat_map(|key| (key.first..=key.last).map(|port| (key.protocol, port)));
        let ports: BTreeSet<(Protocol, u16)> = ports.take(NAMED).collect();
        let is_told = |(protocol, port): (Protocol, u16)| {
            paths.iter().any(|other| {
                (other.kind, other.address) == (path.kind, path.address)
                    && (other.protocol, other.port) == (protocol, Some(port))
            })
        };
        let target = path.target.clone();
        let own = ports.into_iter().filter(|port| !is_told(*port));
        named.extend(own.filter_map(|(protocol, port)| {
            let target = target.clone()?;
            Some(Path {
                protocol,
                port: Some(port),
                target: Some(Target { port, ..target }),
                ..path.clone()
            })
        }));
    }
    named
}

/// Returns the ports that rules name.
fn named_ports(ruleset: &Ruleset) -> BTreeSet<HostPorts> {
    let chains = ruleset.chains.keys();
    chains
        .filter_map(|chain| Some(port_of_chain(chain)?.1))
        .chain(compile::shared_ports(ruleset).map(|(key, _)| key))
        .collect()
}

/// The paths that open or close for unlisted clients between two rulesets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turned {
    /// Paths that close for unlisted clients.
    pub closed: Vec<Path>,
    /// Paths that open for unlisted clients.
    pub opened: Vec<Path>,
    /// All other paths.
    pub others: Vec<Path>,
}

/// Compares what unlisted clients reach before and after a change. An unlisted client is in no set of either
/// ruleset.
#[must_use]
pub fn turned(
    host: &HostView,
    around: &Surroundings,
    before: Option<&Ruleset>,
    after: &Ruleset,
) -> Turned {
    let nothing = Ruleset::default();
    let before = before.unwrap_or(&nothing);
    let paths = all_paths(host, around, &[before, after]);
    let before = exposures(paths.clone(), around, before);
    let after = exposures(paths, around, after);
    let mut turned = Turned::default();
    for (was, is) in before.into_iter().zip(after) {
        // A path that is not judged counts as open: dfw does not filter it.
        let is_open = |exposure: &Exposure| {
            matches!(
                exposure.admits,
                Admits::Any | Admits::NotJudged(Reason::Service)
            )
        };
        let list = match (is_open(&was), is_open(&is)) {
            (true, false) => &mut turned.closed,
            (false, true) => &mut turned.opened,
            _ => &mut turned.others,
        };
        list.push(is.path);
    }
    turned
}

fn expose(
    ruleset: &Ruleset,
    around: &Surroundings,
    path: Path,
    (source, asked): (IpAddr, &[IpAddr]),
) -> Exposure {
    let traces: Vec<(Judgement, Trace)> = path
        .packets_to(asked, source, around)
        .iter()
        .map(|packet| judge(ruleset, &path, packet))
        .collect();
    // The most permissive interface counts, then one that is not judged.
    let found = |wanted: Verdict| traces.iter().find(|(j, _)| j.verdict() == wanted);
    let worst = found(Verdict::Allow).or_else(|| found(Verdict::NotJudged));
    // On-link hosts can use link-local destinations, which a policy rarely lists.
    if worst.is_none() && path.address.is_unspecified() && path.target.is_none() {
        let link = around.link_addresses.iter().copied();
        let link = link.filter(|address| Family::of(*address) == path.family());
        let on_link = link.flat_map(|address| {
            let interfaces = around.interfaces.iter();
            interfaces.map(move |interface| (address, interface))
        });
        for (address, interface) in on_link {
            let packet = path.packet(source, interface, address);
            let (judgement, trace) = judge(ruleset, &path, &packet);
            if judgement.verdict() == Verdict::Allow {
                return Exposure {
                    admits: Admits::Any,
                    origin: line_of(&trace.steps),
                    limits: limits_of(ruleset, &trace.steps),
                    path: path.reached_by(Reach::OnLink),
                };
            }
        }
    }
    if let Some((judgement, trace)) = worst {
        return Exposure {
            path,
            admits: judgement.reason().map_or(Admits::Any, Admits::NotJudged),
            origin: line_of(&trace.steps),
            limits: limits_of(ruleset, &trace.steps),
        };
    }
    let mut who = BTreeSet::new();
    for (_, trace) in &traces {
        if let Some(step) = trace.steps.last() {
            who.extend(allowed(ruleset, step, &path));
        }
    }
    Exposure {
        origin: traces.first().and_then(|(_, trace)| line_of(&trace.steps)),
        limits: match traces.first() {
            Some((_, trace)) if !who.is_empty() => limits_of(ruleset, &trace.steps),
            _ => Limits::default(),
        },
        admits: if who.is_empty() {
            Admits::Nobody
        } else {
            Admits::Some(who.into_iter().collect())
        },
        path,
    }
}

/// The most inline addresses that are listed one by one.
const LISTED: usize = 3;

/// The text for a list whose addresses were not read.
const UNREAD: &str = "a long list";

/// Returns the sources that the chain of a step accepts, from the sets that it looks up.
fn allowed(ruleset: &Ruleset, step: &Step, path: &Path) -> Vec<String> {
    let family = AddressSet::all(path.family());
    if let Some(key) = shared_port(step, path) {
        return listed(&compile::shared_sources(ruleset, &key).intersection(&family));
    }
    let mut who = Vec::new();
    for list in compile::admitted(ruleset, &step.chain, path.family()) {
        match list {
            (List::Source(name), _) => who.push(name),
            // All grants have ended.
            (List::Granted(_), addresses) if addresses.is_empty() => {}
            // The compiler makes none that is empty.
            (_, addresses) if addresses.is_empty() => who.push(UNREAD.to_owned()),
            (_, addresses) => who.extend(listed(&addresses)),
        }
    }
    who
}

/// Returns the port that a step denied, if it shares a chain with other ports.
fn shared_port(step: &Step, path: &Path) -> Option<HostPorts> {
    let hit = step.hits.iter().find(|hit| hit.set == SHARED_DENIED)?;
    match hit.element {
        Element::Ports(port, _) => Some(HostPorts::one(None, path.protocol, port)),
        Element::Interface(_) | Element::Addresses(..) | Element::PortAddresses(..) => None,
    }
}

/// Returns the addresses, or only their number if they are many.
fn listed(addresses: &AddressSet) -> Vec<String> {
    match addresses.len() {
        0..=LISTED => addresses.iter().map(|entry| entry.to_string()).collect(),
        many => vec![format!("{many} addresses")],
    }
}

/// Returns an address of each family that is in no set of the ruleset.
fn strangers(ruleset: &Ruleset) -> [IpAddr; 2] {
    let lists = ruleset.sets.values().flat_map(|set| entries(&set.elements));
    let shared = shared_sets(ruleset);
    let shared = shared.flat_map(|(set, elements)| set.networks(elements, None));
    let free = lists.chain(shared).collect::<AddressSet>().complement();
    // From somewhere among the addresses that are in use, upwards; if the policy lists all of them, any
    // address will do.
    let v4 = first_free(free.v4(), Ipv4Addr::new(11, 0, 0, 1).into());
    let v6 = first_free(free.v6(), Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1).into());
    [
        IpAddr::V4(v4.unwrap_or(u32::MAX).into()),
        IpAddr::V6(v6.unwrap_or(u128::MAX).into()),
    ]
}

/// Returns the first of these addresses, starting at one of them.
fn first_free<T: Number>(free: &Ranges<T>, from: T) -> Option<T> {
    let (first, _) = free.since(from).next()?;
    Some(from.max(first))
}

/// Returns the ports in the rules that no engine publishes, no socket has and no path leads to.
fn unused(host: &HostView, ruleset: &Ruleset, exposures: &[Exposure]) -> Vec<String> {
    let mut served: BTreeMap<(Protocol, u16), Vec<Option<IpAddr>>> = BTreeMap::new();
    let mut serve = |protocol: Protocol, port: u16, address: Option<IpAddr>| {
        let address = address.filter(|address| !address.is_unspecified());
        served.entry((protocol, port)).or_default().push(address);
    };
    for publication in host.publications() {
        let port = publication.published.port();
        serve(port.protocol, port.first, port.address);
    }
    for listener in &host.listeners {
        serve(listener.protocol, listener.port, Some(listener.address));
    }
    let paths = exposures.iter().map(|exposure| &exposure.path);
    for path in paths.filter(|path| path.kind != Kind::Container) {
        if let Some(port) = path.port {
            serve(path.protocol, port, Some(path.address));
        }
    }
    let is_served = |named: &HostPorts| {
        let ports = (named.protocol, named.first)..=(named.protocol, named.last);
        served.range(ports).any(|(_, addresses)| {
            addresses.iter().any(|address| {
                named.address.is_none() || address.is_none() || named.address == *address
            })
        })
    };
    named_ports(ruleset)
        .iter()
        .filter(|key| !is_served(key))
        .map(ToString::to_string)
        .collect()
}

fn unjudged(host: &HostView) -> Vec<Unjudged> {
    let networks = host.engines.iter().flat_map(|engine| {
        let past =
            |network: &&engine::Network| matches!(network.driver.as_str(), "macvlan" | "ipvlan");
        engine
            .networks
            .iter()
            .filter(past)
            .map(move |network| Unjudged {
                network: network.name.clone(),
                driver: network.driver.clone(),
                containers: engine
                    .containers
                    .iter()
                    .filter(|container| container.running)
                    .filter(|c| c.endpoints.iter().any(|e| e.network == network.name))
                    .map(engine::Container::title)
                    .collect(),
            })
    });
    networks
        .filter(|network| !network.containers.is_empty())
        .collect()
}
