//! Rules that are not in the policy, and what that means for it.

use crate::net::{Family, HostPorts};
use std::collections::{BTreeMap, BTreeSet};

use super::dump::reachable;
use super::found::{Found, ports_text};
use super::interface::is_containers;
use super::rule::program;
use super::rule::{Kind, Rule, Target};
use crate::text::Span;
use crate::text::diagnostic::{Diagnostic, quoted};

/// The slug of the remark about a denial that the policy lacks.
pub(super) const OPENS: &str = "denial-left-out";

/// Returns remarks about rules that were not evaluated.
pub(super) fn not_understood(found: &Found<'_>, family: Family) -> Vec<Diagnostic> {
    let mut skipped: BTreeMap<usize, BTreeSet<HostPorts>> = BTreeMap::new();
    for port in found.ports {
        let verdict = port.verdicts.get(&family);
        for number in verdict.iter().flat_map(|v| &v.trail.skipped) {
            skipped.entry(*number).or_default().insert(port.host);
        }
    }
    let unknown = |rule: &Rule| {
        let strange = rule.matches.iter().any(|m| is_unknown(&m.kind));
        let silent = matches!(rule.target, Target::Passive | Target::Log);
        strange && !silent && rule.is_about_ports()
    };
    found
        .rules(family)
        .filter_map(|(number, rule)| {
            let ports = skipped.get(&number);
            (ports.is_some() || unknown(rule)).then(|| {
                let ports: Vec<_> = ports.into_iter().flatten().copied().collect();
                not_followed(found, family, rule, &ports)
            })
        })
        .collect()
}

fn is_unknown(kind: &Kind) -> bool {
    matches!(kind, Kind::Unknown | Kind::List)
}

fn not_followed(found: &Found<'_>, family: Family, rule: &Rule, ports: &[HostPorts]) -> Diagnostic {
    let table = found.dump.table(family, rule.table);
    let missing = rule
        .called()
        .filter(|name| table.is_some_and(|table| !table.contains_key(*name)));
    let (span, label) = reason(rule, missing);
    let in_nat = rule.table == "nat";
    let denies = match &rule.target {
        Target::Drop | Target::Reject => true,
        // Another way than to the container.
        Target::Jump(_) | Target::Goto(_) if in_nat => missing.is_none(),
        Target::Jump(_) | Target::Goto(_) => missing.is_some() || may_deny(found, family, rule),
        Target::Dnat(_) => !in_nat,
        _ => false,
    };
    let list = rule.matches.iter().any(|found| found.kind == Kind::List);
    let (slug, message, help) = if ports.is_empty() {
        (
            "not-understood",
            "this rule is not understood".to_owned(),
            "no packet to a published port reaches it, so the policy is equivalent without it",
        )
    } else if denies {
        (
            OPENS,
            format!("this denial is not in the policy: {}", ports_text(ports)),
            if list {
                "DFW ALLOWS THE SOURCES THAT IT DENIES if the other rules do: write the list to a file, \
                 add it to `sources` (`blocked: {file: lists/blocked.txt}`), and add `except: [blocked]` \
                 to these ports, or keep this rule"
            } else {
                "DFW ALLOWS THE SOURCES THAT IT DENIES if the other rules do: restrict these ports in the \
                 policy, or keep this rule"
            },
        )
    } else {
        (
            "permission-left-out",
            format!(
                "this permission is not in the policy: {}",
                ports_text(ports)
            ),
            if list {
                "dfw denies sources that only this rule accepts: write the list to a file, add it to \
                 `sources` (`known: {file: lists/known.txt}`), and to `allow` of these ports"
            } else {
                "dfw denies sources that only this rule accepts: add them to the policy"
            },
        )
    };
    Diagnostic::warning(slug, message)
        .at(span, label)
        .help(help)
}

/// Returns the part of a rule that is not supported.
fn reason(rule: &Rule, missing: Option<&str>) -> (Span, String) {
    let find = |wanted: fn(&Kind) -> bool| rule.matches.iter().find(|found| wanted(&found.kind));
    if let Some(found) = find(is_unknown) {
        return (found.span.clone(), "not understood".to_owned());
    }
    if let Some(name) = missing {
        let label = format!(
            "{} is neither a chain of this table nor a known target",
            quoted(name)
        );
        return (rule.target_span.clone(), label);
    }
    if let Some(found) = find(|kind| matches!(kind, Kind::SourcePorts(_))) {
        let label = "clients can use any source port".to_owned();
        return (found.span.clone(), label);
    }
    let label = "depends on the container or the host's address, which the dump does not contain";
    (rule.span.clone(), label.to_owned())
}

/// Returns whether a rule reachable from the called chain can deny.
fn may_deny(found: &Found<'_>, family: Family, rule: &Rule) -> bool {
    let table = found.dump.table(family, rule.table);
    let (Some(table), Some(name)) = (table, rule.called()) else {
        return true;
    };
    let rules = reachable(found.dump, table, &[name]);
    let denies = |(_, rule): (usize, &Rule)| {
        let unknown = |name: &str| !table.contains_key(name);
        rule.denies() || rule.called().is_some_and(unknown)
    };
    found.dump.rules_of(&rules).any(denies)
}

