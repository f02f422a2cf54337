//! Reads a compiled ruleset back, in terms of its policy.
//!
//! It only uses the rules in force. Rules that [`compile`](super::compile()) does not write are ignored; the
//! fingerprint of the table detects them. Comments are not needed, as some readers lose them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::host::grant::Grant;
use crate::net::{AddressSet, Entry, Family, HostPorts, Limits, Protocol};
use crate::policy::{DefaultAction, DenyWith};
use crate::ruleset::{
    Address, Chain, Elements, Expression, Interface, Key, L4Protocol, NameMatch, PerSource, Reject,
    Row, Rule, Ruleset, Side, Statement, Value, Verdict, with_rows,
};

use super::names::{
    self, CONTAINERS, Context, FOREIGN, FORWARD, LimitChain, List, PREROUTING, PUBLISHED, REMEMBER,
    SHARED, SHARED_DENIED, SharedSet,
};

/// The policy in a ruleset.
#[expect(
    clippy::struct_excessive_bools,
    reason = "settings that do not depend on each other"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The default for published ports without a key.
    pub default: DefaultAction,
    /// Whether denials by the default are logged.
    pub log: bool,
    /// Whether TCP connections are denied as they arrive; `false` if no port takes part.
    pub early_drop: bool,
    /// Whether accepted connections are marked.
    pub connection_mark: bool,
    /// Whether ports deny packets without a reverse path; `false` if no port has a key.
    pub reverse_path_filter: bool,
    /// The priority of the base chains; `None` without a forward chain.
    pub priority: Option<i32>,
    /// The keys.
    pub ports: BTreeMap<HostPorts, PortReading>,
    /// The patterns of container interfaces in the settings, and engines' bridges with foreign ports.
    pub container_interfaces: BTreeSet<String>,
    /// The patterns of foreign interfaces in the settings.
    pub foreign_interfaces: BTreeSet<String>,
    /// The bridges that count as managed by an engine, by host facts or settings.
    pub container_bridges: BTreeSet<String>,
    /// The bridges that count as not managed by an engine.
    pub foreign_bridges: BTreeSet<String>,
    /// Ports without a key that an engine published when the ruleset was compiled.
    pub unnamed: BTreeSet<HostPorts>,
}

/// The policy of a key in a ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortReading {
    /// The allowed sources.
    pub allow: Who,
    /// The excluded sources.
    pub except: Who,
    /// The required incoming interfaces; any if empty.
    pub interfaces: BTreeSet<String>,
    /// Whether denials are logged.
    pub log: bool,
    /// How packets are denied: drop or reject.
    pub deny_with: DenyWith,
    /// How many connections each allowed source may make.
    pub limits: Limits,
    /// Whether it uses shared sets instead of chains of its own.
    pub shared: bool,
}

/// Sources by name. Inline addresses are in sets ([`List`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// Every address.
    pub any: bool,
    /// Packets from containers of this host.
    pub containers: bool,
    /// Named sources.
    pub named: BTreeSet<String>,
}

/// Reads a ruleset; elements of address lists are not needed.
#[must_use]
pub fn read(ruleset: &Ruleset) -> Reading {
    let chain = |name: &str| ruleset.chains.get(name);
    let published = chain(PUBLISHED).map_or(&[][..], |chain| &chain.rules);
    let is_log = |e: &Expression| matches!(e, Expression::Statement(Statement::Log { .. }));
    let by_default = |rule: &&Rule| {
        rule.expressions.first() == Some(&Expression::Interface(Interface::OutBridge))
    };
    let mut reading = Reading {
        default: if published
            .iter()
            .filter(by_default)
            .any(|rule| !allows(rule))
        {
            DefaultAction::Deny
        } else {
            DefaultAction::Allow
        },
        log: published
            .iter()
            .any(|rule| rule.expressions.iter().any(is_log)),
        early_drop: chain(PREROUTING).is_some(),
        connection_mark: is_marking(ruleset),
        reverse_path_filter: ruleset
            .chains
            .values()
            .flat_map(|chain| &chain.rules)
            .flat_map(|rule| &rule.expressions)
            .any(|e| *e == Expression::Interface(Interface::NoReversePath)),
        priority: chain(FORWARD).and_then(|chain| Some(chain.base?.priority)),
        ports: BTreeMap::new(),
        container_interfaces: BTreeSet::new(),
        foreign_interfaces: BTreeSet::new(),
        container_bridges: interfaces(ruleset, CONTAINERS),
        foreign_bridges: interfaces(ruleset, FOREIGN),
        unnamed: unnamed(ruleset).into_iter().collect(),
    };
    for (name, chain) in &ruleset.chains {
        if let Some((LimitChain::Limit | LimitChain::Excess, key)) = names::limit_of_chain(name) {
            reading.ports.entry(key).or_default().read(ruleset, chain);
        }
        let Some((context, key)) = names::port_of_chain(name) else {
            continue;
        };
        let port = reading.ports.entry(key).or_default();
        match context {
            // If no other packet is denied, only this chain shows how.
            Context::HostFromContainers => port.except.containers = true,
            Context::Early | Context::Published | Context::Host | Context::Container => {}
        }
        port.read(ruleset, chain);
    }
    for (key, _) in shared_ports(ruleset) {
        // If it also has a chain, that is for the container's address.
        reading.ports.entry(key).or_default().shared = true;
    }
    for rule in chain(FORWARD).map_or(&[][..], |chain| &chain.rules) {
        reading.read_setting(rule);
    }
    reading
}

