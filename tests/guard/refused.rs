//! A fetched list that breaks a test: it is not used, and nothing else waits for it.

use std::fs;
use std::os::unix::fs::chown;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Named;
use crate::control::metrics;
use crate::daemon::until;
use crate::fetched::{NOBODY, guard, status};
use crate::namespace::{Report, Sandbox};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_list_that_breaks_a_test_holds_up_nothing_else",
        a_list_that_breaks_a_test_holds_up_nothing_else,
    ),
    (
        "apply_leaves_out_a_list_that_breaks_a_test",
        apply_leaves_out_a_list_that_breaks_a_test,
    ),
];

const POLICY: &str = "default: deny
sources: {list: {name: list.example.com}, other: {name: other.example.com}}
ports: {80: [list], 443: [other], 22: [192.0.2.101]}
tests:
  - {from: 198.51.100.66, to: 80, expect: deny}
";
const BAD: &str = "198.51.100.66";
const REASON: &str = "the new list breaks the test at a.yaml:5";

/// Puts a list into the cache, as the fetcher does.
pub(crate) fn fetch(sandbox: &Sandbox, name: &str, text: &str) -> Result<()> {
    let new = sandbox.write("cache/new", format!("{text}\n"))?;
    chown(&new, Some(NOBODY), Some(NOBODY))?;
    let at = sandbox.dir().join(format!("cache/name-{name}.example.com"));
    Ok(fs::rename(new, at)?)
}

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    fetch(&sandbox, "list", "192.0.2.7")?;
    fetch(&sandbox, "other", "192.0.2.8")?;
    Ok(sandbox)
}

/// Waits until these addresses are in the rules, and others are not.
fn until_rules(sandbox: &Sandbox, with: &[&str], without: &[&str]) -> Result<()> {
    until(&format!("{with:?} without {without:?}"), || {
        let rules = sandbox.installed().ok()?.to_string();
        let has = |address: &&str| rules.contains(*address);
        (with.iter().all(has) && !without.iter().any(has)).then_some(())
    })
}

fn source(sandbox: &Sandbox, name: &str) -> Result<Value> {
    let status = status(sandbox)?;
    let mut sources = status["sources"].as_array().into_iter().flatten();
    let source = sources.find(|source| source["name"] == name);
    source.cloned().context("no such source")
}

fn a_list_that_breaks_a_test_holds_up_nothing_else() -> Result<()> {
    let sandbox = sandbox()?;
    let socket = sandbox.dir().join("metrics.sock");
    let listen = format!("unix:{}", socket.display());
    let listen = ["--metrics-listen", &listen];
    let mut guard = guard(&sandbox, &listen)?;
    guard.expect_in_force()?;
    until_rules(&sandbox, &["192.0.2.7", "192.0.2.8", "192.0.2.101"], &[])?;

    fetch(&sandbox, "list", BAD)?;
    let line = guard.expect(REASON)?;
    ensure!(
        line.contains("a.yaml:2:") && line.contains("the list that was fetched is not used"),
        "{line}"
    );
    let revoked = POLICY.replace("22: [192.0.2.101]", "22: [192.0.2.102]");
    sandbox.write("policies/a.yaml", revoked)?;
    until_rules(
        &sandbox,
        &["192.0.2.102", "192.0.2.7"],
        &["192.0.2.101", BAD],
    )?;
    fetch(&sandbox, "other", "192.0.2.9")?;
    until_rules(&sandbox, &["192.0.2.9", "192.0.2.7"], &["192.0.2.8"])?;
    let both = [source(&sandbox, "list")?, source(&sandbox, "other")?];
    ensure!(both[0]["unused"] == REASON, "{both:?}");
    ensure!(both[1]["unused"].is_null(), "{both:?}");
    let report = status(&sandbox)?;
    ensure!(
        report["policy_errors"].as_array().is_none_or(Vec::is_empty),
        "{report}"
    );
    until("metrics", || {
        let metrics = metrics(&socket).ok()?;
        let has = |line: &str| metrics.lines().any(|is| is == line);
        (has("dfw_source_unused{source=\"list\"} 1")
            && has("dfw_source_unused{source=\"other\"} 0")
            && has("dfw_policy_errors 0"))
        .then_some(())
    })?;
    let warned = guard.said.iter().filter(|line| line.contains(REASON));
    ensure!(warned.count() == 1, "{:?}", guard.said);
    guard.stop()?;

    // The next guard begins with the same bad list.
    let again = POLICY.replace("22: [192.0.2.101]", "22: [192.0.2.103]");
    sandbox.write("policies/a.yaml", again)?;
    let mut guard = self::guard(&sandbox, &listen)?;
    guard.expect(REASON)?;
    guard.expect_in_force()?;
    until_rules(
        &sandbox,
        &["192.0.2.103", "192.0.2.7"],
        &["192.0.2.102", BAD],
    )?;
    let text = sandbox.dfw(&[
        "status",
        "--socket",
        &sandbox.dir().join("guard.sock").to_string_lossy(),
    ])?;
    ensure!(text.stdout.contains(REASON), "{text:?}");
    // What is right again is used.
    fetch(&sandbox, "list", "192.0.2.77")?;
    until_rules(&sandbox, &["192.0.2.77"], &[])?;
    ensure!(source(&sandbox, "list")?["unused"].is_null());
    guard.stop()
}

