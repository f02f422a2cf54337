//! The policy's own `tests:`, answered by the evaluator: no kernel, no host.
//!
//! Whether a policy means what its author expects must not depend on where that is asked, so the
//! policy is compiled for a host of which only Docker's own bridge is known. The one thing that a
//! known host adds: a service of its own at a port that no key covers, which no rule denies; and what is in
//! sources that depend on the host.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::compile;
use crate::host::HostView;
use crate::net::{Family, HostPorts, decisive};
use crate::policy::{
    DefaultAction, Expectation, NamedSource, OnHost, Policy, PortPolicy, SourceName, TestSource,
};
use crate::ruleset::{Origin, Ruleset};
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::eval::{Packet, Trace};
use super::find;
use super::judgement::{Judgement, Verdict, judge};
use super::path::{Kind, Path};
use super::surroundings::Surroundings;

/// The bridge of Docker's first network.
const BRIDGE: &str = "docker0";
/// Where clients come in if the port does not care.
const OUTSIDE: &str = "eth0";

/// The slug of a warning that an expectation is not judged because it depends on the host.
pub const DEPENDS_ON_HOST: &str = "depends-on-host";

/// What has become of the expectations of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were met.
    pub passed: usize,
    /// Those that were not, in the order of the policy.
    pub failed: Vec<Failed>,
    /// What is not judged: services of the host at ports that no key covers, of expectations that were
    /// met; and expectations that depend on a source of which only a host can tell what it holds.
    pub unjudged: Vec<Diagnostic>,
}

/// An expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The expectation.
    pub expectation: Expectation,
    /// Where it was not met.
    pub path: Path,
    /// What becomes of the packet there.
    pub judgement: Judgement,
    /// Its way through the rules.
    pub trace: Trace,
    /// What to tell the user.
    pub diagnostic: Diagnostic,
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
    let mut uncovered = BTreeSet::new();
    for expectation in &policy.tests {
        let case = Case::new(policy, expectation);
        let wrong = case.first_wrong(&ruleset);
        // What such a source adds may allow what is denied without it, and takes nothing away.
        let denied = wrong.is_some() == expectation.allow;
        if denied && let Some((name, source, on_host)) = case.depends_on() {
            report.unjudged.push(case.on_host(name, source, on_host));
            continue;
        }
        match wrong {
            None => {
                report.passed += 1;
                if case.named.is_none() && uncovered.insert(expectation.to) {
                    report.unjudged.push(case.uncovered());
                }
            }
            Some((path, judgement, trace)) => report.failed.push(Failed {
                expectation: expectation.clone(),
                diagnostic: case.diagnostic(&path, &trace, &ruleset, origin),
                path,
                judgement,
                trace,
            }),
        }
    }
    report
}

/// Whether services of the host make a difference to [`on_host`].
#[must_use]
pub fn asks_for_services(policy: &Policy) -> bool {
    let denied = policy.tests.iter().filter(|expected| !expected.allow);
    denied
        .into_iter()
        .any(|expected| Case::new(policy, expected).named.is_none())
}

/// The expectations that are not met on a known host, although they are on hosts in general: a service
/// listens at a port that no key covers, and is not denied; or the address is a container's own.
#[must_use]
pub fn on_host(policy: &Policy, host: &HostView, origin: &dyn Fn(&Span) -> Origin) -> Vec<Failed> {
    if policy.tests.is_empty() {
        return Vec::new();
    }
    // Who translates makes no difference to what listens.
    let around = Surroundings {
        nat: host.nat.clone(),
        ..Surroundings::default()
    };
    let sockets: Vec<Path> = find::paths(host, &around)
        .into_iter()
        .filter(|path| path.target.is_none())
        .collect();
    let ruleset = compile::compile(policy, host, origin);
    let mut failed = Vec::new();
    for expectation in &policy.tests {
        let case = Case::new(policy, expectation);
        if let Some(path) = case.to_container(host) {
            failed.extend(case.unmet(path, &ruleset, origin));
        } else if case.depends_on().is_some() {
            failed.extend(
                case.first_wrong(&ruleset)
                    .map(|(path, judgement, trace)| Failed {
                        expectation: expectation.clone(),
                        diagnostic: case.diagnostic(&path, &trace, &ruleset, origin),
                        path,
                        judgement,
                        trace,
                    }),
            );
        } else if case.named.is_none() && !expectation.allow {
            let reached = sockets.iter().filter(|path| case.leads(path)).cloned();
            let unmet = |path| case.unmet(path, &ruleset, origin);
            failed.extend(reached.into_iter().find_map(unmet));
        }
    }
    failed
}

/// An expectation, made into packets.
struct Case<'a> {
    policy: &'a Policy,
    expectation: &'a Expectation,
    source: IpAddr,
    destination: IpAddr,
    /// What the policy says about the port, if anything.
    named: Option<(&'a HostPorts, &'a PortPolicy)>,
}

