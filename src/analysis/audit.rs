//! The audit: who can reach what containers publish, with the rules that are in force, and by
//! which line of the policy.
//!
//! Every [way](crate::analysis::path) to a published port is walked by a stranger: an address that is in no
//! list of the ruleset, through each interface. Where the stranger is refused, the rules that
//! refused him tell who would not have been.

use crate::net::{AddressSet, Family, HostPorts, Protocol};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::analysis::eval::{Decision, Element, Step, Trace, evaluate};
use crate::analysis::path::{Surroundings, Way, ways};
use crate::compile::{
    SHARED_REFUSED, allows, entries, port_of_chain, shared_ports, shared_sets, shared_sources,
};
use crate::host::HostView;
use crate::ruleset::{Expression, Origin, Ruleset};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every way to a published port, and who may take it.
    pub exposures: Vec<Exposure>,
    /// Ports that the rules name, and nobody publishes or listens at.
    pub unused: Vec<String>,
    /// Networks whose containers no rule of dfw can judge.
    pub unjudged: Vec<Unjudged>,
}

/// A way to a published port, and who may take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// The way.
    pub way: Way,
    /// Who of those who get there is let through.
    pub admits: Admits,
    /// The line of the policy that says so; `None` if no policy does.
    pub origin: Option<Origin>,
}

/// Who is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admits {
    /// Everybody.
    Any,
    /// Those on these lists: names of sources, or addresses.
    Some(Vec<String>),
    /// Nobody.
    Nobody,
}

/// A network of containers past dfw's hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// Its name.
    pub network: String,
    /// Its driver.
    pub driver: String,
    /// Its running containers.
    pub containers: Vec<String>,
}

impl Report {
    /// What is open to everybody although no policy says so.
    pub fn uncovered(&self) -> impl Iterator<Item = &Exposure> {
        self.exposures
            .iter()
            .filter(|exposure| exposure.admits == Admits::Any && exposure.origin.is_none())
    }
}

/// Audits a host. `ruleset` is dfw's table, if there is one.
#[must_use]
pub fn audit(host: &HostView, around: &Surroundings, ruleset: Option<&Ruleset>) -> Report {
    let nothing = Ruleset::default();
    let ruleset = ruleset.unwrap_or(&nothing);
    Report {
        exposures: exposures(host, around, ruleset),
        unused: unused(host, ruleset),
        unjudged: unjudged(host),
    }
}

fn exposures(host: &HostView, around: &Surroundings, ruleset: &Ruleset) -> Vec<Exposure> {
    // Long lists are gone through for nothing where nothing is published.
    let strangers = LazyCell::new(|| strangers(ruleset));
    let expose_one = |way: Way| {
        let source = strangers[usize::from(way.address.is_ipv6())];
        expose(ruleset, around, way, source)
    };
    ways(host, around).into_iter().map(expose_one).collect()
}

/// What changes for strangers between two rulesets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turned {
    /// Ways that were open to everybody and no longer are.
    pub closed: Vec<Way>,
    /// Ways that are open to everybody and were not.
    pub opened: Vec<Way>,
    /// All other ways.
    pub others: Vec<Way>,
}

/// Compares what strangers reach with one ruleset, if there is one, and with the next. A stranger is
/// in no list of either.
#[must_use]
pub fn turned(
    host: &HostView,
    around: &Surroundings,
    before: Option<&Ruleset>,
    after: &Ruleset,
) -> Turned {
    let nothing = Ruleset::default();
    let before = exposures(host, around, before.unwrap_or(&nothing));
    let after = exposures(host, around, after);
    let mut turned = Turned::default();
    for (was, is) in before.into_iter().zip(after) {
        let list = match (was.admits == Admits::Any, is.admits == Admits::Any) {
            (true, false) => &mut turned.closed,
            (false, true) => &mut turned.opened,
            _ => &mut turned.others,
        };
        list.push(is.way);
    }
    turned
}

fn expose(ruleset: &Ruleset, around: &Surroundings, way: Way, source: IpAddr) -> Exposure {
    let traces: Vec<Trace> = way
        .packets(source, around)
        .iter()
        .map(|packet| evaluate(ruleset, packet))
        .collect();
    // Who is let in anywhere is let in.
    if let Some(open) = traces.iter().find(|t| t.decision == Decision::Accept) {
        return Exposure {
            way,
            admits: Admits::Any,
            origin: origin(open),
        };
    }
    let mut who = BTreeSet::new();
    for trace in &traces {
        if let Some(step) = trace.steps.last() {
            who.extend(allowed(ruleset, step, &way));
        }
    }
    Exposure {
        admits: if who.is_empty() {
            Admits::Nobody
        } else {
            Admits::Some(who.into_iter().collect())
        },
        origin: traces.first().and_then(origin),
        way,
    }
}

/// The line of the policy that decided.
fn origin(trace: &Trace) -> Option<Origin> {
    let comment = trace.steps.last()?.comment.as_deref()?;
    Origin::parse(comment)
}

/// How many addresses that are written in place are told one by one.
const LISTED: usize = 3;

/// What is told of a list whose addresses were not read.
const UNREAD: &str = "a long list";

