//! Finds rules that do not do what their authors probably intended.

use crate::net::{Family, HostPorts};
use std::collections::{BTreeMap, BTreeSet};

use super::found::{Found, ports_text};
use super::judge::Judge;
use super::rule::{Kind, Match, PortRange, Rule, Target, WIDE, protocol_of, within};
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

/// Returns the warning about a chain DOCKER-USER without a jump to it.
pub(super) fn uncalled(found: &Found<'_>, family: Family) -> Option<Diagnostic> {
    let path = found.paths.get(&family)?;
    let (_, first) = found.dump.rules_of(&path.uncalled).next()?;
    Some(
        Diagnostic::warning(
            "uncalled",
            "no rule jumps to the chain DOCKER-USER: its rules have no effect",
        )
        .at(first.span.clone(), "no packet reaches this rule")
        .help("the policy denies what these rules would deny if FORWARD jumped to them"),
    )
}

/// Returns warnings about rules that match ports of containers where ports of the host were intended.
pub(super) fn ports_of_containers(found: &Found<'_>, family: Family) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    let mut shared: BTreeMap<(u16, BTreeSet<HostPorts>), Vec<&Rule>> = BTreeMap::new();
    let onward = found.paths.get(&family).map(|path| path.onward.as_slice());
    for (_, rule) in found.dump.rules_of(onward.unwrap_or_default()) {
        let Some(ranges) = rule.destination_ports() else {
            continue;
        };
        if matches!(rule.target, Target::Passive | Target::Log) {
            continue;
        }
        let narrow = ranges.iter().all(|(first, last)| last - first < WIDE);
        let engines = rule
            .matches
            .iter()
            .any(|found| matches!(found.kind, Kind::OriginalPorts(_)));
        if !narrow
            || engines
            || !rule.is_about_ports()
            || !found.ports.iter().any(|port| !port.ways.is_empty())
            || rule.as_engine_accept().is_some()
        {
            continue;
        }
        let touched = touched(found, family, rule, ranges);
        if touched.is_empty() {
            remarks.push(no_effect(found, family, rule, ranges));
        }
        for (inside, ports) in touched.into_iter().filter(|(_, ports)| ports.len() > 1) {
            shared.entry((inside, ports)).or_default().push(rule);
        }
    }
    let shared = shared.iter();
    remarks.extend(shared.filter_map(|((inside, ports), rules)| together(rules, *inside, ports)));
    remarks
}

/// Returns the published ports whose container ports are in `ranges`, by the container's port.
fn touched(
    found: &Found<'_>,
    family: Family,
    rule: &Rule,
    ranges: &[PortRange],
) -> BTreeMap<u16, BTreeSet<HostPorts>> {
    let mut touched: BTreeMap<u16, BTreeSet<HostPorts>> = BTreeMap::new();
    let ways = found.ports.iter().flat_map(|port| {
        let ways = port.ways.get(&family).into_iter().flatten();
        ways.map(|way| (&port.host, way))
    });
    for (port, way) in ways {
        let fits = rule.matches.iter().all(|found| match &found.kind {
            Kind::Protocol(name) => (protocol_of(name) == Some(port.protocol)) != found.negated,
            Kind::Destination(set) => way
                .container
                .is_none_or(|container| set.contains(container) != found.negated),
            _ => true,
        });
        if let Some(inside) = way.port.filter(|inside| fits && within(ranges, *inside)) {
            touched.entry(inside).or_default().insert(*port);
        }
    }
    touched
}

fn ports_span(rule: &Rule) -> Span {
    let ports = |found: &&Match| matches!(found.kind, Kind::DestinationPorts(_));
    let found = rule.matches.iter().find(ports);
    found.map_or_else(|| rule.span.clone(), |found| found.span.clone())
}

/// Returns the warning about the most common mistake: a rule behind DNAT that matches the host's port.
fn no_effect(found: &Found<'_>, family: Family, rule: &Rule, ranges: &[PortRange]) -> Diagnostic {
    let meant = found.ports.iter().find_map(|port| {
        let inside = port.ways.get(&family)?.first()?.port?;
        within(ranges, port.host.first).then_some((port.host, inside))
    });
    let remark = Diagnostic::warning(
        "no-effect",
        "this rule has no effect: no container listens on this port",
    );
    match meant {
        Some((port, inside)) => remark
            .at(
                ports_span(rule),
                format!("a port of the host, but this rule sees the container's port, {inside}"),
            )
            .help(format!(
                "it was probably intended for port {port} of the host, which DNAT rewrites to port {inside} \
                 of the container before this rule"
            ))
            .help(format!(
                "the policy does what the rules do, which may not be what was intended: check its entry for {port}"
            )),
        None => remark
            .at(ports_span(rule), "no published port leads to this port")
            .help("if its container does not run now, dump again when it does"),
    }
}

/// Returns the warning about rules for a container port that several ports of the host lead to.
fn together(rules: &[&Rule], inside: u16, ports: &BTreeSet<HostPorts>) -> Option<Diagnostic> {
    let (first, others) = rules.split_first()?;
    let ports: Vec<_> = ports.iter().copied().collect();
    let message = format!(
        "rules for one port of containers cover {} ports of the host",
        ports.len()
    );
    let remark = Diagnostic::warning("together", message)
        .at(ports_span(first), "the container's port")
        .help(format!(
            "{} all lead to port {inside} of a container; in the policy each has its own entry",
            ports_text(&ports)
        ));
    Some(others.iter().fold(remark, |remark, rule| {
        remark.related(ports_span(rule), "here too")
    }))
}

/// Returns warnings about rules that also deny replies to containers.
pub(super) fn breaks_egress(
    found: &Found<'_>,
    judge: &Judge<'_>,
    family: Family,
) -> Vec<Diagnostic> {
    let denying = judge.denies_answers(family);
    found
        .dump
        .rules_of(&denying)
        .map(|(_, rule)| {
            Diagnostic::warning(
                "breaks-egress",
                "this rule also denies replies to connections that containers open",
            )
            .at(rule.span.clone(), "replies match, too")
            .help("the policy does not: dfw accepts replies to containers")
        })
        .collect()
}