impl<'a> Case<'a> {
    fn new(policy: &'a Policy, expectation: &'a Expectation) -> Self {
        let Expectation { from, to, .. } = expectation;
        let family = match (from, to.address) {
            (TestSource::Address(from), _) => Family::of(*from),
            (TestSource::Containers, to) => to.map_or(Family::V4, Family::of),
        };
        let destination = to
            .address
            .unwrap_or_else(|| ordinary_address(policy, family));
        let source = match (from, family) {
            (TestSource::Address(from), _) => *from,
            (TestSource::Containers, Family::V4) => Ipv4Addr::new(172, 17, 0, 2).into(),
            (TestSource::Containers, Family::V6) => {
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into()
            }
        };
        let asked = HostPorts {
            address: Some(destination),
            ..*to
        };
        let key = decisive(policy.ports.keys(), &asked);
        Self {
            policy,
            expectation,
            source,
            destination,
            named: key.and_then(|key| policy.ports.get_key_value(key)),
        }
    }

    /// The path to a container under its own address, if that is what is asked for.
    fn to_container(&self, host: &HostView) -> Option<Path> {
        let HostPorts {
            address,
            protocol,
            first,
            ..
        } = self.expectation.to;
        let mut endpoints = host.endpoints();
        let endpoint = endpoints.find(|endpoint| Some(endpoint.address) == address)?;
        Some(find::straight(&endpoint, protocol, Some(first), first))
    }

    /// Whether a path to a socket is one to what is asked for.
    fn leads(&self, path: &Path) -> bool {
        let to = self.expectation.to;
        let same_address = to
            .address
            .is_none_or(|address| path.address == address || path.address.is_unspecified());
        let same_family = match self.expectation.from {
            TestSource::Address(from) => path.family() == Family::of(from),
            TestSource::Containers => to.address.is_none_or(|to| path.family() == Family::of(to)),
        };
        path.protocol == to.protocol && path.port == Some(to.first) && same_address && same_family
    }

    /// What is told if the expectation is not met on a path of a known host.
    fn unmet(
        &self,
        path: Path,
        ruleset: &Ruleset,
        origin: &dyn Fn(&Span) -> Origin,
    ) -> Option<Failed> {
        let (judgement, trace) = judge(ruleset, &path, &self.packet(&path));
        if judgement.verdict() == self.wanted() {
            return None;
        }
        let diagnostic = if judgement.verdict() == Verdict::NotJudged {
            self.not_denied(&path)
        } else {
            self.diagnostic(&path, &trace, ruleset, origin)
        };
        Some(Failed {
            expectation: self.expectation.clone(),
            path,
            judgement,
            trace,
            diagnostic,
        })
    }