impl Reading {
    /// Returns whether a port takes part in the denial of TCP connections as they arrive.
    #[must_use]
    pub fn has_early_ports(&self) -> bool {
        self.ports.iter().any(|(key, port)| {
            key.protocol == Protocol::Tcp
                && !port.allow.any
                && !port.log
                && port.deny_with == DenyWith::Drop
                && port.limits.is_empty()
        })
    }

    /// Reads interface patterns from a rule of the forward chain.
    fn read_setting(&mut self, rule: &Rule) {
        let [
            Expression::Interface(Interface::Name {
                side: Side::Out,
                name,
                equal: true,
            }),
            Expression::Statement(Statement::Verdict(verdict)),
        ] = &rule.expressions[..]
        else {
            return;
        };
        let pattern = match name {
            // A bridge of an engine with a foreign port.
            NameMatch::Exact(name) => name.clone(),
            NameMatch::Prefix(prefix) => format!("{prefix}*"),
        };
        match verdict {
            Verdict::Accept => self.foreign_interfaces.insert(pattern),
            _ => self.container_interfaces.insert(pattern),
        };
    }
}

impl PortReading {
    /// Reads the rules of one of the port's chains; all of them are equivalent.
    fn read(&mut self, ruleset: &Ruleset, chain: &Chain) {
        for rule in &chain.rules {
            let expressions = &rule.expressions[..];
            let has = |wanted: &Expression| expressions.contains(wanted);
            self.log |= expressions
                .iter()
                .any(|e| matches!(e, Expression::Statement(Statement::Log { .. })));
            if has(&Expression::Statement(Statement::Reject(Reject::TcpReset)))
                || has(&Expression::Statement(Statement::Reject(
                    Reject::PortUnreachable,
                )))
            {
                self.deny_with = DenyWith::Reject;
            }
            for expression in expressions {
                match expression {
                    Expression::Address(Address::SourceIn { set, .. }) => {
                        if let Some(List::Source(name)) = List::of_set(set) {
                            let who = if allows(rule) {
                                &mut self.allow
                            } else {
                                &mut self.except
                            };
                            who.named.insert(name);
                        }
                    }
                    Expression::Interface(Interface::Name {
                        side: Side::In,
                        name: NameMatch::Exact(name),
                        equal: false,
                    }) => {
                        self.interfaces.insert(name.clone());
                    }
                    Expression::Interface(Interface::In {
                        side: Side::In,
                        set,
                        member: false,
                    }) => self.interfaces.extend(interfaces(ruleset, set)),
                    Expression::PerSource(PerSource::OverRate { rate, .. }) => {
                        self.limits.rate = Some(*rate);
                    }
                    Expression::PerSource(PerSource::OverCount { count, .. }) => {
                        self.limits.connections = Some(*count);
                    }
                    _ => {}
                }
            }
            if allows(rule) && matches!(expressions, [Expression::Statement(Statement::Counter), _])
            {
                self.allow.any = true;
            }
        }
    }
}

/// Returns the limits of a key.
#[must_use]
pub fn limits(ruleset: &Ruleset, key: &HostPorts) -> Limits {
    let mut port = PortReading::default();
    if let Some(chain) = ruleset.chains.get(&names::limit_chain(key)) {
        port.read(ruleset, chain);
    }
    port.limits
}

/// Returns whether a rule of a port's chain accepts what it matches.
#[must_use]
pub fn allows(rule: &Rule) -> bool {
    matches!(rule.expressions.last(), Some(Expression::Statement(Statement::Verdict(verdict)))
        if *verdict == Verdict::Accept || verdict.chain() == Some(REMEMBER))
}

/// Returns whether a ruleset marks accepted connections.
#[must_use]
pub fn is_marking(ruleset: &Ruleset) -> bool {
    ruleset.chains.contains_key(REMEMBER)
}

