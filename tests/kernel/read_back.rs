//! Rules in force are read back as the policy that they were compiled from.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use dfw::compile::{self, List, PortReading, Reading, Who};
use dfw::host::HostView;
use dfw::net::{AddressSet, HostPorts, Limits, Protocol};
use dfw::policy::{DenyWith, InterfacePattern, Policy, PortPolicy, SourceSelection};
use dfw::ruleset::{Elements, Origin, Ruleset};
use proptest::prelude::*;

use crate::Named;
use crate::namespace::{Sandbox, install};
use crate::property::{property, same};
use crate::reference::random::crowded;
use crate::support::size::times;

pub(crate) const TRIALS: &[Named] = &[(
    "rules_without_comments_are_read_back_as_the_policy",
    rules_without_comments_are_read_back_as_the_policy,
)];

/// A reading with the addresses behind it.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    reading: Reading,
    /// Those of the lists that anything is said of.
    lists: BTreeMap<List, AddressSet>,
}

/// Random policies, written, compiled, installed, read back from the kernel.
fn rules_without_comments_are_read_back_as_the_policy() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let settings = (any::<bool>(), -199..=-1);
    property(
        times(60, 20),
        &(crowded(0.3), settings),
        |(meant, (log, priority))| {
            let mut policy = meant.policy(false);
            policy.settings.log = log;
            policy.settings.priority = priority;
            let ruleset = compile::compile(&policy, &HostView::default(), &|_| Origin {
                file: "a.yaml".to_owned(),
                line: 1,
            });
            let read = sandbox.kernel(|kernel| {
                install(kernel, &without_comments(ruleset))?;
                let installed = kernel.snapshot()?.installed;
                Ok(installed.unwrap_or_default().ruleset)
            })?;
            same(&said(&read), &expected(&policy))
        },
    )
}

fn without_comments(mut ruleset: Ruleset) -> Ruleset {
    for set in ruleset.sets.values_mut() {
        set.comment = None;
        if let Elements::PortCounters(all) = &mut set.elements {
            for row in all {
                row.comment = None;
            }
        }
    }
    let chains = ruleset.chains.values_mut();
    for rule in chains.flat_map(|chain| &mut chain.rules) {
        rule.comment = None;
    }
    ruleset
}

/// What is read out of rules.
fn said(ruleset: &Ruleset) -> Said {
    let mut reading = compile::read(ruleset);
    let mut lists = BTreeMap::new();
    for (key, port) in &mut reading.ports {
        let (allow, except) = (List::Allow(*key), List::Except(*key));
        let own = if port.shared {
            compile::shared_sources(ruleset, key)
        } else {
            compile::addresses(ruleset, &allow)
        };
        lists.insert(allow, own);
        lists.insert(except.clone(), compile::addresses(ruleset, &except));
        for name in port.allow.named.iter().chain(&port.except.named) {
            let list = List::Source(name.clone());
            lists.insert(list.clone(), compile::addresses(ruleset, &list));
        }
        // Whether a port shares sets does not change its meaning.
        port.shared = false;
    }
    lists.retain(|_, addresses| !addresses.is_empty());
    Said { reading, lists }
}

/// What a policy says, without what makes no difference to any packet, of which there are no rules.
fn expected(policy: &Policy) -> Said {
    let mut lists = BTreeMap::new();
    let mut ports = BTreeMap::new();
    for (key, port) in &policy.ports {
        ports.insert(*key, port_reading(policy, key, port, &mut lists));
    }
    lists.retain(|_, addresses: &mut AddressSet| !addresses.is_empty());
    let settings = &policy.settings;
    let (exact, container_interfaces) = names(&settings.container_interfaces);
    let (foreign, foreign_interfaces) = names(&settings.foreign_interfaces);
    let reading = Reading {
        default: policy.default,
        log: settings.log && policy.default == dfw::policy::DefaultAction::Deny,
        early_drop: settings.early_drop && policy.ports.iter().any(is_early),
        connection_mark: settings.connection_mark,
        reverse_path_filter: settings.reverse_path_filter && !policy.ports.is_empty(),
        priority: Some(settings.priority),
        ports,
        container_interfaces,
        foreign_interfaces,
        // An interface in both lists is an engine's.
        foreign_bridges: foreign.difference(&exact).cloned().collect(),
        container_bridges: exact,
        unnamed: BTreeSet::new(),
    };
    Said { reading, lists }
}

/// Whether connections to a port are denied as they arrive, by what the policy says: limits that nobody can reach are
/// not read back.
fn is_early((key, port): (&HostPorts, &PortPolicy)) -> bool {
    key.protocol == Protocol::Tcp
        && !port.allow.any
        && !port.log
        && port.deny_with == DenyWith::Drop
        && port.limits.is_empty()
}

fn port_reading(
    policy: &Policy,
    key: &HostPorts,
    port: &PortPolicy,
    lists: &mut BTreeMap<List, AddressSet>,
) -> PortReading {
    let allow = who(policy, &port.allow, List::Allow(*key), lists);
    let except = who(policy, &port.except, List::Except(*key), lists);
    let interfaces: BTreeSet<String> = port.interfaces.iter().map(ToString::to_string).collect();
    let excepted =
        port.except.containers || !except.named.is_empty() || !port.except.inline.is_empty();
    // Where nobody is allowed, nobody is limited.
    let is_anybody = allow.any
        || !allow.named.is_empty()
        || lists.get(&List::Allow(*key)).is_some_and(|a| !a.is_empty());
    let limits = if is_anybody {
        port.limits
    } else {
        Limits::default()
    };
    // Without denials, the way of denying is not in the rules.
    let refuses = !limits.is_empty()
        || !allow.any
        || excepted
        || !interfaces.is_empty()
        || policy.settings.reverse_path_filter;
    PortReading {
        allow,
        except,
        interfaces,
        log: port.log && refuses,
        deny_with: if refuses {
            port.deny_with
        } else {
            DenyWith::default()
        },
        limits,
        shared: false,
    }
}

/// The names of a selection; its addresses go to the lists.
fn who(
    policy: &Policy,
    selection: &SourceSelection,
    own: List,
    lists: &mut BTreeMap<List, AddressSet>,
) -> Who {
    // `any` is everyone, and containers are accepted anyway.
    let is_allow = matches!(own, List::Allow(_));
    if selection.any {
        return Who {
            any: true,
            ..Who::default()
        };
    }
    lists.insert(own, selection.inline.clone());
    let mut named = BTreeSet::new();
    for name in &selection.named {
        let addresses = &policy.sources[name].addresses;
        if !addresses.is_empty() {
            named.insert(name.to_string());
            lists.insert(List::Source(name.to_string()), addresses.clone());
        }
    }
    Who {
        any: false,
        containers: selection.containers && !is_allow,
        named,
    }
}

/// Whole names, and beginnings of names.
fn names(patterns: &[InterfacePattern]) -> (BTreeSet<String>, BTreeSet<String>) {
    patterns
        .iter()
        .map(ToString::to_string)
        .partition(|pattern| !pattern.ends_with('*'))
}