    fn wanted(&self) -> Verdict {
        if self.expectation.allow {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }

    /// The first path on which the expectation is not met.
    fn first_wrong(&self, ruleset: &Ruleset) -> Option<(Path, Judgement, Trace)> {
        let HostPorts {
            protocol, first, ..
        } = self.expectation.to;
        let container = match self.destination {
            IpAddr::V4(_) => Ipv4Addr::new(172, 17, 0, 3).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into(),
        };
        let path = |kind| Path::to_socket(kind, protocol, self.destination, first);
        let published = path(Kind::Dnat).to(container, first, Some(BRIDGE.to_owned()));
        // The host's own sockets are not dfw's business unless the policy names their port.
        let host = self.named.map(|_| path(Kind::Service));
        let wanted = self.wanted();
        [Some(published), host]
            .into_iter()
            .flatten()
            .map(|path| {
                let (judgement, trace) = judge(ruleset, &path, &self.packet(&path));
                (path, judgement, trace)
            })
            .find(|(_, judgement, _)| judgement.verdict() != wanted)
    }

    fn packet(&self, path: &Path) -> Packet {
        let incoming = match self.expectation.from {
            TestSource::Containers => BRIDGE,
            TestSource::Address(_) => self
                .named
                .and_then(|(_, port)| port.interfaces.first())
                .map_or(OUTSIDE, |name| name.as_str()),
        };
        path.packet(self.source, incoming, self.destination)
    }

    fn who(&self) -> String {
        match self.expectation.from {
            TestSource::Address(address) => format!("`{address}` is"),
            TestSource::Containers => "containers are".to_owned(),
        }
    }

    /// The source that the judgement depends on and that only a host can tell of, if there is one.
    fn depends_on(&self) -> Option<(&'a SourceName, &'a NamedSource, &'a OnHost)> {
        let (_, port) = self.named?;
        let TestSource::Address(address) = self.expectation.from else {
            return None;
        };
        if self.excepts(port, address) {
            return None;
        }
        let mut sources = self.policy.on_host();
        sources.find(|(name, ..)| port.allow.named.contains(*name))
    }

    /// Whether a port excepts an address.
    fn excepts(&self, port: &PortPolicy, address: IpAddr) -> bool {
        let named = port.except.named.iter();
        let mut sets = named.filter_map(|name| self.policy.sources.get(name));
        port.except.inline.contains(address)
            || sets.any(|source| source.addresses.contains(address))
    }

    /// That it depends on the host.
    fn on_host(&self, name: &SourceName, source: &NamedSource, on_host: &OnHost) -> Diagnostic {
        let (to, who) = (self.expectation.to, self.who());
        let message =
            format!("{who} not judged at port {to}: only the host knows what `{name}` holds");
        Diagnostic::warning(DEPENDS_ON_HOST, message)
            .at(self.expectation.origin.clone(), "not judged here")
            .related(source.origin.clone(), on_host.describe())
            .help("`dfw plan` and `dfw apply` judge it where the policy is to hold")
    }

    /// That services of the host are left out.
    fn uncovered(&self) -> Diagnostic {
        let Expectation {
            to, allow, origin, ..
        } = self.expectation;
        let help = if *allow {
            format!(
                "write below `ports:` who may reach it, such as `{}: any`",
                key_text(to)
            )
        } else {
            format!(
                "write `{}: []` to close the number for host services too",
                key_text(to)
            )
        };
        Diagnostic::warning(
            "container-paths-only",
            format!("container paths only: no key covers port {to}"),
        )
        .at(origin.clone(), "a service of the host there is not judged")
        .help(help)
    }

    /// That a service of the host is not denied.
    fn not_denied(&self, path: &Path) -> Diagnostic {
        let Expectation { to, origin, .. } = self.expectation;
        Diagnostic::error(
            "expectation-failed",
            format!(
                "{} not judged at port {to}: {} listens there, a service of the host",
                self.who(),
                path.title
            ),
        )
        .at(origin.clone(), "`expect: deny`")
        .note("dfw judges services of the host only at ports that a key covers")
        .help(format!(
            "write below `ports:` who may reach it, such as `{}: [ADDRESS]`; everybody else is then \
             denied",
            key_text(to)
        ))
    }

    fn diagnostic(
        &self,
        path: &Path,
        trace: &Trace,
        ruleset: &Ruleset,
        origin: &dyn Fn(&Span) -> Origin,
    ) -> Diagnostic {
        let Expectation { to, allow, .. } = self.expectation;
        let who = self.who();
        let (done, expected) = if *allow {
            ("denied", "allow")
        } else {
            ("allowed", "deny")
        };
        let place = match path.kind {
            Kind::Service if path.title.is_empty() => " on a socket of the host".to_owned(),
            Kind::Service | Kind::HostNetwork | Kind::Proxy | Kind::Held => {
                format!(" by {} to {}", path.kind.title(), path.title)
            }
            Kind::Container => format!(", which is {}'s own address", path.title),
            _ => String::new(),
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
            TestSource::Address(address) => address.to_string(),
            TestSource::Containers => "containers".to_owned(),
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
            TestSource::Containers => port.except.containers,
            TestSource::Address(address) => self.excepts(port, *address),
        };
        match (allow, excepted) {
            (true, true) => format!("take `{source}` out of the `except` of port {key}"),
            (true, false) => format!("add `{source}` to the `allow` of port {key}"),
            (false, _) => format!("add `{source}` to the `except` of port {key}"),
        }
    }
}

/// A port as a key of a policy.
fn key_text(port: &HostPorts) -> String {
    let text = port.to_string();
    let text = text.strip_suffix("/tcp").unwrap_or(&text);
    if text.starts_with('[') || text.contains('/') {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

/// An address of the host that no key of the policy names.
fn ordinary_address(policy: &Policy, family: Family) -> IpAddr {
    let named: BTreeSet<_> = policy.ports.keys().filter_map(|key| key.address).collect();
    let address = |n: u32| -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from(0xcb00_710a_u32.wrapping_add(n)).into(),
            Family::V6 => {
                let first = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
                Ipv6Addr::from(first + u128::from(n)).into()
            }
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
    use crate::text::SourceMap;

    /// What is said of expectations that are not met, in the order of the text: the path, the
    /// message, and the text that decided.
    fn unmet(text: &str) -> (usize, Vec<(Kind, String, Option<String>)>) {
        let mut sources = SourceMap::in_memory([("a.yaml", text)]);
        let files = crate::store::read_policies(&mut sources, Path::new("a.yaml")).unwrap();
        let policy = policy::read(&mut sources, &files).unwrap().0;
        let report = run(&policy, &|span| Origin {
            file: "a.yaml".to_owned(),
            line: sources.line_column(span).0,
        });
        let failed = report.failed.into_iter().map(|failed| {
            let diagnostic = failed.diagnostic;
            let behind = diagnostic.related.first().map(|label| &label.span);
            (
                failed.path.kind,
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
            (Kind::Dnat, message.to_owned(), behind)
        };
        assert_eq!(passed, 0);
        assert_eq!(
            failed,
            [
                of("`203.0.113.9` is allowed at port 80/tcp", Some("80")),
                of(
                    "`203.0.113.9` is denied at port 203.0.113.10:80/tcp",
                    Some("203.0.113.10:80")
                ),
                of("`192.0.2.1` is denied at port 443/tcp", Some("default")),
                of("containers are allowed at port 443/tcp", None),
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
