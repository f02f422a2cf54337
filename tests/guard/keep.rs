//! The last good policy, kept on disk.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dfw::kernel::{Kernel, Snapshot};

use crate::Named;
use crate::daemon::{Daemon, arguments, until};
use crate::namespace::{DFW, Sandbox};
use crate::silent::Silent;
use crate::support::netns::Namespace;

pub(crate) const TRIALS: &[Named] = &[
    ("the_last_good_policy_is_used", the_last_good_policy_is_used),
    ("a_damaged_state_is_ignored", a_damaged_state_is_ignored),
    (
        "without_any_policy_what_is_in_force_stays",
        without_any_policy_what_is_in_force_stays,
    ),
    (
        "a_full_disk_is_reported_and_survived",
        a_full_disk_is_reported_and_survived,
    ),
    (
        "a_slow_disk_holds_up_no_repair",
        a_slow_disk_holds_up_no_repair,
    ),
    (
        "without_rules_it_is_not_ready",
        without_rules_it_is_not_ready,
    ),
    (
        "rejected_rules_are_replaced_by_the_last_good_ones",
        rejected_rules_are_replaced_by_the_last_good_ones,
    ),
];

const POLICY: &str =
    "default: deny\nsources: {office: {file: lists/office}}\nports: {80: [office]}\n";

/// A place where a guard has run with a policy and a list, and where no rules are left.
fn left() -> Result<(Sandbox, dfw::ruleset::Ruleset)> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.write("policies/lists/office", "203.0.113.7\n")?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let installed = sandbox.installed()?;
    until("the state", || {
        sandbox.dir().join("state/last-good").exists().then_some(())
    })?;
    guard.stop()?;
    // As after a reboot.
    sandbox.dfw_ok(&["remove"])?;
    Ok((sandbox, installed))
}

fn the_last_good_policy_is_used() -> Result<()> {
    for damage in ["remove", "break", "list"] {
        let (sandbox, installed) = left()?;
        match damage {
            "remove" => std::fs::remove_dir_all(sandbox.dir().join("policies"))?,
            "break" => drop(sandbox.write("policies/a.yaml", "default: [")?),
            _ => std::fs::remove_file(sandbox.dir().join("policies/lists/office"))?,
        }
        let mut guard = Daemon::start(&sandbox, &[])?;
        guard.expect("using the last good policies")?;
        guard.expect_in_force()?;
        ensure!(sandbox.installed()? == installed, "{damage}: not the same");
        // The files come back.
        sandbox.write("policies/lists/office", "203.0.113.8\n")?;
        sandbox.write("policies/a.yaml", POLICY)?;
        guard.expect("valid again")?;
        guard.expect_in_force()?;
        ensure!(
            sandbox.installed()? != installed,
            "{damage}: still the same"
        );
    }
    Ok(())
}

fn a_damaged_state_is_ignored() -> Result<()> {
    let (sandbox, _) = left()?;
    let state = sandbox.dir().join("state/last-good");
    let mut bytes = std::fs::read(&state)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes)?;
    sandbox.write("policies/a.yaml", "default: [")?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect("is damaged")?;
    ensure!(sandbox.snapshot()?.installed.is_none());
    sandbox.write("policies/a.yaml", "default: deny\n")?;
    guard.expect_in_force()
}

fn without_any_policy_what_is_in_force_stays() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let path = sandbox.write("former.yaml", "default: deny\nports: {80: [203.0.113.7]}\n")?;
    sandbox.dfw_ok(&["apply", &path.to_string_lossy()])?;
    let before = sandbox.snapshot()?.installed;
    sandbox.write("policies/a.yaml", "default: [")?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect("the rules in force stay")?;
    let status = sandbox.dir().join("guard.sock");
    let report = sandbox.dfw_ok(&["status", "--socket", &status.to_string_lossy()])?;
    ensure!(report.contains("no valid policy yet"), "{report}");
    ensure!(
        sandbox.snapshot()?.installed == before,
        "something was changed"
    );
    guard.stop()
}

fn a_full_disk_is_reported_and_survived() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.write("policies/lists/office", "203.0.113.7\n")?;
    let state = sandbox.dir().join("state");
    std::fs::create_dir(&state)?;
    // A disk of two pages, in a mount namespace that ends with guard.
    let script = "mount -t tmpfs -o size=8k none \"$1\" && shift && exec \"$@\"";
    let mut command: Command = sandbox.namespace().command("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&state);
    command.arg(DFW).args(arguments(&sandbox, &[]));
    let mut guard = Daemon::of(command)?;
    guard.expect_in_force()?;
    until("the state", || {
        let kept = format!("/proc/{}/root{}/last-good", guard.pid(), state.display());
        std::path::Path::new(&kept).exists().then_some(())
    })?;
    let list: Vec<String> = (0..5000)
        .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
        .collect();
    let list = list.join("\n");
    sandbox.write("policies/lists/office", &list)?;
    guard.expect_in_force()?;
    let line = guard.expect("cannot be saved")?;
    ensure!(line.contains("No space left"), "{line}");
    // It goes on, and what is kept is whole.
    sandbox.write("policies/lists/office", "203.0.113.9\n")?;
    guard.expect("the policies are saved again")?;
    guard.stop()
}

