//! The policy's own `tests:`, proven by the evaluator: no kernel, no host.
//!
//! ```text
//!  Statement ─► Case: sources × addresses of the host × ports × interfaces ─► Judge ─► Counterexample ─► Diagnostic
//! ```
//!
//! Whether a policy means what its author expects must not depend on where that is asked, so the
//! policy is compiled for a host of which only Docker's own bridge is known. The one thing that a
//! known host adds: a service of its own at a port that no key covers, which no rule denies; and what is in
//! sources that depend on the host.

mod case;
mod message;

use std::collections::BTreeSet;

use crate::compile;
use crate::host::HostView;
use crate::net::HostPorts;
use crate::policy::{Policy, Statement, Target};
use crate::ruleset::{Origin, Side};
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::access::Judge;
use super::eval::{Pool, Trace};
use super::find;
use super::interfaces::classes;
use super::judgement::Judgement;
use super::path::Path;
use super::surroundings::Surroundings;

use case::{Case, Counterexample, Outcome};

/// The bridge of Docker's first network.
pub const BRIDGE: &str = "docker0";

/// The slug of a warning that a statement is not judged because it depends on the host.
pub const DEPENDS_ON_HOST: &str = "depends-on-host";

/// The result of the tests of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many are true.
    pub passed: usize,
    /// Those that are not, in the order of the policy.
    pub failed: Vec<Failed>,
    /// What is not judged: services of the host at ports that no key covers, of statements that are
    /// true; and statements that depend on a source of which only a host can tell what it holds, or on
    /// a fetched one of which nothing is known.
    pub unjudged: Vec<Diagnostic>,
}

/// A statement that is not true, and a packet that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The statement.
    pub statement: Statement,
    /// The packet's source; `None` for a container of this host.
    pub source: Option<std::net::IpAddr>,
    /// The port that it asks for.
    pub port: HostPorts,
    /// Its path.
    pub path: Path,
    /// What becomes of it.
    pub judgement: Judgement,
    /// Its way through the rules.
    pub trace: Trace,
    /// What to tell the user.
    pub diagnostic: Diagnostic,
}

/// Proves every statement of a policy, or finds a packet that it is not true of. `origin` says where a span of the
/// policy is written.
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
    let incoming = classes(&[&ruleset], Side::In);
    let (mut pool, mut judge) = (Pool::default(), Judge::new(&ruleset));
    let mut uncovered = BTreeSet::new();
    for statement in &policy.tests {
        let case = Case {
            policy,
            statement,
            host: None,
        };
        match case.outcome(&mut pool, &mut judge, &ruleset, &incoming) {
            Outcome::Holds => {
                report.passed += 1;
                if case.has_uncovered() && uncovered.insert(statement.to.to_string()) {
                    report.unjudged.push(case.uncovered());
                }
            }
            Outcome::Depends(name) => report.unjudged.extend(case.depends(&name)),
            Outcome::Fails(wrong) => {
                let diagnostic = case.diagnostic(&wrong, &ruleset, origin);
                report.failed.push(failed(statement, *wrong, diagnostic));
            }
        }
    }
    report
}

/// Returns whether services of the host make a difference to [`on_host`].
#[must_use]
pub fn asks_for_services(policy: &Policy) -> bool {
    let mut denied = policy.tests.iter().filter(|test| !test.expects_allow());
    denied.any(|statement| {
        let case = Case {
            policy,
            statement,
            host: None,
        };
        case.has_uncovered()
    })
}

