//! Bundles from a real web server: a generation is kept only if the server is reached through its rules, and what is
//! wrong changes nothing and is named.

mod wrong;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use minisign::KeyPair;
use rustix::process::Signal;
use serde_json::Value;

use crate::Named;
use crate::bundle::publish_to;
use crate::control::metrics;
use crate::daemon::{Daemon, until};
use crate::fetched::status;
use crate::namespace::{Report, Sandbox};
use crate::refused::fetch;
use crate::servers::Servers;
use crate::sign;
use crate::support::probe::{Outcome, PATIENCE, Transport, ask};
use crate::support::service::spawn;

pub(crate) const TRIALS: &[Named] = &[
    // Those that wait for the end of a trial begin first.
    (
        "a_generation_that_cuts_the_host_off_for_certain_is_not_tried",
        a_generation_that_cuts_the_host_off_for_certain_is_not_tried,
    ),
    (
        "a_generation_that_cuts_the_host_off_is_reverted",
        a_generation_that_cuts_the_host_off_is_reverted,
    ),
    (
        "a_server_that_was_away_for_a_trial_reverts_nothing",
        a_server_that_was_away_for_a_trial_reverts_nothing,
    ),
    (
        "what_cannot_be_decided_is_never_reverted",
        what_cannot_be_decided_is_never_reverted,
    ),
    (
        "a_guard_that_dies_in_a_trial_leaves_it_to_the_next",
        a_guard_that_dies_in_a_trial_leaves_it_to_the_next,
    ),
    (
        "a_first_generation_is_rolled_back_to_nothing",
        a_first_generation_is_rolled_back_to_nothing,
    ),
    (
        "what_a_server_has_is_confirmed_and_stays_without_it",
        what_a_server_has_is_confirmed_and_stays_without_it,
    ),
    (
        "wrong_bundles_change_nothing",
        wrong::wrong_bundles_change_nothing,
    ),
    (
        "a_list_that_breaks_a_test_holds_up_no_generation",
        a_list_that_breaks_a_test_holds_up_no_generation,
    ),
    ("from_files_to_a_site", from_files_to_a_site),
];

const ADDRESS: &str = "https://lists.example.com/prod/";
/// A policy that denies replies of the server where its connections are not tracked, but for one port that
/// connections may be opened from: before a trial nothing is certain. The kernel opens none from there: it takes odd
/// ports when no even one is left (`__inet_hash_connect` of `net/ipv4/inet_hashtables.c`).
const CUTS: &str = "default: deny\nports: {22: [203.0.113.7], 1024-60998: []}\n";
/// The same for all these ports.
const CUTS_FOR_CERTAIN: &str = "default: deny\nports: {22: [203.0.113.7], 1024-65535: []}\n";

/// How long a host may be cut off.
const WITHIN: std::time::Duration = std::time::Duration::from_mins(1);

/// A host, and a web server elsewhere that has a bundle.
struct Fleet {
    host: Sandbox,
    servers: Servers,
    /// Where the server is.
    far: Sandbox,
    key: KeyPair,
    fetcher: Option<Daemon>,
}

