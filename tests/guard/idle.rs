//! What guard costs while nothing happens, and what it does if it may have missed something.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::Named;
use crate::daemon::Daemon;
use crate::namespace::Sandbox;

pub(crate) const TRIALS: &[Named] = &[
    ("an_idle_guard_does_nothing", an_idle_guard_does_nothing),
    ("a_long_list_is_guarded", a_long_list_is_guarded),
    (
        "a_modification_of_which_no_word_arrived_is_undone",
        a_modification_of_which_no_word_arrived_is_undone,
    ),
];

/// While another guard, elsewhere, is busy.
fn an_idle_guard_does_nothing() -> Result<()> {
    let (idle, busy) = (Sandbox::new()?, Sandbox::new()?);
    for sandbox in [&idle, &busy] {
        sandbox.write(
            "policies/a.yaml",
            "default: deny\nports: {80: [203.0.113.7]}\n",
        )?;
    }
    let mut guard = Daemon::start(&idle, &[])?;
    let mut other = Daemon::start(&busy, &["--no-owner"])?;
    guard.expect_in_force()?;
    other.expect_in_force()?;
    let mut modify = || -> Result<()> {
        for _ in 0..5 {
            busy.nft("flush ruleset")?;
            other.expect("restored after ")?;
        }
        Ok(())
    };
    // It may have had things to finish, and things to write.
    crate::daemon::until("the state", || {
        idle.dir().join("state/last-good").exists().then_some(())
    })?;
    modify()?;
    let before = guard.switches()?;
    modify()?;
    let after = guard.switches()?;
    ensure!(before == after, "it woke up {} times", after - before);
    eprintln!("an idle guard holds {} KiB", guard.memory()?);
    Ok(())
}

/// Takes seconds in a debug build with a million; the figures in docs/guard.md are of a release.
fn a_long_list_is_guarded() -> Result<()> {
    let count: u32 = std::env::var("DFW_SOURCES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(50_000);
    let sandbox = Sandbox::new()?;
    let address = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n);
    let list: Vec<String> = (0..count).map(|n| address(n).to_string()).collect();
    let list = list.join("\n") + "\n";
    sandbox.write("policies/list", &list)?;
    sandbox.write(
        "policies/a.yaml",
        "default: deny\nsources: {many: {file: list}}\nports: {80: [many]}\n",
    )?;
    let mut guard = Daemon::start(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    eprintln!("with {count} sources guard holds {} KiB", guard.memory()?);
    sandbox.nft("flush ruleset")?;
    let line = guard.expect("restored after ")?;
    eprintln!("with {count} sources: {line}");
    sandbox.write("policies/list", list + "192.0.2.1\n")?;
    guard.expect_in_force()?;
    eprintln!("after a change it holds {} KiB", guard.memory()?);
    Ok(())
}

/// Another table changes more often than guard's socket has room for, and then dfw's own.
fn a_modification_of_which_no_word_arrived_is_undone() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write(
        "policies/a.yaml",
        "default: deny\nports: {80: [203.0.113.7]}\n",
    )?;
    let mut guard = Daemon::start(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    let rules = sandbox.installed()?;
    guard.signal(Signal::STOP)?;
    let addresses = (0..200_000_u32).map(|n| Ipv4Addr::from(0x0a00_0000 + 2 * n).to_string());
    let addresses: Vec<String> = addresses.collect();
    sandbox.nft_load(
        &["-f"],
        &format!(
            "table inet other {{ set many {{ type ipv4_addr\n elements = {{ {} }}\n }}\n }}",
            addresses.join(", ")
        ),
    )?;
    sandbox.nft("flush table inet dfw-nft")?;
    ensure!(sandbox.installed()? != rules, "nothing was modified");
    guard.signal(Signal::CONT)?;
    guard.expect("netlink notifications lost")?;
    crate::daemon::until("the rules", || {
        (sandbox.installed().ok()? == rules).then_some(())
    })?;
    guard.stop()
}
