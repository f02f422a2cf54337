//! The policy's own `tests:`, answered by the evaluator: no kernel, no host.
//!
//! Whether a policy means what its author expects must not depend on where that is asked, so the
//! policy is compiled for a host of which only Docker's own bridge is known.

use crate::net::{HostPorts, Protocol};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::analysis::eval::{Connection, Decision, Flow, Outgoing, Packet, Trace, evaluate};
use crate::compile;
use crate::diagnostic::Diagnostic;
use crate::host::HostView;
use crate::policy::{DefaultAction, Expectation, From, Policy, PortPolicy};
use crate::ruleset::{Direction, Hook, L4Protocol, Origin, Ruleset};
use crate::source::Span;

/// The bridge of Docker's first network.
const BRIDGE: &str = "docker0";
/// Where clients come in if the port does not care.
const OUTSIDE: &str = "eth0";

/// What has become of the expectations of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were met.
    pub passed: usize,
    /// Those that were not, in the order of the policy.
    pub failed: Vec<Failed>,
}

/// An expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The expectation.
    pub expectation: Expectation,
    /// Where it was not met.
    pub door: Door,
    /// The way that the packet took there.
    pub trace: Trace,
    /// What to tell the user.
    pub diagnostic: Diagnostic,
}

/// A way to a port of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A published port, translated to a container's address.
    Published,
    /// A socket of the host: docker-proxy, or a container in the host's network.
    Host,
}

/// Tries every expectation of a policy. `origin` says where a span of the policy is written.
#[must_use]
pub fn run(policy: &Policy, origin: &dyn Fn(&Span) -> Origin) -> Report {
    let mut report = Report::default();
    if policy.tests.is_empty() {
        return report;
    }
    let host = HostView {
        container_bridges: BTreeSet::from([BRIDGE.to_owned()]),
        ..HostView::default()
    };
    let ruleset = compile::compile(policy, &host, origin);
    for expectation in &policy.tests {
        let case = Case::new(policy, expectation);
        match case.first_wrong(&ruleset) {
            None => report.passed += 1,
            Some((door, trace)) => report.failed.push(Failed {
                expectation: expectation.clone(),
                door,
                diagnostic: case.diagnostic(door, &trace, &ruleset, origin),
                trace,
            }),
        }
    }
    report
}

/// An expectation, made into packets.
struct Case<'a> {
    policy: &'a Policy,
    expectation: &'a Expectation,
    flow: Flow,
    /// What the policy says about the port, if anything.
    named: Option<(&'a HostPorts, &'a PortPolicy)>,
}

impl<'a> Case<'a> {
    fn new(policy: &'a Policy, expectation: &'a Expectation) -> Self {
        let Expectation { from, to, .. } = expectation;
        let v4 = match (from, to.address) {
            (From::Address(from), _) => from.is_ipv4(),
            (From::Containers, to) => to.is_none_or(|to| to.is_ipv4()),
        };
        let destination = to.address.unwrap_or_else(|| ordinary_address(policy, v4));
        let source = match (from, v4) {
            (From::Address(from), _) => *from,
            (From::Containers, true) => Ipv4Addr::new(172, 17, 0, 2).into(),
            (From::Containers, false) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(),
        };
        let named = policy
            .ports
            .iter()
            .filter(|(key, _)| {
                key.address.is_none_or(|address| address == destination)
                    && key.protocol == to.protocol
                    && (key.first..=key.last).contains(&to.first)
            })
            .min_by_key(|(key, _)| (key.address.is_none(), key.last - key.first));
        Self {
            policy,
            expectation,
            flow: Flow {
                source,
                destination,
                port: Some(to.first),
            },
            named,
        }
    }

    /// The first door at which the expectation is not met.
    fn first_wrong(&self, ruleset: &Ruleset) -> Option<(Door, Trace)> {
        // The host's own sockets are not dfw's business unless the policy names their port.
        let host = self.named.map(|_| Door::Host);
        [Some(Door::Published), host]
            .into_iter()
            .flatten()
            .map(|door| (door, evaluate(ruleset, &self.packet(door))))
            .find(|(_, trace)| (trace.decision == Decision::Accept) != self.expectation.allow)
    }