impl Fleet {
    fn new() -> Result<Self> {
        let (host, far) = (Sandbox::new()?, Sandbox::new()?);
        let mut servers = Servers::start(&far, &[], "")?;
        host.namespace().ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            far.namespace().path().display()
        ))?;
        for (sandbox, address) in [(&host, "198.51.100.1"), (&far, "198.51.100.2")] {
            let namespace = sandbox.namespace();
            namespace.ip(&format!("address add {address}/24 dev eth0"))?;
            namespace.ip("link set eth0 up")?;
        }
        host.namespace()
            .ip("route add 203.0.113.10 via 198.51.100.2")?;
        servers.resolve(&host, &[])?;
        // The fetcher is another user.
        fs::set_permissions(host.dir(), PermissionsExt::from_mode(0o755))?;
        let key = sign::key()?;
        host.write("policy.pub", sign::public(&key))?;
        Ok(Self {
            host,
            servers,
            far,
            key,
            fetcher: None,
        })
    }

    fn www(&self) -> PathBuf {
        self.far.dir().join("servers/www/prod")
    }

    fn policy(&self, text: &str) -> Result<()> {
        self.host.write("p/base.yaml", text).map(drop)
    }

    fn publish(&self, numbers: (u64, u64), more: &[&str]) -> Result<String> {
        publish_to(&self.host, &self.www(), numbers, more, Some(&self.key))
    }

    /// Replaces the head by one with another serial, for the same files.
    fn renew(&self, generation: u64, (former, serial): (u64, u64)) -> Result<()> {
        let path = self.www().join("head");
        let head = fs::read_to_string(&path)?;
        let line = head.lines().next().unwrap_or_default();
        let (old, new) = (
            format!("\"serial\":{former},"),
            format!("\"serial\":{serial},"),
        );
        let text = line.replace(&old, &new) + "\n";
        let comment = format!("dfw/v1/head site=prod serial={serial} generation={generation}");
        write_signed(&path, &self.key, &text, &comment)
    }

    fn guard(&self) -> Result<Daemon> {
        let path = |name: &str| self.host.dir().join(name);
        let mut command = self.host.namespace().command(crate::namespace::DFW);
        command.arg("guard").arg(ADDRESS);
        command.arg("--state").arg(path("state"));
        command.arg("--socket").arg(path("guard.sock"));
        command.arg("--trusted-key").arg(path("policy.pub"));
        command.args(["--docker-host", "none", "--host-id", "web-1"]);
        command.arg("--metrics-listen");
        command.arg(format!("unix:{}", path("metrics.sock").display()));
        command.env("DFW_CACHE", path("cache"));
        Daemon::of(command)
    }

    /// Waits until guard serves these metrics.
    fn until_metrics(&self, lines: &[&str]) -> Result<()> {
        let socket = self.host.dir().join("metrics.sock");
        until(&format!("{lines:?}"), || {
            let metrics = metrics(&socket).ok()?;
            let has = |line: &&str| metrics.lines().any(|is| is.starts_with(line));
            lines.iter().all(has).then_some(())
        })
    }

    /// Starts the fetcher, which guard tells what to fetch.
    fn start_fetcher(&mut self) -> Result<()> {
        let mut dfw = self.servers.dfw(&self.host);
        dfw.args(["fetch", "--daemon"])
            .arg(self.host.dir().join("requests.yaml"));
        self.fetcher = Some(Daemon::of(dfw)?);
        Ok(())
    }

    /// Fetches now, which must succeed.
    fn fetch(&self) -> Result<()> {
        let report = self.try_to_fetch()?;
        ensure!(report.code == Some(0), "{report:?}");
        Ok(())
    }

    fn try_to_fetch(&self) -> Result<Report> {
        let mut dfw = self.servers.dfw(&self.host);
        Report::of(dfw.args(["fetch", ADDRESS, "--host-id", "web-1"]))
    }

    fn site(&self) -> Result<Value> {
        Ok(status(&self.host)?["site"].clone())
    }

    fn rules(&self) -> Result<String> {
        Ok(self.host.installed()?.to_string())
    }

    /// Waits for a state of the site.
    fn until(&self, state: &str) -> Result<Value> {
        until(state, || {
            let site = self.site().ok()?;
            (site["state"] == state).then_some(())
        })?;
        self.site()
    }

    /// A host with a first generation in force.
    fn with_first() -> Result<(Self, Daemon)> {
        let mut fleet = Self::new()?;
        fleet.policy("default: deny\nports: {22: [203.0.113.7]}\n")?;
        fleet.publish((1, 1), &[])?;
        let mut guard = fleet.guard()?;
        guard.expect("no generation of the site was accepted yet")?;
        guard.expect("is dfw-fetch.service running?")?;
        let status = status(&fleet.host)?;
        let (summary, site) = (&status["summary"], &status["site"]);
        ensure!(
            summary
                .as_str()
                .is_some_and(|text| !text.contains("errors"))
                && site["state"] == "nothing"
                && site["reason"] == "nothing was fetched yet; is dfw-fetch.service running?",
            "{status}"
        );
        fleet.start_fetcher()?;
        guard.expect("passed all checks")?;
        guard.expect_in_force()?;
        guard.expect("confirmed")?;
        Ok((fleet, guard))
    }
}

