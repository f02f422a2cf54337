//! What should be known before the policy is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::mistake::{breaks_egress, ports_of_containers, uncalled};
use super::port::Port;
use super::published::HostPort;
use super::rule::{Family, Kind, Target};
use super::unfollowed::not_understood;
use super::verdict::Judge;
use super::write::has_private;
use crate::diagnostic::{Diagnostic, quoted};
use crate::policy::address::AddressSet;

/// How many ports are named in one sentence.
const NAMED: usize = 10;

/// Everything worth a word.
pub(super) fn all(judge: &Judge<'_>, ports: &[Port]) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    if !ports.iter().any(Port::is_published) {
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
    remarks.extend(unpublished(judge, ports));
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
pub(super) fn ports_text(ports: &[HostPort]) -> String {
    let word = if ports.len() == 1 { "port" } else { "ports" };
    format!("{word} {}", listed(ports.iter().copied()))
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
    let stricter = |port: &&Port| {
        port.is_published() && port.verdicts.values().any(|verdict| verdict.stricter)
    };
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

/// Ports that rules name and nothing publishes.
fn unpublished(judge: &Judge<'_>, ports: &[Port]) -> Vec<Diagnostic> {
    let left_out = ports.iter().filter(|port| !port.is_published());
    let rule = |port: &Port| {
        let way = port.ways.values().next()?;
        let rule = judge.dump.rules.get(way.rule)?;
        let message = format!(
            "nothing publishes {} at the moment",
            ports_text(&[port.host])
        );
        Some(
            Diagnostic::warning("unpublished", message)
                .at(rule.span.clone(), "named here")
                .help(
                    "it is in the policy as a comment only, as a key would judge a service of the \
                     host at this port too",
                ),
        )
    };
    left_out.filter_map(rule).collect()
}

fn private(ports: &[Port]) -> Option<Diagnostic> {
    let open = |port: &&Port| has_private(port);
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
            port.is_published()
                && !other
                && !port.ways.contains_key(&family)
                && !port.who.any
                && set
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
