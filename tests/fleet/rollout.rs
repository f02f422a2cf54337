//! Roll-outs: stages, what stops them, and what goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::cluster::MEMBERS;
use crate::daemon::{Daemon, until};
use crate::fleet::{Fleet, Host, list, policy};
use crate::support::service::spawn;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_policy_that_cuts_hosts_off_stops_at_the_canary",
        a_policy_that_cuts_hosts_off_stops_at_the_canary,
    ),
    (
        "a_store_that_is_down_reverts_nothing",
        a_store_that_is_down_reverts_nothing,
    ),
    (
        "a_push_reaches_all_hosts_in_stages",
        a_push_reaches_all_hosts_in_stages,
    ),
    (
        "a_host_that_refuses_stops_a_roll_out",
        a_host_that_refuses_stops_a_roll_out,
    ),
    (
        "what_was_signed_elsewhere_is_pushed",
        what_was_signed_elsewhere_is_pushed,
    ),
    (
        "a_push_that_was_killed_is_finished_by_another",
        a_push_that_was_killed_is_finished_by_another,
    ),
];

const HOSTS: [&str; 3] = ["canary-1", "web-1", "web-2"];
/// The canary first, and then all others.
pub(crate) const STAGES: [&str; 6] = [
    "--group",
    "canary=canary-*",
    "--stage",
    "canary",
    "--settle",
    "1s",
];

/// A site whose hosts have a first generation in force.
fn begun() -> Result<(Fleet, Vec<Host>)> {
    let mut fleet = Fleet::new(&HOSTS, &[])?;
    let hosts = fleet.hosts(&HOSTS)?;
    for name in HOSTS {
        fleet.until_host(name, "nothing")?;
    }
    fleet.policy(&policy(1))?;
    let report = fleet.push(&STAGES)?;
    ensure!(report.code == Some(0), "{report:?}");
    let at = |text: &str| {
        let found = report.stderr.find(text);
        found.with_context(|| format!("no {text}: {report:?}"))
    };
    ensure!(
        at("stage 1 of 2: all hosts have it")? < at("stage 2 of 2: all hosts have it")?,
        "{report:?}"
    );
    for host in &hosts {
        host.until_policy(1)?;
        host.until("in-force")?;
    }
    Ok((fleet, hosts))
}

fn a_push_reaches_all_hosts_in_stages() -> Result<()> {
    let (fleet, hosts) = begun()?;
    // The same again is a new head, and no new rules.
    let report = fleet.push(&STAGES)?;
    ensure!(
        report.code == Some(0) && report.stderr.contains("renewed"),
        "{report:?}"
    );
    let status = fleet.status()?;
    ensure!(
        status["generation"] == 1 && status["serial"] == 2,
        "{status}"
    );
    let problems = status["problems"].as_array();
    ensure!(problems.is_some_and(Vec::is_empty), "{status}");
    let shown = fleet.dfw(&["status"])?;
    ensure!(shown.code == Some(0), "{shown:?}");
    // A host that is gone does not count, and is named.
    let mut hosts = hosts;
    let gone = hosts.pop().context("no host")?;
    if let Some(fetcher) = gone.fetcher {
        fetcher.kill()?;
    }
    let key = format!("/dfw/v1/prod/hosts/{}/status", gone.name);
    fleet.cluster.etcdctl_ok("root", &["del", &key])?;
    fleet.push_now(2)?;
    let shown = fleet.dfw(&["status"])?;
    ensure!(
        shown.code == Some(1) && shown.stdout.contains("silent"),
        "{shown:?}"
    );
    // Back to what was before, under a new number.
    let report = fleet.signed(&["rollback", "--now"])?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in &hosts {
        host.until_policy(1)?;
        until("the third generation", || {
            (host.status().ok()?["generation"] == 3).then_some(())
        })?;
    }
    // A database that is more than half full is not filled further.
    let report = fleet.push(&["--quota", "0"])?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("more than half of its quota"),
        "{report:?}"
    );
    // An address of the store is never excluded.
    fleet.policy(&format!(
        "default: deny\nports: {{22: {{allow: any, except: [{}]}}}}\n",
        MEMBERS[0]
    ))?;
    let report = fleet.push(&["--now"])?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("the store's member"),
        "{report:?}"
    );
    Ok(())
}