/// Returns the interfaces that the policy requires, by port.
#[must_use]
pub fn admitting(ruleset: &Ruleset) -> BTreeSet<&str> {
    let sets = ruleset
        .sets
        .iter()
        .filter(|(name, _)| names::is_interfaces(name));
    let sets = sets.flat_map(|(_, set)| match &set.elements {
        Elements::Interfaces(names) => &names[..],
        _ => &[],
    });
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    let single = rules
        .flat_map(|rule| &rule.expressions)
        .filter_map(|e| match e {
            Expression::Interface(Interface::Name {
                side: Side::In,
                name: NameMatch::Exact(name),
                equal: false,
            }) => Some(name),
            _ => None,
        });
    sets.chain(single).map(String::as_str).collect()
}

/// Returns the elements of a set of interfaces; none if there is no such set.
fn interfaces(ruleset: &Ruleset, set: &str) -> BTreeSet<String> {
    match ruleset.sets.get(set).map(|set| &set.elements) {
        Some(Elements::Interfaces(names)) => names.iter().cloned().collect(),
        _ => BTreeSet::new(),
    }
}

/// Returns the lists that the rules of a chain accept, of a family, with their addresses, as far as they were
/// read.
#[must_use]
pub fn admitted(ruleset: &Ruleset, chain: &str, family: Family) -> Vec<(List, AddressSet)> {
    let rules = ruleset.chains.get(chain).map_or(&[][..], |c| &c.rules);
    let mut lists = Vec::new();
    for expression in rules
        .iter()
        .filter(|rule| allows(rule))
        .flat_map(|rule| &rule.expressions)
    {
        let Expression::Address(Address::SourceIn {
            family: of, set, ..
        }) = expression
        else {
            continue;
        };
        if *of == family
            && let Some(list) = List::of_set(set)
            && let Some(set) = ruleset.sets.get(set)
        {
            lists.push((list, entries(&set.elements).collect()));
        }
    }
    lists
}

/// Returns the addresses of a list, as far as they were read.
#[must_use]
pub fn addresses(ruleset: &Ruleset, list: &List) -> AddressSet {
    let sets = list.sets().filter_map(|name| ruleset.sets.get(&name));
    AddressSet::from_entries(sets.flat_map(|set| entries(&set.elements)))
}

/// Returns whether a ruleset has permissions for a time.
#[must_use]
pub fn has_grants(ruleset: &Ruleset) -> bool {
    let mut sets = ruleset.sets.keys();
    sets.any(|set| matches!(List::of_set(set), Some(List::Granted(_))))
}

/// Returns the permissions for a time, as far as their sets were read, by key.
#[must_use]
pub fn grants(ruleset: &Ruleset) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (name, set) in &ruleset.sets {
        let Some(List::Granted(to)) = List::of_set(name) else {
            continue;
        };
        with_rows!(&set.elements, rows => {
            let ends = rows.iter().filter_map(|row| Some((entry(row)?, row.end()?)));
            grants.extend(ends.map(|(from, end)| Grant { to, from, end }));
        });
    }
    grants
}

/// Returns the addresses of a set; none for a set of another type, or of ports and addresses, whose
/// [networks](SharedSet::networks) follow from the name of the set.
#[must_use]
pub fn entries(elements: &Elements) -> Box<dyn Iterator<Item = Entry> + '_> {
    with_rows!(elements, rows => Box::new(rows.iter().filter_map(entry)))
}

fn entry<R: Row>(row: &R) -> Option<Entry> {
    match (row.first().values().as_ref(), row.last().values().as_ref()) {
        _ if R::MAP => None,
        ([Value::Ipv4(first)], [Value::Ipv4(last)]) => Some(Entry::V4(*first, *last)),
        ([Value::Ipv6(first)], [Value::Ipv6(last)]) => Some(Entry::V6(*first, *last)),
        _ => None,
    }
}