/// Returns the results of the statements on a known host. Some are not true there, although they are on hosts in
/// general: a service listens at a port that no key covers, and is not denied; or the address is a container's own.
/// What is not judged there was not judged by [`run`], which reports it.
#[must_use]
pub fn on_host(policy: &Policy, host: &HostView, origin: &dyn Fn(&Span) -> Origin) -> Report {
    let mut report = Report::default();
    if policy.tests.is_empty() {
        return report;
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
    let incoming = classes(&[&ruleset], Side::In);
    let (mut pool, mut judge) = (Pool::default(), Judge::new(&ruleset));
    let is_known = policy.unknown_lists().next().is_none();
    let depends = !is_known || policy.on_host().next().is_some();
    for statement in &policy.tests {
        let case = Case {
            policy,
            statement,
            host: Some(host),
        };
        if case.unknown_source().is_some() {
            continue;
        }
        if let Some(path) = to_container(statement, host) {
            match case.on_path(&mut pool, &mut judge, &ruleset, &path) {
                Some(wrong) => {
                    let failed = case.failed_on_path(wrong, &ruleset, origin);
                    report.failed.push(failed);
                }
                // A source of which nothing is known may allow more.
                None => report.passed += usize::from(is_known),
            }
            continue;
        }
        if depends {
            match case.outcome(&mut pool, &mut judge, &ruleset, &incoming) {
                Outcome::Holds => {}
                Outcome::Depends(_) => continue,
                Outcome::Fails(wrong) => {
                    let diagnostic = case.diagnostic(&wrong, &ruleset, origin);
                    report.failed.push(failed(statement, *wrong, diagnostic));
                    continue;
                }
            }
        }
        if statement.expects_allow() {
            report.passed += 1;
            continue;
        }
        let mut open = sockets
            .iter()
            .filter(|path| case.leads(path) && case.key_of(path).is_none())
            .filter_map(|path| case.on_path(&mut pool, &mut judge, &ruleset, path));
        match open.next() {
            Some(wrong) => {
                let failed = case.failed_on_path(wrong, &ruleset, origin);
                report.failed.push(failed);
            }
            None => report.passed += 1,
        }
    }
    report
}

/// The path to a container under its own address, if that is what is asked for.
fn to_container(statement: &Statement, host: &HostView) -> Option<Path> {
    let Target::Ports(HostPorts {
        address,
        protocol,
        first,
        ..
    }) = statement.to
    else {
        return None;
    };
    let mut endpoints = host.endpoints();
    let endpoint = endpoints.find(|endpoint| Some(endpoint.address) == address)?;
    Some(find::straight(&endpoint, protocol, Some(first), first))
}

fn failed(statement: &Statement, wrong: Counterexample, diagnostic: Diagnostic) -> Failed {
    Failed {
        statement: statement.clone(),
        source: wrong.source,
        port: wrong.port,
        path: wrong.path,
        judgement: wrong.judgement,
        trace: wrong.trace,
        diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::analysis::path::Kind;
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

    /// The messages of tests that are not true, each of a list.
    fn messages(ports: &str, tests: &[&str]) -> Vec<Vec<String>> {
        let of = |test: &&str| {
            let (_, failed) = unmet(&format!("{ports}tests:\n  - {test}\n"));
            failed.into_iter().map(|(_, message, _)| message).collect()
        };
        tests.iter().map(of).collect()
    }

    #[test]
    fn whole_statements_hold_for_every_source_and_port() {
        let tests = [
            "{from: office, to: 80, expect: allow}",
            "{from: any, except: office, to: 80, expect: deny}",
            "{from: [any, containers], except: office, to: 5432, expect: deny}",
            "{from: any, to: 8000-8004, expect: allow}",
            "{from: any, to: others, expect: deny}",
            "{from: any, except: office, to: '[2001:db8::1]:80', expect: deny}",
            "{to: 80, only: [office]}",
            "{to: 5432, only: [office]}",
            "{to: others, only: []}",
            "{to: 8005, only: []}",
        ];
        let none: &[String] = &[];
        for (messages, test) in messages(PORTS, &tests).iter().zip(tests) {
            assert_eq!(messages, none, "{test}");
        }
    }

    #[test]
    fn what_a_statement_leaves_out_is_shown_by_one_address() {
        let cases = [
            (
                "{from: office, to: 5432, expect: allow}",
                "`203.0.113.66` is denied at port 5432/tcp",
            ),
            (
                "{from: any, to: 80, expect: deny}",
                "`203.0.113.1` is allowed at port 80/tcp",
            ),
            (
                "{from: any, to: 8000-8010, expect: allow}",
                "`192.0.2.1` is denied at port 8005/tcp",
            ),
            (
                "{from: containers, to: any, expect: deny}",
                "containers are allowed at port 1/tcp",
            ),
            (
                "{to: 80, only: [203.0.113.0/25, '2001:db8::/32']}",
                "`203.0.113.128` is allowed at port 80/tcp",
            ),
            (
                "{to: any, only: [office]}",
                "`192.0.2.1` is allowed at port 8000/tcp",
            ),
            (
                "{to: 80, only: [203.0.113.0/24]}",
                "`2001:db8::1` is allowed at port 80/tcp",
            ),
        ];
        let all = messages(PORTS, &cases.map(|(test, _)| test));
        for ((test, expected), messages) in cases.iter().zip(all) {
            assert_eq!(messages, [*expected], "{test}");
        }
    }

    #[test]
    fn nobody_else_is_at_no_address_of_the_host() {
        let ports = "default: deny
ports:
  80: [203.0.113.9]
  203.0.113.10:80: [203.0.113.9, 198.51.100.7]
  '[2001:db8::1]:81': any
";
        let cases = [
            (
                "{to: 80, only: [203.0.113.9]}",
                Some("`198.51.100.7` is allowed at port 203.0.113.10:80/tcp"),
            ),
            ("{to: 80, only: [203.0.113.9, 198.51.100.7]}", None),
            (
                "{to: 81, only: []}",
                Some("`2001:db8::1` is allowed at port [2001:db8::1]:81/tcp"),
            ),
            (
                "{from: any, to: 81, expect: deny}",
                Some("`2001:db8::1` is allowed at port [2001:db8::1]:81/tcp"),
            ),
            ("{from: any, to: 203.0.113.10:81, expect: deny}", None),
        ];
        let all = messages(ports, &cases.map(|(test, _)| test));
        for ((test, expected), messages) in cases.iter().zip(all) {
            let expected: Vec<&str> = expected.iter().copied().collect();
            assert_eq!(messages, expected, "{test}");
        }
    }
}
