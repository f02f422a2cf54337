//! A store that fails: members that die, stop or are cut off, and a store that is full, old or empty. No rule changes, and
//! hosts come back by themselves.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;

use crate::Named;
use crate::cluster::MEMBERS;
use crate::daemon::until;
use crate::fleet::{Fleet, Host, policy};
use crate::namespace::Report;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[
    (
        "members_may_die_stop_and_be_cut_off",
        members_may_die_stop_and_be_cut_off,
    ),
    ("an_election_ends_no_push", an_election_ends_no_push),
    (
        "a_full_store_is_named_and_repaired",
        a_full_store_is_named_and_repaired,
    ),
    (
        "a_member_whose_disk_is_full_ends_alone",
        a_member_whose_disk_is_full_ends_alone,
    ),
    (
        "a_store_that_went_back_changes_nothing",
        a_store_that_went_back_changes_nothing,
    ),
];

const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// A site whose hosts have the policy 1.
fn begun(options: &[&str]) -> Result<(Fleet, Vec<Host>)> {
    let mut fleet = Fleet::new(&HOSTS, options)?;
    let hosts = fleet.hosts(&HOSTS)?;
    for name in HOSTS {
        fleet.until_host(name, "nothing")?;
    }
    fleet.push_now(1)?;
    for host in &hosts {
        host.until_policy(1)?;
    }
    Ok((fleet, hosts))
}

fn all_have(hosts: &[Host], number: u32) -> Result<()> {
    hosts.iter().try_for_each(|host| host.until_policy(number))
}

/// What `dfw fleet status` says is wrong.
fn problems(fleet: &Fleet) -> Result<String> {
    Ok(fleet.status()?["problems"].to_string())
}

fn members_may_die_stop_and_be_cut_off() -> Result<()> {
    let (mut fleet, hosts) = begun(&[])?;
    let mut number = 1;
    // Some host is connected to each of them; the first is the one that pushes are made to.
    let tried = if is_long() { MEMBERS.len() } else { 1 };
    for (member, address) in MEMBERS.iter().enumerate().take(tried) {
        fleet.cluster.kill(member)?;
        number += 1;
        fleet.push_now(number)?;
        all_have(&hosts, number)?;
        let said = problems(&fleet)?;
        ensure!(said.contains(address), "{said}");
        fleet.cluster.start_member(member, "existing")?;
        fleet.cluster.until_healthy()?;

        fleet.cluster.signal(member, Signal::STOP)?;
        number += 1;
        fleet.push_now(number)?;
        all_have(&hosts, number)?;
        fleet.cluster.signal(member, Signal::CONT)?;

        fleet.cluster.part(member)?;
        number += 1;
        fleet.push_now(number)?;
        all_have(&hosts, number)?;
        fleet.cluster.join(member)?;
        fleet.cluster.until_healthy()?;
    }
    // Without a majority nothing is pushed, and nothing changes.
    let rules: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    fleet.cluster.signal(0, Signal::STOP)?;
    fleet.cluster.signal(1, Signal::STOP)?;
    fleet.policy(&policy(99))?;
    let report = fleet.push(&["--now"])?;
    ensure!(report.code == Some(1), "{report:?}");
    for (host, rules) in hosts.iter().zip(&rules) {
        ensure!(host.rules()? == *rules);
    }
    fleet.cluster.signal(0, Signal::CONT)?;
    fleet.cluster.signal(1, Signal::CONT)?;
    fleet.cluster.until_healthy()?;
    // Revisions that a watch may resume at are gone: somebody with any certificate may do that.
    let revision = fleet
        .cluster
        .etcdctl_ok("root", &["get", "/dfw", "-w", "json"])?;
    let revision: serde_json::Value = serde_json::from_str(&revision)?;
    let revision = revision["header"]["revision"].to_string();
    fleet.cluster.etcdctl_ok("web-1", &["compact", &revision])?;
    number += 1;
    fleet.push_now(number)?;
    all_have(&hosts, number)?;
    // A member is replaced by one with nothing.
    let members = fleet.cluster.etcdctl_ok("root", &["member", "list"])?;
    let line = members.lines().find(|line| line.contains(MEMBERS[2]));
    let id = line
        .and_then(|line| line.split(',').next())
        .context("no member")?;
    // Each member must have been there for some seconds, and an answer can be lost with the one that was asked.
    until("the end of a member", || {
        let removed = fleet.cluster.etcdctl("root", &["member", "remove", id]);
        let is_removed =
            |report: Report| report.code == Some(0) || report.stderr.contains("member not found");
        is_removed(removed.ok()?).then_some(())
    })?;
    fleet.cluster.kill(2)?;
    fs::remove_dir_all(fleet.cluster.data(2))?;
    let peer = format!("--peer-urls=https://{}:2380", MEMBERS[2]);
    // Two members may have to elect a leader first.
    until("the new member", || {
        let added = fleet
            .cluster
            .etcdctl("root", &["member", "add", "m2", &peer]);
        let is_added = |report: Report| {
            report.code == Some(0) || report.stderr.contains("Peer URLs already exists")
        };
        is_added(added.ok()?).then_some(())
    })?;
    fleet.cluster.start_member(2, "existing")?;
    fleet.cluster.until_healthy()?;
    number += 1;
    fleet.push_now(number)?;
    all_have(&hosts, number)?;
    for host in &hosts {
        fleet.until_host(&host.name, "in-force")?;
    }
    Ok(())
}