impl SharedSet {
    /// Returns the elements as networks, of all ports or of one.
    #[must_use]
    pub fn networks(
        self,
        elements: &Elements,
        port: Option<u16>,
    ) -> Box<dyn Iterator<Item = Entry> + '_> {
        let length = u32::from(self.length);
        let last4 = move |a: u32| a | u32::MAX.checked_shr(length).unwrap_or(0);
        let last6 = move |a: u128| a | u128::MAX.checked_shr(length).unwrap_or(0);
        match elements {
            Elements::PortIpv4(all) => {
                let some = about(all, port, |e| e.0).iter();
                Box::new(some.map(move |(_, a)| Entry::V4(*a, last4(*a))))
            }
            Elements::PortIpv6(all) => {
                let some = about(all, port, |e| e.0).iter();
                Box::new(some.map(move |(_, a)| Entry::V6(*a, last6(*a))))
            }
            // Another program replaced it by a set of another type.
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// Returns the shared sets of a ruleset.
pub fn shared_sets(ruleset: &Ruleset) -> impl Iterator<Item = (SharedSet, &Elements)> {
    let sets = ruleset.sets.range(SHARED.to_owned()..);
    sets.take_while(|(name, _)| name.starts_with(SHARED))
        .filter_map(|(name, set)| Some((SharedSet::named(name)?, &set.elements)))
}

/// Returns the sources of a port that shares sets, as far as these were read.
#[must_use]
pub fn shared_sources(ruleset: &Ruleset, key: &HostPorts) -> AddressSet {
    shared_sets(ruleset)
        .filter(|(set, _)| set.protocol == key.protocol)
        .flat_map(|(set, elements)| set.networks(elements, Some(key.first)))
        .collect()
}

/// Returns the elements of a port, or all, from elements sorted by port.
fn about<T>(all: &[T], port: Option<u16>, of: impl Fn(&T) -> u16) -> &[T] {
    let Some(port) = port else { return all };
    let from = all.partition_point(|element| of(element) < port);
    let to = all.partition_point(|element| of(element) <= port);
    &all[from..to]
}

/// Returns the ports of a ruleset that share sets, as a policy would name them, with the comment
/// that leads back to it.
pub fn shared_ports(ruleset: &Ruleset) -> impl Iterator<Item = (HostPorts, Option<&str>)> {
    let set = ruleset.sets.get(SHARED_DENIED);
    let elements = match set.map(|set| &set.elements) {
        Some(Elements::PortCounters(all)) => &all[..],
        _ => &[],
    };
    elements
        .iter()
        .filter_map(|row| Some((port_key(row.key.0, row.key.1)?, row.comment.as_deref())))
}

/// Returns a port of this host under any address; `None` for a protocol without ports.
#[must_use]
pub fn port_key(l4: L4Protocol, port: u16) -> Option<HostPorts> {
    Some(HostPorts::one(None, l4.with_ports()?, port))
}

/// Returns whether a ruleset has any [`remembered`] ports; elements are not needed.
#[must_use]
pub fn remembers(ruleset: &Ruleset) -> bool {
    let unnamed = UNNAMED_CHAINS.map(names::unnamed).into_iter();
    unnamed
        .chain([names::FROM_WIRE])
        .any(|chain| ruleset.chains.contains_key(chain))
}

const UNNAMED_CHAINS: [Option<Family>; 3] = [None, Some(Family::V4), Some(Family::V6)];

/// Returns the ports that a ruleset filters because an engine published them when it was compiled: those
/// without a key, and those on a loopback address.
#[must_use]
pub fn remembered(ruleset: &Ruleset) -> Vec<HostPorts> {
    let mut ranges = unnamed(ruleset);
    for protocol in Protocol::ALL {
        let map = names::loopback_map(protocol);
        if let Some(Elements::PortVerdicts(map)) = ruleset.sets.get(&map).map(|s| &s.elements) {
            ranges.extend(map.iter().map(|row| HostPorts {
                address: Some(Ipv4Addr::LOCALHOST.into()),
                protocol,
                first: row.key.first,
                last: row.key.last,
            }));
        }
    }
    ranges
}

/// Returns the ports of engines without a key.
fn unnamed(ruleset: &Ruleset) -> Vec<HostPorts> {
    let mut addresses = vec![None];
    for family in Family::ALL {
        let map = ruleset.sets.get(&Context::Host.address_map(family));
        match map.map(|set| &set.elements) {
            Some(Elements::Ipv4Verdicts(map)) => {
                addresses.extend(map.iter().map(|row| Some(IpAddr::V4(row.key.into()))));
            }
            Some(Elements::Ipv6Verdicts(map)) => {
                addresses.extend(map.iter().map(|row| Some(IpAddr::V6(row.key.into()))));
            }
            _ => {}
        }
    }
    let mut ranges = Vec::new();
    for address in addresses {
        for protocol in Protocol::ALL {
            let map = Context::Host.port_map(address, protocol);
            let Some(Elements::PortVerdicts(map)) = ruleset.sets.get(&map).map(|s| &s.elements)
            else {
                continue;
            };
            ranges.extend(map.iter().filter_map(|row| {
                let chain = row.verdict.chain()?;
                let mut chains = UNNAMED_CHAINS.into_iter();
                let family = chains.find(|family| names::unnamed(*family) == chain)?;
                Some(HostPorts {
                    address: family.map_or(address, |family| Some(family.unspecified())),
                    protocol,
                    first: row.key.first,
                    last: row.key.last,
                })
            }));
        }
    }
    ranges
}
