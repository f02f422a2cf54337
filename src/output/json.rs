//! Parts of JSON documents. Every document names its schema and version; within a version keys are added,
//! never changed. They are written by hand so that internal types stay internal.

use crate::net::{Family, Limits};
use serde_json::{Value, json};

use crate::analysis::eval::Step;
use crate::analysis::test::Failed;
use crate::host::engine::Engine;
use crate::host::{HostView, Publication};
use crate::ruleset::Ruleset;

/// Returns the engines that answered.
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

/// Returns published ports.
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

/// Returns the results of a policy's `tests:`.
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

/// Returns the name of an address family.
#[must_use]
pub fn family(family: Family) -> &'static str {
    family.name()
}

/// Returns the limits of a port; null without.
#[must_use]
pub fn limits(limits: Limits) -> Value {
    if limits.is_empty() {
        return Value::Null;
    }
    let rate = limits.rate.map(|rate| rate.to_string());
    json!({"rate": rate, "connections": limits.connections})
}

/// Returns the rules that decided, in order.
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

/// Returns the size of a ruleset.
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