/// As on a machine that is too busy for heartbeats.
fn an_election_ends_no_push() -> Result<()> {
    const PUSHES: u32 = 5;
    let (fleet, hosts) = begun(&[])?;
    let is_over = AtomicBool::new(false);
    let elections = std::thread::scope(|scope| {
        let electing = scope.spawn(|| {
            let mut elections = 0;
            while !is_over.load(Ordering::Relaxed) {
                let members = fleet.cluster.etcdctl_ok("root", &["member", "list"]);
                for line in members.unwrap_or_default().lines() {
                    let id = line.split(',').next().unwrap_or_default();
                    let moved = fleet.cluster.etcdctl("root", &["move-leader", id]);
                    elections += u32::from(moved.is_ok_and(|report| report.code == Some(0)));
                }
            }
            elections
        });
        let pushed = (0..PUSHES).try_for_each(|number| fleet.push_now(2 + number));
        is_over.store(true, Ordering::Relaxed);
        pushed.and(electing.join().map_err(|_| anyhow!("it panicked")))
    })?;
    ensure!(elections > PUSHES, "{elections} elections");
    all_have(&hosts, 1 + PUSHES)
}

fn a_full_store_is_named_and_repaired() -> Result<()> {
    let (fleet, hosts) = begun(&["--quota-backend-bytes=16777216"])?;
    let junk = "x".repeat(1 << 20);
    let file = fleet.cluster.sandbox().write("junk", junk)?;
    until("the alarm", || {
        let put = format!("etcdctl put /dfw/v1/prod/junk <{}", file.display());
        let put = fleet.cluster.shell("dfw-push", &put).ok()?;
        (put.code != Some(0) && put.stderr.contains("space")).then_some(())
    })?;
    fleet.policy(&policy(2))?;
    let report = fleet.push(&["--now"])?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("NOSPACE"),
        "{report:?}"
    );
    let said = problems(&fleet)?;
    ensure!(
        said.contains("NOSPACE") && said.contains("repair"),
        "{said}"
    );
    all_have(&hosts, 1)?;
    // Who pushes may not defragment; an administrator of etcd may.
    let report = fleet.dfw(&["repair"])?;
    ensure!(
        report.code == Some(1) && report.stderr.contains("no permission"),
        "{report:?}"
    );
    let root = fleet.cluster.identity("root")?;
    let report = fleet.dfw(&["repair", "--tls", &root.to_string_lossy()])?;
    ensure!(report.code == Some(0), "{report:?}");
    fleet.push_now(3)?;
    all_have(&hosts, 3)
}

fn a_member_whose_disk_is_full_ends_alone() -> Result<()> {
    let (mut fleet, hosts) = begun(&[])?;
    // etcd allocates 64 MB of log ahead, twice; then the disk is full.
    fleet.cluster.kill(1)?;
    fs::remove_dir_all(fleet.cluster.data(1))?;
    fs::create_dir(fleet.cluster.data(1))?;
    fleet.cluster.replace_small(1, "140m")?;
    let file = fleet.cluster.sandbox().write("junk", "x".repeat(1 << 20))?;
    until("the end of a member", || {
        let put = format!("etcdctl put /dfw/v1/prod/junk <{}", file.display());
        fleet.cluster.shell("dfw-push", &put).ok()?;
        (!fleet.cluster.is_running(1)).then_some(())
    })?;
    let said = problems(&fleet)?;
    ensure!(said.contains(MEMBERS[1]), "{said}");
    fleet.push_now(2)?;
    all_have(&hosts, 2)
}

fn a_store_that_went_back_changes_nothing() -> Result<()> {
    let (mut fleet, hosts) = begun(&[])?;
    let snapshot = fleet.cluster.sandbox().dir().join("snapshot.db");
    let endpoint = format!("https://{}:2379", MEMBERS[0]);
    let path = snapshot.to_string_lossy().into_owned();
    fleet.cluster.etcdctl_ok(
        "root",
        &["--endpoints", &endpoint, "snapshot", "save", &path],
    )?;
    fleet.push_now(2)?;
    all_have(&hosts, 2)?;
    let rules: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    fleet.cluster.restore(&snapshot)?;
    for (host, rules) in hosts.iter().zip(&rules) {
        host.until("store-behind")?;
        ensure!(host.rules()? == *rules, "{}: other rules", host.name);
    }
    let said = problems(&fleet)?;
    ensure!(said.contains("restored from an older copy"), "{said}");
    fleet.push_now(3)?;
    all_have(&hosts, 3)?;
    ensure!(fleet.status()?["generation"] == 3, "{}", fleet.status()?);
    // Emptied: users are gone, too.
    let rules: Vec<_> = hosts.iter().map(Host::rules).collect::<Result<_>>()?;
    fleet.cluster.empty()?;
    for host in &hosts {
        until("no head", || {
            let failure = host.status().ok()?["failure"].clone();
            failure.as_str()?.contains("no head").then_some(())
        })?;
    }
    for (host, rules) in hosts.iter().zip(&rules) {
        ensure!(host.rules()? == *rules, "{}: other rules", host.name);
    }
    fleet.push_now(4)?;
    all_have(&hosts, 4)?;
    ensure!(fleet.status()?["generation"] == 4, "{}", fleet.status()?);
    Ok(())
}
