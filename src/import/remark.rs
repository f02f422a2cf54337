//! What should be known before the policy is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::port::Port;
use super::published::HostPort;
use super::rule::{Family, Kind, PortRange, Rule, Target, within};
use super::verdict::{Judge, WIDE};
use super::write::has_private;
use crate::diagnostic::{Diagnostic, quoted};
use crate::policy::address::AddressSet;
use crate::source::Span;

/// How many ports are named in one sentence.
const NAMED: usize = 10;

/// Everything worth a word.
pub(super) fn all(judge: &Judge<'_>, ports: &[Port]) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    if judge.published.is_empty() {
        remarks.push(nothing_published());
    }
    for family in judge.bases.keys() {
        remarks.extend(uncalled(judge, *family));
        remarks.extend(not_understood(judge, *family, ports));
        remarks.extend(ports_of_containers(judge, *family));
        remarks.extend(breaks_egress(judge, *family));
    }
    remarks.extend(other_tables(judge));
    remarks.extend(interfaces(ports));
    remarks.extend(private(ports));
    remarks.extend(families(judge, ports));
    remarks.extend(lost(ports));
    remarks
}

fn nothing_published() -> Diagnostic {
    Diagnostic::warning("nothing-published", "no published port in these dumps")
        .help(
            "dump the table `nat` too, while the containers run: only it tells which port of the \
             host leads to which port of a container",
        )
        .help(
            "Docker's nftables backend keeps its ports elsewhere; name them in the policy yourself",
        )
}

