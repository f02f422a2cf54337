//! No untrusted client gets access, whatever happens to guard and to the ruleset.

use anyhow::{Result, ensure};
use dfw::kernel::Claim;

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::Sandbox;
use crate::stranger::{CLOSED, Stranger};

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_successor_takes_over_without_a_gap",
        a_successor_takes_over_without_a_gap,
    ),
    ("a_flush_opens_nothing", a_flush_opens_nothing),
    (
        "without_an_owner_a_flush_opens_a_moment",
        without_an_owner_a_flush_opens_a_moment,
    ),
];

/// A host with a stranger at a port that is open until guard closes it.
fn beset(more: &[&str]) -> Result<(Sandbox, Stranger, Daemon)> {
    let host = Sandbox::new()?;
    let stranger = Stranger::beside(&host)?;
    // A probe that never gets through proves nothing.
    until("the first packet", || {
        (stranger.arrived().ok()? > 0).then_some(())
    })?;
    host.write("policies/a.yaml", CLOSED)?;
    let mut guard = Daemon::start(&host, more)?;
    guard.expect_in_force()?;
    Ok((host, stranger, guard))
}

fn a_successor_takes_over_without_a_gap() -> Result<()> {
    const DEATHS: u16 = 12;
    let (host, stranger, mut guard) = beset(&[])?;
    stranger.send_some()?;
    stranger.forget()?;
    for death in 0..DEATHS {
        if death % 2 == 0 {
            // At whatever it is doing about this.
            host.write(
                "policies/b.yaml",
                format!("ports: {{{}: any}}\n", 1000 + death),
            )?;
        }
        stranger.send_some()?;
        guard.kill()?;
        stranger.send_some()?;
        ensure!(
            host.snapshot()?.installed.is_some(),
            "the table died with guard"
        );
        guard = Daemon::start(&host, &[])?;
        guard.expect("the table")?;
    }
    host.write("policies/b.yaml", "ports: {443: any}\n")?;
    guard.expect_in_force()?;
    stranger.nothing_arrived()?;
    let sent = stranger.stop()?;
    eprintln!("{DEATHS} guards died, and none of some {sent} packets got through");
    Ok(())
}

fn a_flush_opens_nothing() -> Result<()> {
    let (host, stranger, _guard) = beset(&[])?;
    if Sandbox::new()?.kernel(|kernel| Ok(kernel.claim()? == Claim::Unknown))? {
        eprintln!("this kernel has no owners of tables");
        return Ok(());
    }
    stranger.send_some()?;
    stranger.forget()?;
    for _ in 0..20 {
        host.nft("flush ruleset")?;
        stranger.send_some()?;
    }
    stranger.nothing_arrived()?;
    Ok(())
}

/// How long, is printed.
fn without_an_owner_a_flush_opens_a_moment() -> Result<()> {
    const FLUSHES: u32 = 20;
    let (host, stranger, mut guard) = beset(&["--no-owner"])?;
    stranger.send_some()?;
    stranger.forget()?;
    stranger.send_some()?;
    stranger.nothing_arrived()?;
    let (mut arrived, mut gaps) = (0, Vec::new());
    for _ in 0..FLUSHES {
        host.nft("flush ruleset")?;
        guard.expect("restored after ")?;
        stranger.send_some()?;
        arrived += stranger.arrived()?;
        gaps.push(stranger.longest_gap());
        stranger.forget()?;
        stranger.send_some()?;
        stranger.nothing_arrived()?;
    }
    gaps.sort_unstable();
    eprintln!(
        "{FLUSHES} flushes let {arrived} packets through; the gaps were from {:?} to {:?}",
        gaps[0],
        gaps[gaps.len() - 1]
    );
    Ok(())
}
