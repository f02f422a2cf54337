//! Answers for programs. Every document says its schema and version; fields are added, never
//! changed, within a version. They are written here by hand so that no internal type becomes a
//! promise.

use crate::net::Family;
use serde_json::{Value, json};

use crate::analysis::eval::Step;
use crate::analysis::test::Failed;
use crate::host::engine::Engine;
use crate::host::{HostView, Publication};
use crate::ruleset::Ruleset;

/// The engines that have answered.
#[must_use]
pub fn engines(host: &HostView) -> Value {
    let engine = |engine: &Engine| {
        json!({
            "kind": engine.kind.name().to_ascii_lowercase(),
            "version": engine.version,
            "address": engine.address,
            "firewall": engine.firewall,
        })
    };
    host.engines.iter().map(engine).collect()
}

/// Published ports.
#[must_use]
pub fn publications(publications: &[Publication<'_>]) -> Value {
    let publication = |publication: &Publication<'_>| {
        let published = &publication.published;
        json!({
            "address": published.address,
            "port": published.first,
            "last_port": published.last,
            "protocol": published.protocol.name(),
            "container_port": published.container_port,
            "published_for": publication.of.title(),
        })
    };
    publications.iter().map(publication).collect()
}

/// What has become of the `tests:` of a policy.
#[must_use]
pub fn tests(passed: usize, failed: &[Failed]) -> Value {
    let failed = failed.iter().map(|failed| {
        let source = failed.source.map(|address| address.to_string());
        json!({
            "from": source.unwrap_or_else(|| "containers".to_owned()),
            "to": failed.port.to_string(),
            "expect": if failed.statement.expects_allow() { "allow" } else { "deny" },
            "statement": failed.statement.json(),
            "path": failed.path.kind.name(),
            "verdict": failed.judgement.verdict().name(),
            "steps": steps(&failed.trace.steps),
        })
    });
    json!({"passed": passed, "failed": failed.collect::<Vec<_>>()})
}

/// An address family.
#[must_use]
pub fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// The rules that decided, in order.
#[must_use]
pub fn steps(steps: &[Step]) -> Value {
    let step = |step: &Step| {
        json!({
            "chain": step.chain,
            "rule": step.rule + 1,
            "origin": step.comment,
            "elements": step
                .hits
                .iter()
                .map(|hit| json!({"set": hit.set, "element": hit.to_string()}))
                .collect::<Vec<_>>(),
        })
    };
    steps.iter().map(step).collect()
}

/// How large a ruleset is.
#[must_use]
pub fn size(ruleset: &Ruleset) -> Value {
    let sets = &ruleset.sets;
    json!({
        "chains": ruleset.chains.len(),
        "rules": ruleset.chains.values().map(|chain| chain.rules.len()).sum::<usize>(),
        "sets": sets.len(),
        "elements": sets.values().map(|set| set.elements.len()).sum::<usize>(),
    })
}