fn what_a_server_has_is_confirmed_and_stays_without_it() -> Result<()> {
    let (mut fleet, mut guard) = Fleet::with_first()?;
    let site = fleet.until("in-force")?;
    ensure!(site["generation"] == 1 && site["serial"] == 1, "{site}");
    ensure!(
        site["manifest"].is_string() && site["stale"] == false,
        "{site}"
    );
    ensure!(fleet.rules()?.contains("203.0.113.7"));
    fleet.until_metrics(&[
        "dfw_site_generation 1",
        "dfw_site_serial 1",
        "dfw_site_stale 0",
        "dfw_site_failures_total 0",
        "dfw_site_info{state=\"in-force\",manifest=\"",
    ])?;
    let comment = fleet.host.nft("list table inet dfw-nft")?;
    ensure!(!comment.contains("unconfirmed"), "{comment}");
    // A second guard does not start here.
    let second = fleet.guard()?;
    let pid = guard.pid();
    let mut second = second;
    second.expect(&format!("process {pid}"))?;
    ensure!(second.end()? == Some(1));
    // Files of its group, and a higher number.
    fleet
        .host
        .write("p/web/web.yaml", "ports: {443: [203.0.113.8]}\n")?;
    fleet.publish((2, 2), &[])?;
    fleet.fetch()?;
    guard.expect("confirmed")?;
    ensure!(fleet.rules()?.contains("203.0.113.8"));
    // A new head for the same files changes no rule.
    let before = fleet.rules()?;
    fleet.renew(2, (2, 3))?;
    fleet.fetch()?;
    until("the new head", || {
        (fleet.site().ok()?["serial"] == 3).then_some(())
    })?;
    ensure!(fleet.rules()? == before, "a new head changed the rules");
    fleet.until_metrics(&["dfw_site_generation 2", "dfw_site_serial 3"])?;
    // A test that fails changes nothing, also one that depends on the host.
    fleet.policy(
        "default: deny\nports: {22: [203.0.113.9]}\ntests: [{from: 203.0.113.9, to: 4242, expect: deny}]\n",
    )?;
    fleet.host.namespace().run(|| spawn(&["tcp:4242"]))?;
    let rules = fleet.rules()?;
    fleet.publish((3, 4), &[])?;
    fleet.fetch()?;
    let site = fleet.until("refused")?;
    let reason = site["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("base.yaml:3:") && reason.contains("expect: deny"),
        "{site}"
    );
    ensure!(
        fleet.rules()? == rules,
        "a test that fails changed the rules"
    );
    guard.stop()?;
    // A reboot without network and without a fetcher.
    if let Some(fetcher) = fleet.fetcher.take() {
        fetcher.kill()?;
    }
    fleet.servers.go_down();
    for is_cached in [true, false] {
        fleet.host.dfw_ok(&["remove"])?;
        if !is_cached {
            fs::remove_dir_all(fleet.host.dir().join("cache"))?;
        }
        let mut guard = fleet.guard()?;
        guard.expect_in_force()?;
        ensure!(fleet.rules()? == rules, "other rules after a reboot");
        guard.stop()?;
    }
    Ok(())
}

/// Writes a text and its signature.
fn write_signed(path: &Path, key: &KeyPair, text: &str, comment: &str) -> Result<()> {
    fs::write(path, text)?;
    sign::append(path, key, comment)
}