/// The disk of the state does not answer at all.
fn a_slow_disk_holds_up_no_repair() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.write("policies/lists/office", "203.0.113.7\n")?;
    let mut guard = crate::silent::guard(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    let state = sandbox.dir().join("state");
    until("the state", || {
        state.join("last-good").exists().then_some(())
    })?;
    let silent = Silent::over(&state, &guard)?;
    sandbox.write("policies/lists/office", "203.0.113.8\n")?;
    guard.expect_in_force()?;
    sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    sandbox.write("policies/lists/office", "203.0.113.9\n")?;
    guard.expect_in_force()?;
    // The newest is kept as soon as it can be.
    silent.end()?;
    until("what is kept", || {
        let kept = std::fs::read_to_string(state.join("last-good")).ok()?;
        kept.contains("203.0.113.9").then_some(())
    })?;
    guard.stop()
}

/// A guard that is root in a user namespace only, where a transaction must fit into `net.core.wmem_max`;
/// the network namespace ends with it, as by a reboot.
fn limited(sandbox: &Sandbox, more: &[(&str, &str)]) -> Result<Daemon> {
    let mut command = crate::support::command::program("unshare");
    command.args(["--user", "--map-root-user", "--net", DFW]);
    command.args(arguments(sandbox, &[]));
    command.envs(more.iter().copied());
    Daemon::of(command)
}

fn snapshot_beside(guard: &Daemon) -> Result<Snapshot> {
    let namespace = Namespace::at(format!("/proc/{}/ns/net", guard.pid()).into());
    namespace.run(|| Ok(Kernel::open()?.snapshot()?))
}

/// A list that is too long for a limited one.
fn too_many() -> Result<String> {
    let room = std::fs::read_to_string("/proc/sys/net/core/wmem_max")?;
    // The kernel doubles it, and each network takes more than these bytes.
    let count = room.trim().parse::<u32>()? * 2 / 60;
    let network = |n: u32| format!("2001:db8:{:x}:{:x}::/64\n", n >> 15, (2 * n) & 0xffff);
    Ok((0..count).map(network).collect())
}

fn without_rules_it_is_not_ready() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.write("policies/lists/office", too_many()?)?;
    let path = sandbox.dir().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(Duration::from_mins(2)))?;
    let heard = || -> Result<String> {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).context("nothing is told")?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let socket = path.to_string_lossy();
    let mut guard = limited(&sandbox, &[("NOTIFY_SOCKET", &*socket)])?;
    guard.expect("no rules are in force")?;
    ensure!(snapshot_beside(&guard)?.installed.is_none());
    let report = heard()?;
    ensure!(!report.contains("READY=1"), "{report}");
    ensure!(
        report.contains("STATUS=no policies are in force"),
        "{report}"
    );
    // A signal makes it no readier.
    guard.signal(rustix::process::Signal::HUP)?;
    guard.expect("reloading policies, engines and interfaces")?;
    guard.expect("no rules are in force")?;
    sandbox.write("policies/lists/office", "203.0.113.7\n")?;
    guard.expect_in_force()?;
    guard.expect("recovered from the last error")?;
    loop {
        let report = heard()?;
        if report.contains("READY=1") {
            ensure!(
                report.contains("STATUS=the policies are in force"),
                "{report}"
            );
            break;
        }
        ensure!(report.contains("failing: "), "{report}");
    }
    ensure!(snapshot_beside(&guard)?.installed.is_some());
    guard.stop()
}

fn rejected_rules_are_replaced_by_the_last_good_ones() -> Result<()> {
    let (sandbox, installed) = left()?;
    sandbox.write("policies/lists/office", too_many()?)?;
    let mut guard = limited(&sandbox, &[])?;
    guard.expect("no rules are in force")?;
    guard.expect("using the last good policies until the kernel accepts the rules of the files")?;
    guard.expect("in force: the last good policies of ")?;
    let in_force = snapshot_beside(&guard)?.installed;
    ensure!(in_force.context("no rules")?.ruleset == installed);
    // What is in force stays while it tries again.
    guard.expect("the rules in force stay")?;
    sandbox.write("policies/lists/office", "203.0.113.8\n")?;
    guard.expect_in_force()?;
    guard.expect("recovered from the last error")?;
    guard.stop()
}
