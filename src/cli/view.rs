//! A ruleset in the terms of the policy that it was made of: ports, sources, settings.
//!
//! The rules in force are all that is known of the policy behind them. What is not of the form in
//! which dfw compiles it is not seen here; see [`changes`](super::changes).

use crate::net::HostPorts;
use std::collections::{BTreeMap, BTreeSet};

use crate::compile::{self, CONTAINERS, FOREIGN, allows, port_of_chain};
use crate::ruleset::{
    Chain, Elements, Expression, NameMatch, Reject, Rule, Ruleset, Side, Verdict,
};

/// A port as a policy writes it, in the order in which people count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    first: u16,
    pub(super) name: String,
}

impl Port {
    pub(super) fn new(name: String) -> Self {
        let ports = name.rsplit_once(':').map_or(&*name, |(_, ports)| ports);
        let first = ports.split(|c: char| !c.is_ascii_digit()).next();
        let first = first.and_then(|first| first.parse().ok());
        Self {
            first: first.unwrap_or_default(),
            name,
        }
    }
}

/// What a ruleset says.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) ports: BTreeMap<Port, PortView>,
    /// Whether published ports that no policy names are refused.
    pub(super) deny: bool,
    /// Whether those refusals are logged.
    pub(super) log: bool,
    /// Whether connections that were judged bear a mark.
    pub(super) connection_mark: bool,
    pub(super) priority: Option<i32>,
    /// The beginnings of names in the settings, with `*`.
    pub(super) container_patterns: BTreeSet<String>,
    pub(super) foreign_patterns: BTreeSet<String>,
    /// Ports that an engine publishes and no policy names.
    pub(super) unnamed: BTreeSet<Port>,
}

/// What it says of a port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PortView {
    /// The name of its chain, which is that of its own sets.
    pub(super) chain: String,
    pub(super) allow: Who,
    pub(super) except: Who,
    pub(super) interfaces: BTreeSet<String>,
    pub(super) log: bool,
    pub(super) reject: bool,
    /// Its key, where it shares sets with others instead of having its own.
    pub(super) shared: Option<HostPorts>,
}

/// Sources by name, without those that are written in place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) any: bool,
    pub(super) containers: bool,
    pub(super) named: BTreeSet<String>,
}

/// Whose addresses a set holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A source by its name.
    Source(String),
    /// Addresses that are written in place: the name of the port's chain, and whether they are
    /// allowed.
    Port(String, bool),
}

/// What the names of sets of addresses end with: short lists, and the two parts of long ones.
const KINDS: [&str; 6] = ["v4", "a4", "n4", "v6", "a6", "n6"];

impl Owner {
    /// Whose addresses the set of this name holds; `None` for any other set.
    pub(super) fn of(set: &str) -> Option<Self> {
        let (name, kind) = set.rsplit_once('.')?;
        if !KINDS.contains(&kind) {
            return None;
        }
        for (end, allowed) in [(".allow", true), (".except", false)] {
            if let Some(chain) = name.strip_suffix(end).filter(|n| n.starts_with("port-")) {
                return Some(Self::Port(chain.to_owned(), allowed));
            }
        }
        Some(Self::Source(name.to_owned()))
    }

    /// The names of all sets that can hold them.
    pub(super) fn sets(&self) -> impl Iterator<Item = String> + use<> {
        let name = match self {
            Self::Source(name) => name.clone(),
            Self::Port(chain, true) => format!("{chain}.allow"),
            Self::Port(chain, false) => format!("{chain}.except"),
        };
        KINDS.into_iter().map(move |kind| format!("{name}.{kind}"))
    }
}