/// A server that has a list does not decide which generation a host has.
fn a_list_that_breaks_a_test_holds_up_no_generation() -> Result<()> {
    const BAD: &str = "198.51.100.66";
    let policy = |client: &str| {
        format!(
            "default: deny\nsources: {{list: {{name: list.example.com}}}}\n\
             ports: {{80: [list], 22: [{client}]}}\n\
             tests: [{{from: {BAD}, to: 80, expect: deny}}]\n"
        )
    };
    let mut fleet = Fleet::new()?;
    // For an hour it is not asked for again.
    let record = "--host-record=list.example.com,192.0.2.7,3600";
    fleet.servers.resolve(&fleet.host, &[record])?;
    fleet.policy(&policy("203.0.113.7"))?;
    fleet.publish((1, 1), &[])?;
    let mut guard = fleet.guard()?;
    guard.expect("no generation of the site was accepted yet")?;
    fleet.start_fetcher()?;
    guard.expect("confirmed")?;
    let has = |addresses: [&str; 2]| {
        until(&format!("{addresses:?}"), || {
            let rules = fleet.rules().ok()?;
            let all = addresses.iter().all(|address| rules.contains(address));
            (all && !rules.contains(BAD)).then_some(())
        })
    };
    has(["192.0.2.7", "203.0.113.7"])?;
    fetch(&fleet.host, "list", BAD)?;
    guard.expect("the new list breaks the test at base.yaml:4")?;
    fleet.policy(&policy("203.0.113.8"))?;
    fleet.publish((2, 2), &[])?;
    fleet.fetch()?;
    guard.expect("confirmed")?;
    has(["192.0.2.7", "203.0.113.8"])?;
    // It is refused once more where nothing was accepted before it: nobody is allowed.
    guard.stop()?;
    fs::remove_file(
        fleet
            .host
            .dir()
            .join("state/accepted-name-list.example.com"),
    )?;
    let mut guard = fleet.guard()?;
    guard.expect_in_force()?;
    fleet.policy(&policy("203.0.113.9"))?;
    fleet.publish((3, 3), &[])?;
    fleet.fetch()?;
    guard.expect("confirmed")?;
    has(["203.0.113.9", "203.0.113.9"])?;
    ensure!(!fleet.rules()?.contains("192.0.2.7"));
    guard.stop()
}

/// Makes each connection to the server take three seconds: two of its first segments are lost. So a trial does not
/// end before the server does, however busy this machine is.
fn slow_down(fleet: &Fleet) -> Result<()> {
    for command in [
        "add table inet slow",
        "add set inet slow one { type inet_service; flags dynamic,timeout; timeout 1m; }",
        "add set inet slow two { type inet_service; flags dynamic,timeout; timeout 1m; }",
        "add chain inet slow in { type filter hook input priority filter; }",
        "add rule inet slow in tcp dport != 443 accept",
        "add rule inet slow in tcp flags & (syn | ack) != syn accept",
        "add rule inet slow in tcp sport != @one add @one { tcp sport } drop",
        "add rule inet slow in tcp sport != @two add @two { tcp sport } drop",
    ] {
        fleet.far.nft(command)?;
    }
    Ok(())
}

/// Publishes a second generation, and stops the server when its trial has begun.
fn begin_trial_and_stop_the_server(fleet: &mut Fleet, guard: &mut Daemon) -> Result<()> {
    fleet.policy("default: deny\nports: {22: [203.0.113.66]}\n")?;
    fleet.publish((2, 2), &[])?;
    slow_down(fleet)?;
    fleet.fetch()?;
    guard.expect("come into force")?;
    fleet.servers.go_down();
    fleet.far.nft("delete table inet slow")?;
    guard.expect_in_force()
}