fn a_policy_that_cuts_hosts_off_stops_at_the_canary() -> Result<()> {
    let (fleet, hosts) = begun()?;
    let rules: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    hosts[0].sandbox.exclude_from_tracking(2379)?;
    // Replies of the store are denied where nothing tracks them: that is certain before a trial,
    fleet.policy("default: deny\nports: {22: [203.0.113.9], 1024-65535: []}\n")?;
    let report = fleet.push(&STAGES)?;
    ensure!(
        report.code == Some(1)
            && report.stderr.contains("canary-1 refused")
            && report.stderr.contains("it would cut this host off"),
        "{report:?}"
    );
    // and is not where one port is left out, from which the kernel opens nothing while even ones are free.
    fleet.policy("default: deny\nports: {22: [203.0.113.9], 1024-60998: []}\n")?;
    let report = fleet.push(&STAGES)?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("canary-1 reverted"),
        "{report:?}"
    );
    for (host, rules) in hosts.iter().zip(&rules) {
        ensure!(host.rules()? == *rules, "{}: other rules", host.name);
    }
    let row = fleet.until_host("canary-1", "reverted")?;
    ensure!(
        row["severity"] == "failed" && row["generation"] == 1,
        "{row}"
    );
    let status = fleet.status()?;
    ensure!(
        status["stopped"]
            .as_str()
            .is_some_and(|reason| reason.contains("reverted")),
        "{status}"
    );
    let waiting = hosts[1].status()?;
    ensure!(waiting["generation"] == 1, "{waiting}");
    // Other policies are taken by all.
    fleet.policy(&policy(3))?;
    let report = fleet.push(&STAGES)?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in &hosts {
        host.until_policy(3)?;
    }
    Ok(())
}

fn a_host_that_refuses_stops_a_roll_out() -> Result<()> {
    let (fleet, hosts) = begun()?;
    // A test that fails on one host, whose turn it is not yet.
    hosts[2].sandbox.namespace().run(|| spawn(&["tcp:4242"]))?;
    let tested = "default: deny\nports: {22: [203.0.113.4]}\ntests: [{from: 203.0.113.4, to: 4242, expect: deny}]\n";
    fleet.policy(tested)?;
    let report = fleet.push(&STAGES)?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("web-2 refused"),
        "{report:?}"
    );
    hosts[1].until_policy(1)?;
    hosts[2].until_policy(1)?;
    let row = fleet.until_host("web-2", "refused")?;
    let note = row["note"].as_str().unwrap_or_default();
    ensure!(note.contains("base.yaml:3:"), "{row}");
    // It stays stopped, and goes on when somebody says so; then it stops again.
    let report = fleet.signed(&["resume", "--settle", "0"])?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("web-2 refused"),
        "{report:?}"
    );
    // An administrator stops one, and another one lets it go on.
    fleet.policy(&policy(5))?;
    let report = fleet.push(&[&STAGES[..4], &["--detach"]].concat())?;
    ensure!(report.code == Some(0), "{report:?}");
    let report = fleet.signed(&["pause", "--reason", "lunch"])?;
    ensure!(report.stdout.contains("stopped: lunch"), "{report:?}");
    until("the reason on a host", || {
        let reason = hosts[1].status().ok()?["reason"].clone();
        reason.as_str()?.contains("lunch").then_some(())
    })?;
    hosts[1].until_policy(1)?;
    let report = fleet.signed(&["resume", "--settle", "0"])?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in &hosts {
        host.until_policy(5)?;
    }
    Ok(())
}

fn a_store_that_is_down_reverts_nothing() -> Result<()> {
    let (mut fleet, hosts) = begun()?;
    let first: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    fleet.policy(&policy(6))?;
    let report = fleet.push(&["--now", "--detach"])?;
    ensure!(report.code == Some(0), "{report:?}");
    for member in 0..MEMBERS.len() {
        fleet.cluster.kill(member)?;
    }
    // Each host is before, in or after its trial: it keeps one of both, and never says that it was cut off.
    let is_settled = |host: &Host| {
        let state = host.status().ok()?["state"].clone();
        (state != "trial" && state != "back").then_some(())
    };
    for (host, first) in hosts.iter().zip(&first) {
        until("the end of a trial", || is_settled(host))?;
        let state = host.status()?;
        ensure!(state["state"] != "reverted", "{state}");
        let rules = host.rules()?;
        ensure!(
            rules == *first || rules.contains("203.0.113.6"),
            "{}: {rules}",
            host.name
        );
    }
    for member in 0..MEMBERS.len() {
        fleet.cluster.start_member(member, "existing")?;
    }
    fleet.cluster.until_healthy()?;
    for host in &hosts {
        host.until_policy(6)?;
        host.until("in-force")?;
    }
    let report = fleet.signed(&["resume", "--settle", "0"])?;
    ensure!(report.code == Some(0), "{report:?}");
    Ok(())
}