/// Returns warnings about rules behind one that ends the chain for every packet, a common mistake in recipes.
pub(super) fn dead(found: &Found<'_>, family: Family) -> Vec<Diagnostic> {
    let on_the_way: BTreeSet<usize> = found.rules(family).map(|(number, _)| number).collect();
    let tables = found
        .dump
        .tables
        .iter()
        .filter(|((of, _), _)| *of == family);
    let mut remarks = Vec::new();
    for (name, chain) in tables.flat_map(|(_, chains)| chains) {
        let rules: Vec<_> = found
            .dump
            .rules_of(&chain.rules)
            .filter(|(number, _)| on_the_way.contains(number))
            .collect();
        let ends = |rule: &Rule| {
            let ends = matches!(
                rule.target,
                Target::Accept | Target::Drop | Target::Reject | Target::Return
            );
            ends && rule.is_unconditional()
        };
        let Some(last) = rules.iter().position(|(_, rule)| ends(rule)) else {
            continue;
        };
        let Some(((_, end), behind)) = rules.get(last..).and_then(|rules| rules.split_first())
        else {
            continue;
        };
        let verdict = match end.target {
            Target::Accept => "ACCEPT",
            Target::Return => "RETURN",
            Target::Reject => "REJECT",
            _ => "DROP",
        };
        for (_, rule) in behind {
            let silent = matches!(rule.target, Target::Passive | Target::Log);
            // Several of them say nothing new.
            if silent || ends(rule) && rule.target == end.target || is_engines(found, rule) {
                continue;
            }
            let message = format!(
                "this rule is unreachable: every packet leaves {} by the {verdict} of line {}",
                quoted(name),
                found.line(end)
            );
            remarks.push(
                Diagnostic::warning("unreachable", message)
                    .at(rule.span.clone(), "no packet reaches this rule")
                    .help(
                        "rules are evaluated from the top, and `-A` appends; the policy does what the \
                         rules do, which may not be what was intended",
                    ),
            );
        }
    }
    remarks
}

/// Returns whether a rule is an engine's and does not affect access to published ports.
fn is_engines(found: &Found<'_>, rule: &Rule) -> bool {
    let bridges = &found.published.bridges;
    let is_bridge = |name: &str| is_containers(name) || bridges.contains(name);
    rule.as_engine_accept().is_some() || rule.is_engine_isolation(is_bridge)
}

/// Returns warnings about denials that no packet to a published port reaches.
pub(super) fn unreached(found: &Found<'_>, family: Family) -> Vec<Diagnostic> {
    let mut met: BTreeSet<usize> = BTreeSet::new();
    for verdict in found
        .ports
        .iter()
        .filter_map(|port| port.verdicts.get(&family))
    {
        let trail = &verdict.trail;
        met.extend(trail.dropping.iter().chain(&trail.rejecting));
        met.extend(&trail.skipped);
    }
    let has_nat = found.dump.table(family, "nat").is_some();
    let help = if has_nat {
        "packets to published ports get their verdict before this rule, or it matches other packets, or its \
         container does not run: if you need it, add it to the policy, or keep the rule"
            .to_owned()
    } else {
        format!(
            "without the table `nat` of {}, its published ports are unknown: add the whole output of `{}`, or \
             keep the rule",
            family.title(),
            program(family)
        )
    };
    found
        .rules(family)
        .filter(|(number, rule)| {
            rule.denies()
                && !met.contains(number)
                && rule.is_about_ports()
                && !is_engines(found, rule)
        })
        .map(|(_, rule)| {
            Diagnostic::warning(
                "not-reached",
                "this denial is not in the policy: it concerns no published port",
            )
            .at(rule.span.clone(), "not imported")
            .help(help.clone())
        })
        .collect()
}

/// Returns warnings about ports that FORWARD's policy closes because no rule accepts their packets.
pub(super) fn denied_by_policy(found: &Found<'_>, family: Family) -> Vec<Diagnostic> {
    let mut closed: BTreeMap<usize, Vec<HostPorts>> = BTreeMap::new();
    let tables = found
        .dump
        .tables
        .iter()
        .filter(|((of, _), _)| *of == family);
    let policies: BTreeSet<_> = tables
        .flat_map(|(_, chains)| chains.values().filter_map(|chain| chain.policy))
        .collect();
    for port in found.ports.iter().filter(|port| port.is_published()) {
        let Some(verdict) = port.verdicts.get(&family) else {
            continue;
        };
        let dropped = verdict.trail.dropping.intersection(&policies);
        for policy in dropped.filter(|_| verdict.allowed.is_empty() && !verdict.trail.lost) {
            closed.entry(*policy).or_default().push(port.host);
        }
    }
    let remark = |(policy, ports): (usize, Vec<HostPorts>)| {
        let rule = found.dump.rules.get(policy)?;
        let message = format!(
            "closed to everyone, because this chain policy drops packets that no rule accepts: {}",
            ports_text(&ports)
        );
        Some(
            Diagnostic::warning("dropped-by-policy", message)
                .at(rule.span.clone(), "drops")
                .help(
                    "no rule of an engine accepts packets to these published ports (Docker with `\"iptables\": \
                     false`, an engine that does not run, an incomplete dump); the policy closes them, so add \
                     the sources to allow",
                ),
        )
    };
    closed.into_iter().filter_map(remark).collect()
}