fn a_generation_that_cuts_the_host_off_for_certain_is_not_tried() -> Result<()> {
    let (fleet, mut guard) = Fleet::with_first()?;
    fleet.host.exclude_from_tracking(443)?;
    let rules = fleet.rules()?;
    fleet.policy(CUTS_FOR_CERTAIN)?;
    fleet.publish((2, 2), &[])?;
    fleet.fetch()?;
    // Nothing between them: the new rules were never in force.
    guard.expect("generation 2 passed all checks: probing the server")?;
    guard.expect_next("refused: it would cut this host off")?;
    let site = fleet.until("refused")?;
    let reason = site["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("203.0.113.10:443") && reason.contains("base.yaml:2"),
        "{reason}"
    );
    ensure!(fleet.rules()? == rules, "other rules");
    // It is judged again, and tried where its replies are tracked.
    fleet.host.nft("delete table inet stateless")?;
    fleet.renew(2, (2, 3))?;
    fleet.fetch()?;
    guard.expect("come into force")?;
    guard.expect("confirmed")?;
    fleet.until("in-force")?;
    guard.stop()
}

fn a_generation_that_cuts_the_host_off_is_reverted() -> Result<()> {
    let (fleet, mut guard) = Fleet::with_first()?;
    fleet.host.exclude_from_tracking(443)?;
    let rules = fleet.rules()?;
    fleet.policy(CUTS)?;
    fleet.publish((2, 2), &[])?;
    fleet.fetch()?;
    for times in 1..=2 {
        guard.expect("come into force")?;
        let began = dfw::clock::since_boot();
        guard.expect_in_force()?;
        guard.expect("rolling back")?;
        guard.expect("in force: ")?;
        let took = dfw::clock::since_boot().saturating_sub(began);
        eprintln!("rolled back after {took:?}");
        ensure!(took <= WITHIN, "cut off for {took:?}");
        if times == 1 {
            guard.expect("tried once more")?;
            let site = fleet.site()?;
            ensure!(site["state"] != "reverted", "{site}");
        }
    }
    guard.expect("cuts this host off")?;
    let site = fleet.until("reverted")?;
    ensure!(site["generation"] == 1 && site["accepted"] == 2, "{site}");
    ensure!(fleet.rules()? == rules, "not the former rules");
    // It is not tried again, also by another guard and with another head.
    guard.stop()?;
    let mut guard = fleet.guard()?;
    guard.expect_in_force()?;
    fleet.renew(2, (2, 3))?;
    fleet.fetch()?;
    until("the new head", || {
        (fleet.site().ok()?["serial"] == 3).then_some(())
    })?;
    ensure!(fleet.rules()? == rules, "tried again");
    fleet.policy("default: deny\nports: {22: [203.0.113.66]}\n")?;
    fleet.publish((3, 4), &[])?;
    fleet.fetch()?;
    guard.expect("confirmed")?;
    ensure!(fleet.rules()?.contains("203.0.113.66"));
    guard.stop()
}

/// Guard can come back to policies that it knows from before it followed a site.
fn from_files_to_a_site() -> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.policy("default: deny\nports: {22: [203.0.113.7]}\n")?;
    let mut command = fleet.host.namespace().command(crate::namespace::DFW);
    command.arg("guard").arg(fleet.host.dir().join("p"));
    command.arg("--state").arg(fleet.host.dir().join("state"));
    command
        .arg("--socket")
        .arg(fleet.host.dir().join("guard.sock"));
    command.args(["--docker-host", "none"]);
    let mut guard = Daemon::of(command)?;
    guard.expect_in_force()?;
    guard.stop()?;
    fleet.policy("default: deny\nports: {22: [203.0.113.8]}\n")?;
    fleet.publish((1, 1), &[])?;
    let mut guard = fleet.guard()?;
    guard.expect("no generation of the site was accepted yet")?;
    fleet.start_fetcher()?;
    guard.expect("confirmed")?;
    ensure!(fleet.rules()?.contains("203.0.113.8"));
    guard.stop()
}

