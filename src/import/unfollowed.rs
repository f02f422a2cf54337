//! Rules that could not be followed, and what that means for the policy.

use std::collections::{BTreeMap, BTreeSet};

use super::port::Port;
use super::published::HostPort;
use super::remark::ports_text;
use super::rule::{Family, Kind, Rule, Target};
use super::verdict::Judge;
use crate::diagnostic::{Diagnostic, quoted};
use crate::source::Span;

/// The name of the remark about a refusal that the policy does not have.
pub(super) const OPENS: &str = "refusal-left-out";

/// Rules that were not followed, or never could be.
pub(super) fn not_understood(judge: &Judge<'_>, family: Family, ports: &[Port]) -> Vec<Diagnostic> {
    let mut skipped: BTreeMap<usize, BTreeSet<HostPort>> = BTreeMap::new();
    for port in ports {
        let verdict = port.verdicts.get(&family);
        for number in verdict.iter().flat_map(|v| &v.trail.skipped) {
            skipped.entry(*number).or_default().insert(port.host);
        }
    }
    let unknown = |rule: &Rule| {
        let strange = rule.matches.iter().any(|found| found.kind == Kind::Unknown);
        let silent = matches!(rule.target, Target::Passive | Target::Log);
        let missing = called(rule).is_some_and(|name| !has_chain(judge, family, name));
        (strange || missing) && !silent && rule.is_about_ports()
    };
    judge
        .rules(family)
        .filter_map(|(number, rule)| {
            let ports = skipped.get(&number);
            (ports.is_some() || unknown(rule)).then(|| {
                let ports: Vec<_> = ports.into_iter().flatten().copied().collect();
                not_followed(judge, family, rule, &ports)
            })
        })
        .collect()
}

fn has_chain(judge: &Judge<'_>, family: Family, name: &str) -> bool {
    let base = judge.bases.get(&family);
    base.is_some_and(|base| base.has_chain(name))
}

fn called(rule: &Rule) -> Option<&str> {
    match &rule.target {
        Target::Jump(name) | Target::Goto(name) => Some(name),
        _ => None,
    }
}

fn not_followed(judge: &Judge<'_>, family: Family, rule: &Rule, ports: &[HostPort]) -> Diagnostic {
    let missing = called(rule).filter(|name| !has_chain(judge, family, name));
    let (span, label) = reason(rule, missing);
    let refuses = match &rule.target {
        Target::Drop | Target::Reject => true,
        Target::Jump(_) | Target::Goto(_) => missing.is_some() || may_refuse(judge, family, rule),
        _ => false,
    };
    let (slug, message, help) = if ports.is_empty() {
        (
            "not-understood",
            "this rule is not understood".to_owned(),
            "no published port comes to it, so nothing is lost".to_owned(),
        )
    } else if refuses {
        (
            OPENS,
            format!("this refusal is not in the policy: {}", ports_text(ports)),
            "WHOM IT REFUSES, DFW LETS IN if the other rules do: restrict these ports in the \
             policy yourself, or keep this rule beside dfw"
                .to_owned(),
        )
    } else {
        (
            "permission-left-out",
            format!(
                "this permission is not in the policy: {}",
                ports_text(ports)
            ),
            "whom only this rule lets in, dfw refuses: name them in the policy".to_owned(),
        )
    };
    Diagnostic::warning(slug, message)
        .at(span, label)
        .help(help)
}

/// The part of the rule that could not be followed.
fn reason(rule: &Rule, missing: Option<&str>) -> (Span, String) {
    let find = |wanted: fn(&Kind) -> bool| rule.matches.iter().find(|found| wanted(&found.kind));
    if let Some(found) = find(|kind| *kind == Kind::Unknown) {
        return (found.span.clone(), "not understood".to_owned());
    }
    if let Some(name) = missing {
        let label = format!(
            "{} is neither a chain here nor a target that dfw knows",
            quoted(name)
        );
        return (rule.target_span.clone(), label);
    }
    if let Some(found) = find(|kind| matches!(kind, Kind::SourcePorts(_))) {
        let label = "a client may send from any port".to_owned();
        return (found.span.clone(), label);
    }
    let label = "depends on the container or the host's address, which the dump does not tell";
    (rule.span.clone(), label.to_owned())
}

/// Whether a rule that the called chain leads to refuses.
fn may_refuse(judge: &Judge<'_>, family: Family, rule: &Rule) -> bool {
    let (Some(base), Some(name)) = (judge.bases.get(&family), called(rule)) else {
        return false;
    };
    let refuses = |number: &usize| {
        let rule = judge.dump.rules.get(*number);
        rule.is_some_and(|rule| matches!(rule.target, Target::Drop | Target::Reject))
    };
    base.reachable_from(name).iter().any(refuses)
}
