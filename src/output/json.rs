//! Answers for programs. Every document says its schema and version; fields are added, never
//! changed, within a version. They are written here by hand so that no internal type becomes a
//! promise.

use serde_json::{Value, json};

use crate::policy::{DefaultAction, Policy, PortKey, PortPolicy, Refuse, SourceSelection};
use crate::ruleset::Ruleset;

/// A policy: `default` and its `ports`.
#[must_use]
pub fn policy(policy: &Policy) -> Value {
    json!({
        "default": match policy.default {
            DefaultAction::Deny => "deny",
            DefaultAction::Allow => "allow",
        },
        "ports": policy.ports.iter().map(port).collect::<Vec<_>>(),
    })
}

fn port((key, port): (&PortKey, &PortPolicy)) -> Value {
    json!({
        "port": key.to_string(),
        "allow": selection(&port.allow),
        "except": selection(&port.except),
        "interfaces": port.interfaces.iter().map(super::super::policy::InterfaceName::as_str).collect::<Vec<_>>(),
        "log": port.log,
        "refuse": match port.refuse {
            Refuse::Drop => "drop",
            Refuse::Reject => "reject",
        },
    })
}

fn selection(selection: &SourceSelection) -> Value {
    json!({
        "any": selection.any,
        "containers": selection.containers,
        "sources": selection.named.iter().map(super::super::policy::SourceName::as_str).collect::<Vec<_>>(),
        "addresses": selection.inline.iter().map(|entry| entry.to_string()).collect::<Vec<_>>(),
    })
}

/// How large a ruleset is.
#[must_use]
pub fn size(ruleset: &Ruleset) -> Value {
    let sets = &ruleset.sets;
    json!({
        "chains": ruleset.chains.len(),
        "rules": ruleset.chains.values().map(|chain| chain.rules.len()).sum::<usize>(),
        "sets": sets.len(),
        "elements": sets.values().map(|set| set.elements.len()).sum::<usize>(),
    })
}