/// A server that is silent while a generation is tried, and there again once it is rolled back.
fn a_server_that_was_away_for_a_trial_reverts_nothing() -> Result<()> {
    let (fleet, mut guard) = Fleet::with_first()?;
    let rules = fleet.rules()?;
    fleet.policy("default: deny\nports: {22: [203.0.113.66]}\n")?;
    fleet.publish((2, 2), &[])?;
    slow_down(&fleet)?;
    fleet.fetch()?;
    guard.expect("come into force")?;
    for command in [
        "add table inet away",
        "add chain inet away in { type filter hook input priority filter; policy drop; }",
        "delete table inet slow",
    ] {
        fleet.far.nft(command)?;
    }
    guard.expect_in_force()?;
    guard.expect("rolling back")?;
    fleet.far.nft("delete table inet away")?;
    guard.expect("tried once more")?;
    ensure!(fleet.rules()? == rules, "not the former rules");
    guard.expect("confirmed")?;
    let site = fleet.until("in-force")?;
    ensure!(site["generation"] == 2, "{site}");
    ensure!(fleet.rules()?.contains("203.0.113.66"));
    guard.stop()
}

fn what_cannot_be_decided_is_never_reverted() -> Result<()> {
    let (mut fleet, mut guard) = Fleet::with_first()?;
    let rules = fleet.rules()?;
    begin_trial_and_stop_the_server(&mut fleet, &mut guard)?;
    let removed = fleet.host.dfw(&["remove"])?;
    ensure!(
        removed.code == Some(1) && removed.stderr.contains("not confirmed yet"),
        "{removed:?}"
    );
    let path = fleet.host.dir().join("p").to_string_lossy().into_owned();
    let applied = fleet
        .host
        .dfw(&["apply", &path, "--docker-host", "none", "--yes"])?;
    ensure!(
        applied.code == Some(1) && applied.stderr.contains("not confirmed yet"),
        "{applied:?}"
    );
    guard.expect("rolling back")?;
    let site = fleet.until("undecided")?;
    ensure!(site["generation"] == 1, "{site}");
    ensure!(fleet.rules()? == rules, "not the former rules");
    guard.stop()?;
    // The next guard tries again, and waits for the server first.
    let mut guard = fleet.guard()?;
    guard.expect_in_force()?;
    guard.expect("waiting: the server cannot be reached")?;
    ensure!(fleet.rules()? == rules, "applied without the server");
    fleet.servers.host(&fleet.far, "")?;
    guard.expect("confirmed")?;
    ensure!(fleet.rules()?.contains("203.0.113.66"));
    guard.stop()
}

fn a_guard_that_dies_in_a_trial_leaves_it_to_the_next() -> Result<()> {
    let (mut fleet, mut guard) = Fleet::with_first()?;
    let rules = fleet.rules()?;
    begin_trial_and_stop_the_server(&mut fleet, &mut guard)?;
    guard.signal(Signal::KILL)?;
    guard.kill()?;
    let mut guard = fleet.guard()?;
    guard.expect("a former guard ended")?;
    guard.expect("in force: https://")?;
    let now = fleet.rules()?;
    ensure!(now == rules, "not the former rules: {now} {:?}", guard.said);
    fleet.until("waiting")?;
    fleet.servers.host(&fleet.far, "")?;
    guard.expect("confirmed")?;
    guard.stop()?;
    // The host has its rules, and a client is denied.
    let to = SocketAddr::new(IpAddr::from([198, 51, 100, 1]), 22);
    let outcome = fleet
        .far
        .namespace()
        .run(|| ask(Transport::Tcp, None, to, PATIENCE))?;
    ensure!(outcome != Outcome::Open);
    Ok(())
}

fn a_first_generation_is_rolled_back_to_nothing() -> Result<()> {
    let mut fleet = Fleet::new()?;
    fleet.policy("default: deny\nports: {22: [203.0.113.7]}\n")?;
    fleet.publish((1, 1), &[])?;
    let mut guard = fleet.guard()?;
    guard.expect("no generation of the site was accepted yet")?;
    slow_down(&fleet)?;
    fleet.start_fetcher()?;
    guard.expect("come into force")?;
    fleet.servers.go_down();
    guard.expect("in force: https://")?;
    guard.kill()?;
    let mut guard = fleet.guard()?;
    guard.expect("rolled back: no rules are in force")?;
    let tables = fleet.host.nft("list tables")?;
    ensure!(!tables.contains("dfw-nft"), "{tables}");
    guard.stop()
}
