//! Whether the rules of a candidate let the replies of the server in, before they come into force.
//!
//! Replies to connections that are tracked always pass: no policy denies them. Those that another program has excluded
//! from tracking (`notrack`) are judged by their port, as the rules cannot tell them from strangers' packets.

use std::path::Path;
use std::sync::Arc;

use crate::analysis::eval::{Decision, Flow, Packet, evaluate};
use crate::analysis::judgement;
use crate::fetch::site::{self, Probed, Way};
use crate::host::docker::Unanswered;
use crate::host::engine::Engine;
use crate::kernel;
use crate::policy::DefaultAction;
use crate::ruleset::{Hook, L4Protocol, Ruleset};
use crate::site::{HostFacts, Sockets};
use crate::store::Policies;

/// A candidate, and what its rules depend on.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) policies: Arc<Policies>,
    pub(super) engines: Vec<Engine>,
    pub(super) unanswered: Vec<Unanswered>,
}

impl Proof {
    /// Returns why the server is certainly not reached through the rules of the candidate; `None` if it may be, or if
    /// it cannot be told.
    pub(super) fn objection(self, way: &Way) -> Option<String> {
        // The rules in force track connections, so that only those are not tracked that are excluded from it.
        if kernel::is_tracked(way.host, way.server).unwrap_or(true) {
            return None;
        }
        let facts = facts(&self.policies, self.engines, self.unanswered).ok()?;
        let route = kernel::route_to(way.server.ip()).ok()??;
        let links = facts.links.iter();
        let link = links
            .into_iter()
            .find(|link| Some(link.index) == route.interface)?;
        let local = &facts.host.local_ports;
        let (first, last) = local.range()?;
        let is_usable = |port: &u16| {
            let mut reserved = local.reserved().iter();
            !reserved.any(|(first, last)| (first..=last).contains(&port))
        };
        let ports = (first..=last).filter(is_usable);
        let reason = closed(&self.policies.compile(&facts.host), way, &link.name, ports)?;
        let server = way.server;
        Some(format!(
            "it would cut this host off from the server {server}: {reason} denies its replies at every port that this \
             host opens connections from, and they are not tracked (`notrack`)"
        ))
    }
}

/// The answer of the fetcher to a probe.
#[derive(Debug)]
pub(in crate::guard) struct Answer {
    pub(super) probed: Probed,
    /// Why the server is certainly not reached through the rules of the candidate.
    pub(super) objection: Option<String>,
}

impl Answer {
    /// Reads the answer, and judges the candidate by it if it is the one that was asked for.
    pub(super) fn read(cache: &Path, asked: Option<String>, proof: Option<Proof>) -> Option<Self> {
        let probed = site::probed(cache)?;
        let is_asked = asked.is_some_and(|asked| asked == probed.probe);
        let way = probed.way.filter(|_| is_asked && probed.failure.is_none());
        let objection = proof
            .zip(way)
            .and_then(|(proof, way)| proof.objection(&way));
        Some(Self { probed, objection })
    }
}

/// Reads what the rules of policies depend on.
pub(super) fn facts(
    policies: &Policies,
    engines: Vec<Engine>,
    unanswered: Vec<Unanswered>,
) -> Result<HostFacts, kernel::Error> {
    let sockets = match policies.policy.default {
        DefaultAction::Allow if !policies.asks_for_services() => Sockets::None,
        _ => Sockets::All,
    };
    HostFacts::with(engines, unanswered, sockets, &[])
}

/// Returns what denies packets of the server that are not tracked, if it does so at each of these ports.
fn closed(
    rules: &Ruleset,
    way: &Way,
    interface: &str,
    ports: impl Iterator<Item = u16>,
) -> Option<String> {
    let mut reason = None;
    for port in ports {
        let packet = Packet {
            hook: Hook::Input,
            incoming: interface.to_owned(),
            outgoing: None,
            protocol: L4Protocol::Tcp,
            flow: Flow {
                source: way.server.ip(),
                destination: way.host.ip(),
                port: Some(port),
            },
            arrival: None,
            source_port: Some(way.server.port()),
            connection: None,
            returns: false,
            strays: false,
            resumes: false,
            opened: false,
        };
        let trace = evaluate(rules, &packet);
        if trace.decision == Decision::Accept || trace.unknown {
            return None;
        }
        reason.get_or_insert_with(|| judgement::reason_of(&trace.steps));
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostView;
    use crate::text::SourceMap;

    fn rules(policy: &str) -> Ruleset {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yaml");
        std::fs::write(&path, format!("default: deny\n{policy}")).unwrap();
        let policies = Policies::read(SourceMap::default(), &path).unwrap();
        policies.compile(&HostView::default())
    }

    fn closed_by(policy: &str, (host, server): (&str, &str)) -> Option<String> {
        let way = Way {
            host: host.parse().unwrap(),
            server: server.parse().unwrap(),
        };
        closed(&rules(policy), &way, "eth0", 32768..=60999)
    }

    #[test]
    fn only_a_way_that_is_closed_at_each_port_is() {
        let v4 = ("192.0.2.2:40000", "203.0.113.1:443");
        let v6 = ("[2001:db8::2]:40000", "[2001:db8:1::1]:443");
        for way in [v4, v6] {
            for (policy, line) in [
                ("ports: {1024-65535: []}\n", Some("web.yaml:2")),
                (
                    "ports:\n  1024-50000: []\n  50001-61000: []\n",
                    Some("web.yaml:3"),
                ),
                ("ports: {1024-60000: []}\n", None),
                ("ports: {1024-65535: any}\n", None),
                (
                    "ports: {1024-65535: [203.0.113.1, '2001:db8:1::1']}\n",
                    None,
                ),
                ("ports: {443: []}\n", None),
                ("ports: {1024-65535/udp: []}\n", None),
            ] {
                let found = closed_by(policy, way);
                assert_eq!(found.as_deref(), line, "{policy} {way:?}");
            }
        }
    }
}