/// `80/tcp, 443/tcp and 2 more`.
fn listed(ports: impl IntoIterator<Item = HostPort>) -> String {
    let all: Vec<_> = ports
        .into_iter()
        .map(|port| port.key().to_string())
        .collect();
    let mut text = all
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if let more @ 1.. = all.len().saturating_sub(NAMED) {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// `port 80/tcp` or `ports 80/tcp, 443/tcp`.
fn ports_text(ports: &[HostPort]) -> String {
    let word = if ports.len() == 1 { "port" } else { "ports" };
    format!("{word} {}", listed(ports.iter().copied()))
}

/// A chain DOCKER-USER that nothing calls judges nothing.
fn uncalled(judge: &Judge<'_>, family: Family) -> Option<Diagnostic> {
    let base = judge.bases.get(&family)?;
    let (_, first) = judge.rules(family).next()?;
    base.uncalled.then(|| {
        Diagnostic::warning(
            "uncalled",
            "nothing calls the chain DOCKER-USER: its rules do nothing",
        )
        .at(first.span.clone(), "no packet comes here")
        .help("the policy does what these rules would do if FORWARD called them")
    })
}

/// Rules that were not followed, or never could be.
fn not_understood(judge: &Judge<'_>, family: Family, ports: &[Port]) -> Vec<Diagnostic> {
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
        (strange || missing) && !silent && is_about_ports(rule)
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

/// Whether the rule is about a protocol that has ports.
fn is_about_ports(rule: &Rule) -> bool {
    rule.matches.iter().all(|found| match &found.kind {
        Kind::Protocol(name) if !found.negated => {
            name == "all" || super::published::protocol_of(name).is_some()
        }
        _ => true,
    })
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
            "refusal-left-out",
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

/// Rules by whose numbers people and the kernel mean different ports.
fn ports_of_containers(judge: &Judge<'_>, family: Family) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    let mut shared: BTreeMap<(u16, BTreeSet<HostPort>), Vec<&Rule>> = BTreeMap::new();
    for (_, rule) in judge.rules(family) {
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
        if !narrow || engines || !is_about_ports(rule) || judge.published.is_empty() {
            continue;
        }
        let touched = touched(judge, family, rule, ranges);
        if touched.is_empty() {
            remarks.push(no_effect(judge, family, rule, ranges));
        }
        for (inside, ports) in touched.into_iter().filter(|(_, ports)| ports.len() > 1) {
            shared.entry((inside, ports)).or_default().push(rule);
        }
    }
    let shared = shared.iter();
    remarks.extend(shared.filter_map(|((inside, ports), rules)| together(rules, *inside, ports)));
    remarks
}

/// The published ports whose containers' ports are in `ranges`, by the container's port.
fn touched(
    judge: &Judge<'_>,
    family: Family,
    rule: &Rule,
    ranges: &[PortRange],
) -> BTreeMap<u16, BTreeSet<HostPort>> {
    let mut touched: BTreeMap<u16, BTreeSet<HostPort>> = BTreeMap::new();
    for (port, ways) in judge.published {
        let Some(way) = ways.get(&family) else {
            continue;
        };
        let fits = rule.matches.iter().all(|found| match &found.kind {
            Kind::Protocol(name) => {
                (super::published::protocol_of(name) == Some(port.protocol)) != found.negated
            }
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
    let ports = |found: &&super::rule::Match| matches!(found.kind, Kind::DestinationPorts(_));
    let found = rule.matches.iter().find(ports);
    found.map_or_else(|| rule.span.clone(), |found| found.span.clone())
}

/// The mistake of all mistakes: the number of the host's port in a rule that sees the container's.
fn no_effect(judge: &Judge<'_>, family: Family, rule: &Rule, ranges: &[PortRange]) -> Diagnostic {
    let meant = judge.published.iter().find_map(|(port, ways)| {
        let way = ways.get(&family)?;
        let inside = way.port?;
        within(ranges, port.number).then_some((*port, inside))
    });
    let remark = Diagnostic::warning(
        "no-effect",
        "this rule has no effect: no container listens on this port",
    );
    match meant {
        Some((port, inside)) => remark
            .at(
                ports_span(rule),
                format!("the port of the host; here it is the container's, {inside}"),
            )
            .help(format!(
                "it was probably written for port {} of the host, which leads to port {inside} of \
                 the container: the destination is rewritten before the rule sees the packet",
                port.key()
            ))
            .help(format!(
                "the policy does what the rules do, not what was meant: see what it says of {}",
                port.key()
            )),
        None => remark
            .at(ports_span(rule), "no published port leads here")
            .help("if its container does not run at the moment, dump again when it does"),
    }
}

/// Several ports of the host behind one of containers, and the rules about it.
fn together(rules: &[&Rule], inside: u16, ports: &BTreeSet<HostPort>) -> Option<Diagnostic> {
    let (first, others) = rules.split_first()?;
    let ports: Vec<_> = ports.iter().copied().collect();
    let message = format!(
        "rules about one port of containers are about {} of the host",
        ports.len()
    );
    let remark = Diagnostic::warning("together", message)
        .at(ports_span(first), "the container's port")
        .help(format!(
            "{} all lead to port {inside} of a container; in the policy each has a line of its own",
            ports_text(&ports)
        ));
    Some(others.iter().fold(remark, |remark, rule| {
        remark.related(ports_span(rule), "here too")
    }))
}

/// Rules that refuse what containers ask for, too.
fn breaks_egress(judge: &Judge<'_>, family: Family) -> Vec<Diagnostic> {
    let refusing = judge.refuses_answers(family);
    let rules = refusing
        .iter()
        .filter_map(|number| judge.dump.rules.get(*number));
    rules
        .map(|rule| {
            Diagnostic::warning(
                "breaks-egress",
                "this rule also refuses the answers to what containers ask other servers",
            )
            .at(rule.span.clone(), "answers come in here as well")
            .help("the policy does not do that: dfw lets the answers to containers pass")
        })
        .collect()
}

/// Refusals in tables of which nothing is imported.
fn other_tables(judge: &Judge<'_>) -> Vec<Diagnostic> {
    let containers = judge.published.values().flat_map(BTreeMap::values);
    let containers: BTreeSet<_> = containers.filter_map(|way| way.container).collect();
    let engines = |set: &AddressSet| {
        let loopback = [[127, 0, 0, 1]].map(std::net::IpAddr::from);
        containers
            .iter()
            .chain(&loopback)
            .any(|address| set.contains(*address))
    };
    let mut remarks = Vec::new();
    for ((_, table), chains) in &judge.dump.tables {
        if !["raw", "mangle"].contains(&table.as_str()) {
            continue;
        }
        for (_, rule) in chains
            .values()
            .flat_map(|numbers| judge.dump.rules_of(numbers))
        {
            let refuses = matches!(rule.target, Target::Drop | Target::Reject);
            let engines = rule.matches.iter().any(|found| match &found.kind {
                Kind::Destination(set) => engines(set),
                _ => false,
            });
            if refuses && !engines {
                remarks.push(
                    Diagnostic::warning(
                        "other-table",
                        format!("refusals of the table {} are not imported", quoted(table)),
                    )
                    .at(rule.span.clone(), "left out")
                    .help("it stays in force beside dfw as long as it is there"),
                );
            }
        }
    }
    remarks
}

/// Ports that are open wider through other interfaces.
fn interfaces(ports: &[Port]) -> Option<Diagnostic> {
    let stricter = |port: &&Port| port.verdicts.values().any(|verdict| verdict.stricter);
    let ports: Vec<_> = ports
        .iter()
        .filter(stricter)
        .map(|port| port.host)
        .collect();
    (!ports.is_empty()).then(|| {
        Diagnostic::warning(
            "interfaces",
            format!(
                "the rules look at interfaces, the policy is stricter: {}",
                ports_text(&ports)
            ),
        )
        .help(
            "the policy says the same of all interfaces, and of each no more than the strictest \
             rule lets in; where other interfaces were open, add who comes in there",
        )
    })
}

fn private(ports: &[Port]) -> Option<Diagnostic> {
    let open = |port: &&Port| has_private(&port.who);
    let ports: Vec<_> = ports.iter().filter(open).map(|port| port.host).collect();
    (!ports.is_empty()).then(|| {
        Diagnostic::warning(
            "private-addresses",
            format!("all private addresses get in, as by the rules: {}", ports_text(&ports)),
        )
        .help(
            "ufw-docker lets 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 in everywhere; containers \
             of this host get in without that, so take them out if nobody else needs them",
        )
    })
}

/// Ports of which one family was not looked at.
fn families(judge: &Judge<'_>, ports: &[Port]) -> Vec<Diagnostic> {
    let unseen = |family: Family| {
        let closed = |port: &&Port| {
            let other = port
                .host
                .address
                .is_some_and(|a| a.is_ipv4() != (family == Family::V4));
            let set = match family {
                Family::V4 => port.who.allow.v4().is_empty(),
                Family::V6 => port.who.allow.v6().is_empty(),
            };
            !other && !port.ways.contains_key(&family) && !port.who.any && set
        };
        ports
            .iter()
            .filter(closed)
            .map(|port| port.host)
            .collect::<Vec<_>>()
    };
    let mut remarks = Vec::new();
    for family in Family::BOTH {
        let ports = unseen(family);
        let name = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let program = family.program();
        if ports.is_empty() {
        } else if !judge.dump.has(family) {
            remarks.push(
                Diagnostic::warning(
                    "family-unseen",
                    format!(
                        "{name} was not looked at, and is closed: {}",
                        ports_text(&ports)
                    ),
                )
                .help(format!(
                    "without dfw these ports are probably open over {name}, by docker-proxy or by \
                     rules of their own; give the output of `{program}` too"
                )),
            );
        } else {
            remarks.push(
                Diagnostic::warning(
                    "family-unpublished",
                    format!(
                        "{name} is closed, as no rule publishes it: {}",
                        ports_text(&ports)
                    ),
                )
                .help(format!(
                    "docker-proxy may serve them over {name} without dfw; name {name} sources in \
                     the policy if it shall go on"
                )),
            );
        }
    }
    remarks
}

fn lost(ports: &[Port]) -> Option<Diagnostic> {
    let lost = |port: &&Port| port.verdicts.values().any(|verdict| verdict.trail.lost);
    let ports: Vec<_> = ports.iter().filter(lost).map(|port| port.host).collect();
    (!ports.is_empty()).then(|| {
        Diagnostic::warning(
            "endless",
            format!(
                "the chains cannot be followed to their end: {}",
                ports_text(&ports)
            ),
        )
        .help("they call each other too deep, or in a circle; the policy refuses everybody there")
    })
}