fn apply_leaves_out_a_list_that_breaks_a_test() -> Result<()> {
    let sandbox = sandbox()?;
    let dfw = |verb: &str, more: &[&str]| {
        let mut command = sandbox.program(&[verb, "--docker-host", "none"]);
        command.args(more).arg(sandbox.dir().join("policies"));
        command.env("DFW_CACHE", sandbox.dir().join("cache"));
        command.env("STATE_DIRECTORY", sandbox.dir().join("state"));
        Report::of(&mut command)
    };
    // The first list allows nobody, like one that was never fetched.
    fetch(&sandbox, "list", BAD)?;
    for (verb, more) in [("plan", &[][..]), ("apply", &["--yes"])] {
        let report = dfw(verb, more)?;
        ensure!(
            report.code == Some(0) && report.stderr.contains(REASON),
            "{report:?}"
        );
    }
    until_rules(&sandbox, &["192.0.2.8"], &[BAD])?;
    fetch(&sandbox, "list", "192.0.2.7")?;
    let report = dfw("apply", &["--yes"])?;
    ensure!(report.code == Some(0), "{report:?}");
    until_rules(&sandbox, &["192.0.2.7"], &[])?;
    fetch(&sandbox, "list", BAD)?;
    fetch(&sandbox, "other", "192.0.2.9")?;
    let report = dfw("apply", &["--yes", "--json"])?;
    let document: Value = serde_json::from_str(&report.stdout)?;
    let sources = &document["fetched_sources"];
    ensure!(
        sources[0]["unused"] == REASON && sources[1]["unused"].is_null(),
        "{sources}"
    );
    let warnings = document["warnings"].to_string();
    ensure!(
        report.code == Some(0) && warnings.contains(REASON),
        "{report:?}"
    );
    until_rules(&sandbox, &["192.0.2.7", "192.0.2.9"], &[BAD, "192.0.2.8"])?;
    // The fetcher says when it was there last.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let hours = now - 3 * 3600;
    sandbox.write(
        "cache/status-name-other.example.com.json",
        format!("{{\"fetched\": {hours}, \"entries\": 1}}"),
    )?;
    let report = dfw("plan", &[])?;
    for line in [
        "list   1 entry, accepted before: the list of unknown age is not used, stale",
        "other  1 entry, fetched 3h ago",
    ] {
        ensure!(report.stdout.contains(line), "{report:?}");
    }
    let report = dfw("apply", &["--yes"])?;
    ensure!(report.stdout.contains("fetched 3h ago"), "{report:?}");
    // Without the former list the policy is wrong.
    sandbox.write(
        "policies/a.yaml",
        POLICY
            .replace("443: [other]", "81: any")
            .replace("to: 80", "to: 80-81"),
    )?;
    dfw("apply", &["--yes"])?.expect_failure(11, "expectation-failed")?;
    until_rules(&sandbox, &["192.0.2.7", "192.0.2.9"], &[BAD])
}