impl View {
    pub(super) fn of(ruleset: &Ruleset) -> Self {
        let mut view = Self::default();
        for (name, chain) in &ruleset.chains {
            let Some(port) = port_of_chain(name) else {
                continue;
            };
            let port = view.ports.entry(Port::new(port)).or_default();
            if let Some((_, own)) = name.split_once('-') {
                port.chain = format!("port-{own}");
            }
            if name.starts_with("containers-") {
                port.except.containers = true;
            } else {
                port.read(ruleset, chain);
            }
        }
        for (key, _) in compile::shared_ports(ruleset) {
            let shared = PortView {
                shared: Some(key),
                ..PortView::default()
            };
            view.ports.insert(Port::new(key.to_string()), shared);
        }
        let forward = ruleset.chains.get("forward");
        view.priority = forward.and_then(|chain| Some(chain.base?.priority));
        for rule in forward.map_or(&[][..], |chain| &chain.rules) {
            view.read_setting(rule);
        }
        view.connection_mark = compile::is_marking(ruleset);
        let published = ruleset.chains.get("published");
        view.deny = published.is_some_and(|chain| {
            chain.rules.iter().any(|rule| {
                rule.expressions.first() == Some(&Expression::OutBridge) && !allows(rule)
            })
        });
        view.log = published.is_some_and(|chain| {
            let is_log = |e: &Expression| matches!(e, Expression::Log { .. });
            chain
                .rules
                .iter()
                .any(|rule| rule.expressions.iter().any(is_log))
        });
        let unnamed = compile::remembered(ruleset);
        view.unnamed = unnamed
            .iter()
            .map(|range| {
                let family = match range.address {
                    Some(address) if !address.is_unspecified() => "",
                    Some(address) if address.is_ipv4() => " (IPv4)",
                    Some(_) => " (IPv6)",
                    None => "",
                };
                Port::new(range.named().to_string() + family)
            })
            .collect();
        view
    }

    fn read_setting(&mut self, rule: &Rule) {
        let [
            Expression::Interface {
                side: Side::Out,
                name,
                equal: true,
            },
            Expression::Verdict(verdict),
        ] = &rule.expressions[..]
        else {
            return;
        };
        let name = match name {
            NameMatch::Exact(name) => name.clone(),
            NameMatch::Prefix(prefix) => format!("{prefix}*"),
        };
        match verdict {
            Verdict::Accept => self.foreign_patterns.insert(name),
            _ => self.container_patterns.insert(name),
        };
    }
}

impl PortView {
    /// Takes what the rules of one of the port's chains say; they all say the same.
    fn read(&mut self, ruleset: &Ruleset, chain: &Chain) {
        for rule in &chain.rules {
            let expressions = &rule.expressions[..];
            let has = |wanted: &Expression| expressions.contains(wanted);
            self.log |= expressions
                .iter()
                .any(|e| matches!(e, Expression::Log { .. }));
            self.reject |= has(&Expression::Reject(Reject::TcpReset))
                || has(&Expression::Reject(Reject::PortUnreachable));
            for expression in expressions {
                match expression {
                    Expression::SourceIn { set, .. } => {
                        if let Some(Owner::Source(name)) = Owner::of(set) {
                            let who = if allows(rule) {
                                &mut self.allow
                            } else {
                                &mut self.except
                            };
                            who.named.insert(name);
                        }
                    }
                    Expression::Interface {
                        side: Side::In,
                        name: NameMatch::Exact(name),
                        equal: false,
                    } => {
                        self.interfaces.insert(name.clone());
                    }
                    Expression::InterfaceIn {
                        side: Side::In,
                        set,
                        member: false,
                    } => {
                        if let Some(Elements::Interfaces(names)) =
                            ruleset.sets.get(set).map(|set| &set.elements)
                        {
                            self.interfaces.extend(names.iter().cloned());
                        }
                    }
                    _ => {}
                }
            }
            if allows(rule) && matches!(expressions, [Expression::Counter, _]) {
                self.allow.any = true;
            }
        }
    }
}

/// The bridges that are known to be an engine's, or others'; empty if there is no such set.
pub(super) fn bridges(ruleset: &Ruleset, engines: bool) -> BTreeSet<String> {
    let set = if engines { CONTAINERS } else { FOREIGN };
    match ruleset.sets.get(set).map(|set| &set.elements) {
        Some(Elements::Interfaces(names)) => names.iter().cloned().collect(),
        _ => BTreeSet::new(),
    }
}
