//! What is reported of a statement of `tests:`.

use std::net::IpAddr;

use crate::analysis::eval::Trace;
use crate::analysis::judgement::Verdict;
use crate::analysis::path::Kind;
use crate::compile;
use crate::net::HostPorts;
use crate::policy::{Claim, DefaultAction, PortPolicy, SourceName, Target, Unknown};
use crate::ruleset::{Origin, Ruleset};
use crate::text::Span;
use crate::text::diagnostic::Diagnostic;

use super::case::{Case, Counterexample};
use super::{DEPENDS_ON_HOST, Failed, failed};

impl Case<'_> {
    /// Returns the report of a statement that depends on what a source holds that is not known.
    pub(super) fn depends(&self, name: &SourceName) -> Option<Diagnostic> {
        let source = self.policy.sources.get(name)?;
        let to = self.statement.to;
        let who = self.only_source().map(|who| who + " ").unwrap_or_default();
        if let Some(fetched) = &source.fetched {
            let Unknown { slug, reason, help } = fetched.list.unknown()?;
            let message = format!("{who}not judged at port {to}: `{name}` {reason}");
            let diagnostic = Diagnostic::warning(slug, message)
                .at(self.statement.origin.clone(), "not judged")
                .related(source.origin.clone(), fetched.request.describe())
                .help(help);
            return Some(diagnostic);
        }
        let on_host = source.on_host.as_ref()?;
        let message =
            format!("{who}not judged at port {to}: only the host knows what `{name}` holds");
        let diagnostic = Diagnostic::warning(DEPENDS_ON_HOST, message)
            .at(self.statement.origin.clone(), "not judged here")
            .related(source.origin.clone(), on_host.describe())
            .help("`dfw plan` and `dfw apply` judge it where the policy is to hold");
        Some(diagnostic)
    }

    /// Returns the report that services of the host are left out.
    pub(super) fn uncovered(&self) -> Diagnostic {
        let (message, help) = match self.statement.to {
            Target::Ports(to) => {
                let key = key_text(&to);
                let help = if self.statement.expects_allow() {
                    format!("write below `ports:` who may reach it, such as `{key}: any`")
                } else {
                    format!("write `{key}: []` to close the number for host services too")
                };
                (
                    format!("container paths only: no key covers port {to}"),
                    help,
                )
            }
            Target::Any | Target::Others => (
                "container paths only: no key covers the other ports".to_owned(),
                "`dfw plan` and `dfw apply` judge what listens where the policy is to hold"
                    .to_owned(),
            ),
        };
        Diagnostic::warning("container-paths-only", message)
            .at(
                self.statement.origin.clone(),
                "a service of the host there is not judged",
            )
            .help(help)
    }

    /// Returns what is reported of a counterexample on a path of a known host.
    pub(super) fn failed_on_path(
        &self,
        wrong: Counterexample,
        ruleset: &Ruleset,
        origin: &dyn Fn(&Span) -> Origin,
    ) -> Failed {
        let diagnostic = if wrong.judgement.verdict() == Verdict::NotJudged {
            self.not_denied(&wrong)
        } else {
            self.diagnostic(&wrong, ruleset, origin)
        };
        failed(self.statement, wrong, diagnostic)
    }

    /// That a service of the host is not denied.
    fn not_denied(&self, wrong: &Counterexample) -> Diagnostic {
        let to = wrong.port;
        Diagnostic::error(
            "expectation-failed",
            format!(
                "{} not judged at port {to}: {} listens there, a service of the host",
                who(wrong.source),
                wrong.path.title
            ),
        )
        .at(self.statement.origin.clone(), self.label())
        .note("dfw judges services of the host only at ports that a key covers")
        .help(format!(
            "write below `ports:` who may reach it, such as `{}: [ADDRESS]`; everybody else is then \
             denied",
            key_text(&to)
        ))
    }

    /// Returns the report of a packet that the statement is not true of, with the line that decides about it.
    pub(super) fn diagnostic(
        &self,
        wrong: &Counterexample,
        ruleset: &Ruleset,
        origin: &dyn Fn(&Span) -> Origin,
    ) -> Diagnostic {
        let (path, trace, to) = (&wrong.path, &wrong.trace, wrong.port);
        let who = who(wrong.source);
        let done = match wrong.judgement.verdict() {
            Verdict::Allow => "allowed",
            Verdict::Deny => "denied",
            Verdict::NotJudged => "not judged",
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
        .at(self.statement.origin.clone(), self.label());
        if let Some(span) = self.behind(wrong, trace, origin) {
            diagnostic = diagnostic.related(span, format!("{done} by this"));
        }
        if let Some(count) = more(wrong) {
            diagnostic = diagnostic.note(format!("one of {count} that are {done} at this port"));
        }
        if trace.steps.is_empty() {
            diagnostic = diagnostic.note("no rule of dfw has anything to say");
        }
        for step in &trace.steps {
            diagnostic = diagnostic.note(step.describe(ruleset));
        }
        diagnostic.help(self.advice(wrong))
    }

    /// The statement in short.
    fn label(&self) -> &'static str {
        match &self.statement.claim {
            Claim::Each { allow: true, .. } => "`expect: allow`",
            Claim::Each { allow: false, .. } => "`expect: deny`",
            Claim::Only(_) => "`only`: nobody else",
        }
    }

    /// The source, if the statement is of one address or of containers.
    fn only_source(&self) -> Option<String> {
        let Claim::Each { from, .. } = &self.statement.claim else {
            return None;
        };
        if from.any || !from.named.is_empty() {
            return None;
        }
        match (from.containers, from.inline.len()) {
            (true, 0) => Some("containers are".to_owned()),
            (false, 1) => {
                let entry = from.inline.iter().next()?;
                Some(format!("`{entry}` is"))
            }
            _ => None,
        }
    }

    /// The line of the policy that decided.
    fn behind(
        &self,
        wrong: &Counterexample,
        trace: &Trace,
        origin: &dyn Fn(&Span) -> Origin,
    ) -> Option<Span> {
        let Some(step) = trace.steps.last() else {
            // Where no rule has anything to say, `default: allow` has said it.
            return Some(self.policy.default_origin.clone());
        };
        let comment = step.comment.as_ref()?;
        // Several ports may be written on one line: first the one that is meant.
        let ports = self.named(wrong).into_iter().map(|(_, port)| port);
        ports
            .chain(self.policy.ports.values())
            .map(|port| &port.origin)
            .chain([&self.policy.default_origin])
            .find(|span| compile::comment(&origin(span)) == *comment)
            .cloned()
    }

    /// What the policy says of the port of a counterexample.
    fn named(&self, wrong: &Counterexample) -> Option<(HostPorts, &PortPolicy)> {
        let key = wrong.key?;
        Some((key, self.policy.ports.get(&key)?))
    }

    fn advice(&self, wrong: &Counterexample) -> String {
        let to = wrong.port;
        let allow = self.statement.expects_allow();
        let source = match wrong.source {
            Some(address) => address.to_string(),
            None => "containers".to_owned(),
        };
        let Some((key, port)) = self.named(wrong) else {
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
        if let (Claim::Only(_), true) = (&self.statement.claim, more(wrong).is_some()) {
            return format!("list under port {key} only what `only` lists");
        }
        let excepted = match wrong.source {
            None => port.except.containers,
            Some(address) => self.addresses(&port.except).contains(address),
        };
        match (allow, excepted) {
            (true, true) => format!("take `{source}` out of the `except` of port {key}"),
            (true, false) => format!("add `{source}` to the `allow` of port {key}"),
            (false, _) => format!("add `{source}` to the `except` of port {key}"),
        }
    }
}

fn who(source: Option<IpAddr>) -> String {
    match source {
        Some(address) => format!("`{address}` is"),
        None => "containers are".to_owned(),
    }
}

/// How many addresses a statement is not true of, if it is not only one; both families are apart.
fn more(wrong: &Counterexample) -> Option<String> {
    wrong.source?;
    let (v4, v6) = (wrong.others.count_v4(), wrong.others.count_v6());
    match (v4, v6) {
        (1, 0) | (0, 1) => None,
        (v4, 0) => Some(format!("{v4} IPv4 addresses")),
        (_, v6) => Some(format!("{v6} IPv6 addresses")),
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
