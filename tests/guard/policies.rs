//! Policies that change.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::{Sandbox, compiled_text};

pub(crate) const TRIALS: &[Named] = &[
    ("a_change_is_taken_up", a_change_is_taken_up),
    (
        "a_wrong_policy_changes_nothing",
        a_wrong_policy_changes_nothing,
    ),
    (
        "a_vanished_directory_changes_nothing",
        a_vanished_directory_changes_nothing,
    ),
    (
        "a_flood_of_changes_is_work_once",
        a_flood_of_changes_is_work_once,
    ),
    (
        "busy_writers_do_not_delay_guard",
        busy_writers_do_not_delay_guard,
    ),
    (
        "a_list_is_followed_through_links",
        a_list_is_followed_through_links,
    ),
];

const FIRST: &str = "default: deny\nports: {80: [203.0.113.7]}\n";

/// Whether the rules of these ports are in force, and no others.
fn ports(sandbox: &Sandbox, expected: &[&str]) -> Result<bool> {
    let chains = sandbox.installed()?.chains;
    let ports = chains
        .keys()
        .filter_map(|name| dfw::compile::port_of_chain(name));
    let mut ports: Vec<String> = ports.map(|(_, key)| key.to_string()).collect();
    ports.sort();
    ports.dedup();
    Ok(ports == expected)
}

fn until_ports(sandbox: &Sandbox, expected: &[&str]) -> Result<()> {
    until(&format!("ports {expected:?}"), || {
        ports(sandbox, expected).is_ok_and(|are| are).then_some(())
    })
}

fn a_change_is_taken_up() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", FIRST)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    ensure!(ports(&sandbox, &["80/tcp"])?);
    // A new file.
    let other = sandbox.write("policies/b.yaml", "ports: {443: any}\n")?;
    until_ports(&sandbox, &["443/tcp", "80/tcp"])?;
    // As editors write: another file that takes its place.
    let beside = sandbox.write("policies/.b.yaml.swp", "ports: {8443: any}\n")?;
    std::fs::rename(beside, &other)?;
    until_ports(&sandbox, &["80/tcp", "8443/tcp"])?;
    // In place.
    sandbox.write("policies/b.yaml", "ports: {22: any}\n")?;
    until_ports(&sandbox, &["22/tcp", "80/tcp"])?;
    std::fs::remove_file(other)?;
    until_ports(&sandbox, &["80/tcp"])?;
    guard.signal(Signal::HUP)?;
    guard.expect("reloading policies, engines and interfaces")?;
    guard.stop()?;
    ensure!(ports(&sandbox, &["80/tcp"])?, "the rules are gone");
    Ok(())
}

/// Somebody writes without pause in the folder around that of the policies.
fn busy_writers_do_not_delay_guard() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", FIRST)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in ["one", "other"] {
            let path = sandbox.dir().join(name);
            let ended = &ended;
            scope.spawn(move || {
                while !ended.load(Ordering::Acquire) && std::fs::write(&path, name).is_ok() {}
            });
        }
        let changed = sandbox
            .write("policies/b.yaml", "ports: {443: any}\n")
            .and_then(|_| until_ports(&sandbox, &["443/tcp", "80/tcp"]));
        ended.store(true, Ordering::Release);
        changed
    })?;
    guard.stop()
}

fn a_wrong_policy_changes_nothing() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", FIRST)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let before = sandbox.snapshot()?;
    sandbox.write("policies/b.yaml", "ports: {443: [nobody-knows]}\n")?;
    let line = guard.expect("b.yaml:1:")?;
    ensure!(line.ends_with("unknown-source: not a source"), "{line}");
    guard.expect("have errors and are not applied")?;
    // A test of the policy that fails is as bad.
    let tests = "ports: {443: any}\ntests:\n  - {from: 192.0.2.1, to: 443, expect: refuse}\n";
    sandbox.write("policies/b.yaml", tests)?;
    guard.expect("have errors and are not applied")?;
    ensure!(sandbox.snapshot()? == before, "something was changed");
    sandbox.write("policies/b.yaml", "ports: {443: any}\n")?;
    guard.expect("valid again")?;
    until_ports(&sandbox, &["443/tcp", "80/tcp"])
}

fn a_vanished_directory_changes_nothing() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("etc/policies/a.yaml", FIRST)?;
    let (etc, gone) = (sandbox.dir().join("etc"), sandbox.dir().join("gone"));
    let path = etc.join("policies").to_string_lossy().into_owned();
    std::os::unix::fs::symlink(&path, sandbox.dir().join("policies"))?;
    let mut command = sandbox.program(&["guard", &path, "--docker-host", "none"]);
    command.arg("--state").arg(sandbox.dir().join("state"));
    command
        .arg("--socket")
        .arg(sandbox.dir().join("guard.sock"));
    let mut guard = Daemon::of(command)?;
    guard.expect_in_force()?;
    let before = sandbox.snapshot()?;
    for folder in [etc.join("policies"), etc.clone()] {
        std::fs::rename(&folder, &gone)?;
        guard.expect("cannot read")?;
        guard.expect("have errors and are not applied")?;
        ensure!(sandbox.snapshot()? == before, "something was changed");
        std::fs::rename(&gone, &folder)?;
        guard.expect("valid again")?;
    }
    // What comes back is watched as before.
    sandbox.write("etc/policies/b.yaml", "ports: {443: any}\n")?;
    until_ports(&sandbox, &["443/tcp", "80/tcp"])
}

fn a_flood_of_changes_is_work_once() -> Result<()> {
    const CHANGES: u16 = 400;
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", FIRST)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    for port in 1..=CHANGES {
        sandbox.write(
            "policies/b.yaml",
            format!("ports: {{{}: any}}\n", 1000 + port),
        )?;
    }
    until_ports(&sandbox, &["1400/tcp", "80/tcp"])?;
    sandbox.write("policies/b.yaml", "ports: {443: any}\n")?;
    until_ports(&sandbox, &["443/tcp", "80/tcp"])?;
    guard.signal(Signal::HUP)?;
    guard.expect("reloading policies, engines and interfaces")?;
    let applied = guard
        .said
        .iter()
        .filter(|line| line.contains("in force: "))
        .count();
    ensure!(
        applied < usize::from(CHANGES) / 4,
        "{applied} times for {CHANGES} changes"
    );
    Ok(())
}

fn a_list_is_followed_through_links() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let list = sandbox.write("elsewhere/real.txt", "192.0.2.1\n")?;
    std::fs::create_dir(sandbox.dir().join("lists"))?;
    std::os::unix::fs::symlink(&list, sandbox.dir().join("lists/office.txt"))?;
    let policy = |address: &str| {
        format!("default: deny\nsources: {{office: [{address}]}}\nports: {{80: [office]}}\n")
    };
    sandbox.write(
        "policies/a.yaml",
        "default: deny\nsources: {office: {file: ../lists/office.txt}}\nports: {80: [office]}\n",
    )?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let until_is = |address: &str| {
        let sets = compiled_text(&policy(address))?.sets;
        until(address, || {
            let installed = sandbox.installed().ok()?.sets;
            let same = sets.iter().all(|(name, set)| {
                installed
                    .get(name)
                    .is_some_and(|is| is.elements == set.elements)
            });
            same.then_some(())
        })
    };
    until_is("192.0.2.1")?;
    sandbox.write("elsewhere/real.txt", "192.0.2.2\n")?;
    until_is("192.0.2.2")?;
    let new = sandbox.write("elsewhere/new", "192.0.2.3\n")?;
    std::fs::rename(new, list)?;
    until_is("192.0.2.3")
}