    fn packet(&self, door: Door) -> Packet {
        let incoming = match self.expectation.from {
            From::Containers => BRIDGE,
            From::Address(_) => self
                .named
                .and_then(|(_, port)| port.interfaces.first())
                .map_or(OUTSIDE, |name| name.as_str()),
        };
        let container = match self.flow.destination {
            IpAddr::V4(_) => Ipv4Addr::new(172, 17, 0, 3).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into(),
        };
        let published = door == Door::Published;
        Packet {
            hook: if published {
                Hook::Forward
            } else {
                Hook::Input
            },
            incoming: incoming.to_owned(),
            outgoing: published.then(|| Outgoing {
                name: BRIDGE.to_owned(),
                bridge: true,
            }),
            protocol: match self.expectation.to.protocol {
                Protocol::Tcp => L4Protocol::Tcp,
                Protocol::Udp => L4Protocol::Udp,
                Protocol::Sctp => L4Protocol::Sctp,
            },
            flow: Flow {
                destination: if published {
                    container
                } else {
                    self.flow.destination
                },
                ..self.flow
            },
            connection: published.then_some(Connection {
                direction: Direction::Original,
                dnat: true,
                related: false,
                original: self.flow,
            }),
            source_port: None,
            returns: false,
            resumes: false,
            opened: false,
        }
    }

    fn diagnostic(
        &self,
        door: Door,
        trace: &Trace,
        ruleset: &Ruleset,
        origin: &dyn Fn(&Span) -> Origin,
    ) -> Diagnostic {
        let Expectation {
            from, to, allow, ..
        } = self.expectation;
        let who = match from {
            From::Address(address) => format!("`{address}` is"),
            From::Containers => "containers are".to_owned(),
        };
        let (done, expected) = if *allow {
            ("refused", "allow")
        } else {
            ("let through", "deny")
        };
        let place = match door {
            Door::Published => "",
            Door::Host => " on a socket of the host",
        };
        let mut diagnostic = Diagnostic::error(
            "expectation-failed",
            format!("{who} {done} at port {to}{place}"),
        )
        .at(
            self.expectation.origin.clone(),
            format!("`expect: {expected}`"),
        );
        if let Some(span) = self.behind(trace, origin) {
            diagnostic = diagnostic.related(span, format!("{done} by this"));
        }
        if trace.steps.is_empty() {
            diagnostic = diagnostic.note("no rule of dfw has anything to say");
        }
        for step in &trace.steps {
            diagnostic = diagnostic.note(step.describe(ruleset));
        }
        diagnostic.help(self.advice())
    }

    /// The line of the policy that decided.
    fn behind(&self, trace: &Trace, origin: &dyn Fn(&Span) -> Origin) -> Option<Span> {
        let Some(step) = trace.steps.last() else {
            // Where no rule has anything to say, `default: allow` has said it.
            return Some(self.policy.default_origin.clone());
        };
        let comment = step.comment.as_ref()?;
        // Several ports may be written on one line: first the one that is meant.
        let ports = self.named.into_iter().map(|(_, port)| port);
        ports
            .chain(self.policy.ports.values())
            .map(|port| &port.origin)
            .chain([&self.policy.default_origin])
            .find(|span| compile::comment(&origin(span)) == *comment)
            .cloned()
    }

    fn advice(&self) -> String {
        let Expectation {
            from, to, allow, ..
        } = self.expectation;
        let source = match from {
            From::Address(address) => address.to_string(),
            From::Containers => "containers".to_owned(),
        };
        let Some((key, port)) = self.named else {
            return match (allow, self.policy.default) {
                (true, _) => {
                    format!("write below `ports:` who may reach it, such as `{to}: [{source}]`")
                }
                (false, DefaultAction::Allow) => {
                    format!("write below `ports:` who may reach it, such as `{to}: []` for nobody")
                }
                (false, DefaultAction::Deny) => {
                    "containers reach every port that does not name them in its `except`".to_owned()
                }
            };
        };
        let excepted = match from {
            From::Containers => port.except.containers,
            From::Address(address) => {
                let named = port.except.named.iter();
                let mut sets = named.filter_map(|name| self.policy.sources.get(name));
                port.except.inline.contains(*address)
                    || sets.any(|source| source.addresses.contains(*address))
            }
        };
        match (allow, excepted) {
            (true, true) => format!("take `{source}` out of the `except` of port {key}"),
            (true, false) => format!("add `{source}` to the `allow` of port {key}"),
            (false, _) => format!("add `{source}` to the `except` of port {key}"),
        }
    }
}

