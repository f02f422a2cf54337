//! What should be known before the policy is used.

use crate::net::{Family, HostPorts};
use std::collections::BTreeSet;

use super::found::{Found, ports_text};
use super::judge::Judge;
use super::mistake::{breaks_egress, ports_of_containers, uncalled};
use super::port::{Port, has_private};
use super::rule::program;
use super::unfollowed::{dead, denied_by_policy, not_understood, unreached};
use crate::text::diagnostic::Diagnostic;

/// Returns all remarks.
pub(super) fn all(found: &Found<'_>, judge: &Judge<'_>) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    for &family in found.paths.keys() {
        remarks.extend(uncalled(found, family));
        remarks.extend(dead(found, family));
        remarks.extend(not_understood(found, family));
        remarks.extend(ports_of_containers(found, family));
        remarks.extend(breaks_egress(found, judge, family));
        remarks.extend(denied_by_policy(found, family));
    }
    remarks.extend(translations(found));
    remarks.extend(unpublished(found));
    let line = |remark: &Diagnostic| {
        let label = remark.primary.as_ref()?;
        Some((label.span.file, found.sources.line_column(&label.span).0))
    };
    let lines: BTreeSet<_> = remarks.iter().filter_map(line).collect();
    for &family in found.paths.keys() {
        let others = unreached(found, family);
        let new = others.into_iter().filter(|remark| {
            let line = line(remark);
            line.is_none_or(|line| !lines.contains(&line))
        });
        remarks.extend(new);
    }
    remarks.extend(interfaces(found.ports));
    remarks.extend(private(found.ports));
    remarks.extend(families(found));
    remarks.extend(lost(found.ports));
    remarks
}

/// Returns the error about dumps without a published port.
pub(super) fn nothing_published() -> Diagnostic {
    Diagnostic::warning("nothing-published", "no published port in these dumps")
        .help(
            "include the table `nat` in the dump, while the containers run: it maps ports of the host to \
             ports of containers",
        )
        .help(
            "Docker's nftables backend does not use iptables; add its ports to the policy yourself",
        )
}

fn translations(found: &Found<'_>) -> impl Iterator<Item = Diagnostic> {
    let numbers = found.published.left_out.iter().map(|(_, number)| number);
    found.dump.rules_of(numbers).map(|(_, rule)| {
        Diagnostic::warning("translation", "this translation is not imported")
            .at(rule.span.clone(), "not imported")
            .help(
                "dfw imports DNAT rules of container engines: `-p PROTOCOL --dport PORT -j DNAT \
                 --to-destination ADDRESS:PORT`, optionally with `-d ADDRESS` and `! -i BRIDGE`; with \
                 other conditions, the port can belong to a service of the host",
            )
            .help(
                "`default: deny` closes the port; if a container publishes it, add it to the policy",
            )
    })
}

/// Returns the warning about ports that other interfaces open wider.
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
                "the rules depend on interfaces, the policy is stricter: {}",
                ports_text(&ports)
            ),
        )
        .help(
            "the policy allows on every interface only what the strictest rule accepts; add sources of \
             interfaces that were open",
        )
    })
}

/// Returns warnings about ports that rules match and nothing publishes.
fn unpublished(found: &Found<'_>) -> Vec<Diagnostic> {
    let mut named: std::collections::BTreeMap<usize, Vec<HostPorts>> =
        std::collections::BTreeMap::new();
    for port in found.ports {
        if let Some(rule) = port.named {
            named.entry(rule).or_default().push(port.host);
        }
    }
    let remark = |(rule, ports): (usize, Vec<HostPorts>)| {
        let rule = found.dump.rules.get(rule)?;
        let message = format!("not published: {}", ports_text(&ports));
        let help = if ports.len() == 1 {
            "the policy has it only as a comment, because an entry would also filter a service of the \
             host on this port"
        } else {
            "the policy has them only as comments, because entries would also filter services of the \
             host on these ports"
        };
        Some(
            Diagnostic::warning("unpublished", message)
                .at(rule.span.clone(), "in this rule")
                .help(help),
        )
    };
    named.into_iter().filter_map(remark).collect()
}

fn private(ports: &[Port]) -> Option<Diagnostic> {
    let open = |port: &&Port| has_private(port);
    let ports: Vec<_> = ports.iter().filter(open).map(|port| port.host).collect();
    (!ports.is_empty()).then(|| {
        Diagnostic::warning(
            "private-addresses",
            format!("all private addresses are allowed, as by the rules: {}", ports_text(&ports)),
        )
        .help(
            "ufw-docker accepts 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 on every port; containers of \
             this host do not need that, so remove these sources unless others do",
        )
    })
}

/// Returns warnings about ports whose dump of one family is missing.
fn families(found: &Found<'_>) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    for family in Family::ALL {
        let unseen = |port: &&Port| {
            let address = port.host.address;
            let other = address.is_some_and(|a| a.is_ipv4() != (family == Family::V4));
            port.is_published() && !other && !port.verdicts.contains_key(&family)
        };
        let (closed, open): (Vec<_>, Vec<_>) =
            found.ports.iter().filter(unseen).partition(|port| {
                let none = match family {
                    Family::V4 => port.who.allow.v4().is_empty(),
                    Family::V6 => port.who.allow.v6().is_empty(),
                };
                !port.who.any && none
            });
        let hosts = |ports: Vec<&Port>| ports.iter().map(|port| port.host).collect::<Vec<_>>();
        let (closed, open) = (hosts(closed), hosts(open));
        let seen = found.dump.has(family);
        let (name, program) = (family.title(), program(family));
        if !closed.is_empty() {
            remarks.push(unseen_and_closed(name, program, seen, &closed));
        }
        if !open.is_empty() && !seen {
            let message = format!(
                "{name} is not in the dumps, and is open: {}",
                ports_text(&open)
            );
            remarks.push(Diagnostic::warning("family-unseen", message).help(format!(
                "`any` covers both families, and denials of {name} are not in the policy: add the output of \
                 `{program}`"
            )));
        }
    }
    remarks
}

fn unseen_and_closed(name: &str, program: &str, seen: bool, ports: &[HostPorts]) -> Diagnostic {
    let ports = ports_text(ports);
    if seen {
        let message = format!("{name} is closed, because no rule publishes it: {ports}");
        Diagnostic::warning("family-unpublished", message).help(format!(
            "docker-proxy may serve these ports over {name} now; to keep that, add {name} sources to the policy"
        ))
    } else {
        let message = format!("{name} is not in the dumps, and is closed: {ports}");
        Diagnostic::warning("family-unseen", message).help(format!(
            "these ports are probably open over {name} now, by docker-proxy or other rules; add the output of \
             `{program}`"
        ))
    }
}

fn lost(ports: &[Port]) -> Option<Diagnostic> {
    let lost = |port: &&Port| port.verdicts.values().any(|verdict| verdict.trail.lost);
    let ports: Vec<_> = ports.iter().filter(lost).map(|port| port.host).collect();
    (!ports.is_empty()).then(|| {
        Diagnostic::warning(
            "endless",
            format!(
                "the chains are nested too deeply or form a jump loop: {}",
                ports_text(&ports)
            ),
        )
        .help("the policy denies everybody at these ports")
    })
}