/// Whom the chain of a step lets through, by the sets that it looks up.
fn allowed(ruleset: &Ruleset, step: &Step, way: &Way) -> Vec<String> {
    let family = if way.address.is_ipv4() {
        AddressSet::all(Family::V4)
    } else {
        AddressSet::all(Family::V6)
    };
    if let Some(key) = shared_port(step, way) {
        return listed(&shared_sources(ruleset, &key).intersection(&family));
    }
    let chain = ruleset.chains.get(&step.chain);
    let accepting = chain
        .map_or(&[][..], |chain| &chain.rules)
        .iter()
        .filter(|rule| allows(rule));
    let mut who = Vec::new();
    for expression in accepting.flat_map(|rule| &rule.expressions) {
        let Expression::SourceIn { family, set, .. } = expression else {
            continue;
        };
        if (*family == Family::V4) != way.address.is_ipv4() {
            continue;
        }
        match (
            &set.split('.').collect::<Vec<_>>()[..],
            ruleset.sets.get(set),
        ) {
            (_, None) => {}
            // The set of a named source; see the names that the compiler gives.
            ([name, _], Some(_)) => who.push((*name).to_owned()),
            // The compiler makes none that is empty.
            (_, Some(set)) if set.elements.is_empty() => who.push(UNREAD.to_owned()),
            (_, Some(set)) => who.extend(listed(&entries(&set.elements).collect())),
        }
    }
    who
}

/// The port that a step refused, if it shares sets with others: its chain judges all of them.
fn shared_port(step: &Step, way: &Way) -> Option<HostPorts> {
    let hit = step.hits.iter().find(|hit| hit.set == SHARED_REFUSED)?;
    match hit.element {
        Element::Ports(port, _) => Some(HostPorts::one(None, way.protocol, port)),
        Element::Interface(_) | Element::Addresses(..) | Element::PortAddresses(..) => None,
    }
}

/// The addresses, or only their number if they are many.
fn listed(addresses: &AddressSet) -> Vec<String> {
    match addresses.len() {
        0..=LISTED => addresses.iter().map(|entry| entry.to_string()).collect(),
        many => vec![format!("{many} addresses")],
    }
}

/// An address of each family that is in no set of the ruleset.
fn strangers(ruleset: &Ruleset) -> [IpAddr; 2] {
    let lists = ruleset.sets.values().flat_map(|set| entries(&set.elements));
    let shared = shared_sets(ruleset);
    let shared = shared.flat_map(|(set, elements)| set.networks(elements, None));
    let free = lists.chain(shared).collect::<AddressSet>().complement();
    // From somewhere among the addresses that are in use, upwards; whoever has listed all of them
    // has no strangers, and then the last is as good as any.
    let v4 = first_free(free.v4(), Ipv4Addr::new(11, 0, 0, 1).into());
    let v6 = first_free(free.v6(), Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1).into());
    [
        IpAddr::V4(v4.unwrap_or(u32::MAX).into()),
        IpAddr::V6(v6.unwrap_or(u128::MAX).into()),
    ]
}

/// The first of these from one on.
fn first_free<T: Ord + Copy>(free: &[(T, T)], from: T) -> Option<T> {
    let (first, _) = free.iter().find(|(_, last)| *last >= from)?;
    Some(from.max(*first))
}

/// The ports that rules name and nobody serves.
fn unused(host: &HostView, ruleset: &Ruleset) -> Vec<String> {
    let mut served: BTreeMap<(Protocol, u16), Vec<Option<IpAddr>>> = BTreeMap::new();
    for publication in host.publications() {
        let HostPorts {
            address,
            protocol,
            first,
            ..
        } = publication.published.port();
        served.entry((protocol, first)).or_default().push(address);
    }
    for listener in &host.listeners {
        let address = Some(listener.address).filter(|address| !address.is_unspecified());
        let place = (listener.protocol, listener.port);
        served.entry(place).or_default().push(address);
    }
    let is_served = |named: &HostPorts| {
        served.iter().any(|((protocol, port), addresses)| {
            let single = |address| HostPorts {
                address,
                protocol: *protocol,
                first: *port,
                last: *port,
            };
            addresses.iter().any(|address| {
                let asked = single(*address).named();
                let same_place = named.address.is_none()
                    || asked.address.is_none()
                    || named.address == asked.address;
                same_place
                    && named.protocol == asked.protocol
                    && (named.first..=named.last).contains(&asked.first)
            })
        })
    };
    let named: BTreeSet<HostPorts> = ruleset
        .chains
        .keys()
        .filter_map(|c| Some(port_of_chain(c)?.1))
        .chain(shared_ports(ruleset).map(|(key, _)| key))
        .collect();
    named
        .iter()
        .filter(|key| !is_served(key))
        .map(ToString::to_string)
        .collect()
}

fn unjudged(host: &HostView) -> Vec<Unjudged> {
    let networks = host.engines.iter().flat_map(|engine| {
        let past = |network: &&crate::host::engine::Network| {
            matches!(network.driver.as_str(), "macvlan" | "ipvlan")
        };
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
                    .map(crate::host::engine::Container::title)
                    .collect(),
            })
    });
    networks
        .filter(|network| !network.containers.is_empty())
        .collect()
}