/// An address of the host that no key of the policy names.
fn ordinary_address(policy: &Policy, v4: bool) -> IpAddr {
    let named: BTreeSet<_> = policy.ports.keys().filter_map(|key| key.address).collect();
    let address = |n: u32| -> IpAddr {
        if v4 {
            Ipv4Addr::from(0xcb00_710a_u32.wrapping_add(n)).into()
        } else {
            let first = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
            Ipv6Addr::from(first + u128::from(n)).into()
        }
    };
    (0..u32::MAX)
        .map(address)
        .find(|address| !named.contains(address))
        .unwrap_or_else(|| address(0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy;
    use crate::source::Sources;

    /// What is said of expectations that are not met, in the order of the text: the door, the
    /// message, and the text that decided.
    fn unmet(text: &str) -> (usize, Vec<(Door, String, Option<String>)>) {
        let mut sources = Sources::in_memory([("a.yaml", text)]);
        let files = sources.read_policies(Path::new("a.yaml")).unwrap();
        let policy = policy::read(&mut sources, &files).unwrap().0;
        let report = run(&policy, &|span| Origin {
            file: "a.yaml".to_owned(),
            line: sources.line_column(span).0,
        });
        let failed = report.failed.into_iter().map(|failed| {
            let diagnostic = failed.diagnostic;
            let behind = diagnostic.related.first().map(|label| &label.span);
            (
                failed.door,
                diagnostic.message,
                behind.map(|span| text[span.range()].to_owned()),
            )
        });
        (report.passed, failed.collect())
    }

    const PORTS: &str = "default: deny
sources: {office: [203.0.113.0/24, 2001:db8::/32]}
ports:
  80: [office]
  5432: {allow: [office], except: [203.0.113.66, containers], interface: [wan0, lan0]}
  8000-8010: any
  8005: []
  203.0.113.10:80: []
";

    #[test]
    fn what_the_policy_says_is_as_expected() {
        let tests = "tests:
  - {from: 203.0.113.9, to: 80, expect: allow}
  - {from: 203.0.113.9, to: 203.0.113.10:80, expect: deny}
  - {from: 192.0.2.1, to: 80, expect: deny}
  - {from: 2001:db8::5, to: 5432, expect: allow}
  - {from: 203.0.113.66, to: 5432, expect: deny}
  - {from: containers, to: 5432, expect: deny}
  - {from: containers, to: 80, expect: allow}
  - {from: 192.0.2.1, to: 8010, expect: allow}
  - {from: 192.0.2.1, to: 8005, expect: deny}
  - {from: 192.0.2.1, to: 80/udp, expect: deny}
";
        assert_eq!(unmet(&format!("{PORTS}{tests}")), (10, vec![]));
    }

    #[test]
    fn what_is_not_met_leads_to_the_line_behind_it() {
        let tests = "tests:
  - {from: 203.0.113.9, to: 80, expect: deny}
  - {from: 203.0.113.9, to: 203.0.113.10:80, expect: allow}
  - {from: 192.0.2.1, to: 443, expect: allow}
  - {from: containers, to: 443, expect: deny}
";
        let (passed, failed) = unmet(&format!("{PORTS}{tests}"));
        let of = |message: &str, behind: Option<&str>| {
            let behind = behind.map(str::to_owned);
            (Door::Published, message.to_owned(), behind)
        };
        assert_eq!(passed, 0);
        assert_eq!(
            failed,
            [
                of("`203.0.113.9` is let through at port 80/tcp", Some("80")),
                of(
                    "`203.0.113.9` is refused at port 203.0.113.10:80/tcp",
                    Some("203.0.113.10:80")
                ),
                of("`192.0.2.1` is refused at port 443/tcp", Some("default")),
                of("containers are let through at port 443/tcp", None),
            ]
        );
    }

    #[test]
    fn ports_that_are_not_named_are_left_to_docker_by_default_allow() {
        let text = "default: allow\ntests:\n  - {from: 192.0.2.1, to: 443, expect: deny}\n";
        let (_, failed) = unmet(text);
        assert_eq!(failed[0].2.as_deref(), Some("default"));
    }
}