fn what_was_signed_elsewhere_is_pushed() -> Result<()> {
    let (fleet, hosts) = begun()?;
    let push = |bundle: &str| fleet.signed(&["push", bundle, "--now", "--settle", "0"]);
    // Numbers that were used already are named, with those that are right.
    fleet.policy(&policy(7))?;
    let report = push(&fleet.bundle((1, 1), &fleet.key, &[])?)?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("--generation 2 --serial 2"),
        "{report:?}"
    );
    let report = push(&fleet.bundle((2, 2), &fleet.key, &[])?)?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in &hosts {
        host.until_policy(7)?;
    }
    // For a later dfw than this one: it is not even pushed.
    let first = hosts[0].rules()?;
    fleet.policy(&policy(8))?;
    let report = push(&fleet.bundle((3, 3), &fleet.key, &["--requires", "9.0.0"])?)?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("requires dfw 9.0.0"),
        "{report:?}"
    );
    ensure!(hosts[0].rules()? == first, "an older dfw has taken it");
    Ok(())
}

fn a_push_that_was_killed_is_finished_by_another() -> Result<()> {
    const CHANGED: u32 = 100;
    let size = if is_long() { 1_000_000 } else { 100_000 };
    let (fleet, hosts) = begun()?;
    // More than one piece, so that there are steps to be killed at.
    let sandbox = fleet.cluster.sandbox();
    sandbox.write("p/many.txt", list(0..size))?;
    let mut number = 10;
    for milliseconds in [30, 100, 200, 400, 800, 1600] {
        number += 1;
        fleet.policy(&format!(
            "default: deny\nsources: {{many: {{file: many.txt}}}}\nports: {{22: [203.0.113.{number}], 80: [many]}}\n"
        ))?;
        let policies = sandbox.dir().join("p").to_string_lossy().into_owned();
        let words = fleet.signing(&["push", &policies, "--now", "--settle", "0"]);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let push = Daemon::of(fleet.command(&words)?)?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        push.kill()?;
    }
    let report = fleet.push(&["--now", "--settle", "0"])?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in &hosts {
        host.until_policy(number)?;
        host.until("in-force")?;
    }
    // A list of which a little changed is sent as what changed.
    let before = written(&fleet)?;
    let received: Vec<u64> = hosts.iter().map(Host::received).collect::<Result<_>>()?;
    let changed = list((0..size).filter(|number| number % (size / CHANGED) != 77));
    sandbox.write("p/many.txt", changed)?;
    let report = fleet.push(&["--now", "--settle", "0"])?;
    ensure!(report.code == Some(0), "{report:?}");
    let deltas = fleet.cluster.etcdctl_ok(
        "root",
        &["get", "--prefix", "/dfw/v1/prod/deltas/", "--keys-only"],
    )?;
    ensure!(deltas.trim().lines().count() == 1, "{deltas}");
    ensure!(written(&fleet)? > before);
    for host in &hosts {
        until("the changed list", || {
            let rules = host.rules().ok()?;
            (rules.contains("100.0.0.76") && !rules.contains("100.0.0.77")).then_some(())
        })?;
    }
    // The list itself has megabytes.
    for (host, before) in hosts.iter().zip(received) {
        let bytes = host.received()? - before;
        eprintln!("{}: {bytes} bytes for {CHANGED} of {size}", host.name);
        ensure!(bytes <= 64 << 10, "{bytes} bytes");
    }
    Ok(())
}

/// The revision of the store.
fn written(fleet: &Fleet) -> Result<i64> {
    let said = fleet
        .cluster
        .etcdctl_ok("root", &["get", "/dfw", "-w", "json"])?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    said["header"]["revision"].as_i64().context("no revision")
}
