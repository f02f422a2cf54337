//! Boot, flush and reboot on whole machines with other kernels than this one's: the oldest that dfw
//! runs on, and one of today.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::grants;
use crate::limits;
use crate::site::{OTHER, Site, other};
use crate::stranger::{FAMILIES, Stranger};
use crate::support::size::{is_long, times};

pub(crate) const TRIALS: &[Named] = &[
    ("linux_5_10_and_docker_20_10", linux_5_10_and_docker_20_10),
    ("linux_6_12_and_docker_26_1", linux_6_12_and_docker_26_1),
];

/// What is booted.
pub(crate) const RELEASES: &[&str] = &["bullseye", "trixie-machine"];

fn linux_5_10_and_docker_20_10() -> Result<()> {
    a_life("bullseye", "5.10", "20.10", false, &FAMILIES[..1])
}

fn linux_6_12_and_docker_26_1() -> Result<()> {
    a_life("trixie-machine", "6.12", "26.1", true, &FAMILIES)
}

fn a_life(
    release: &str,
    kernel: &str,
    docker: &str,
    owned: bool,
    families: &'static [&str],
) -> Result<()> {
    let began = Instant::now();
    let report = |what: &str| eprintln!("{release}: {what} after {:.0?}", began.elapsed());
    let mut site = Site::on_a_machine(release, families)?;
    report("up, and open");
    let versions = site.run("uname -r; docker version --format '{{.Server.Version}}'")?;
    let mut versions = versions.lines();
    ensure!(versions.next().is_some_and(|it| it.starts_with(kernel)));
    ensure!(versions.next().is_some_and(|it| it.starts_with(docker)));
    // A port that no policy names, through which nobody gets in by the time that it is guarded.
    site.run(&other("--restart=always"))?;
    site.run(&grants::echo_container())?;
    let stranger = Stranger::at(OTHER, &site.lan);
    stranger.gets_in()?;
    let (site_, mark) = site.guard("dfw", "")?;
    site = site_;
    site.is_settled()?;
    stranger.tries_more()?;
    let unnamed = stranger.mark();
    ensure!(
        site.status()?["owned"] == owned,
        "an owner of the table: {}",
        site.status()?["owned"]
    );
    report("guarded");

    let mut gaps = Vec::new();
    for _ in 0..times(5, 2) {
        let mark = site.closed()?;
        site.run("nft flush ruleset || true")?;
        site.is_settled()?;
        site.closed()?;
        gaps.push(site.stranger.gap(mark).max(stranger.gap(mark)));
    }
    if owned {
        site.stranger.never_got_in(mark)?;
        stranger.never_got_in(unnamed)?;
        report("flushed without anybody getting in");
    } else {
        report(&format!("flushed: open for {gaps:?}"));
    }

    report(&format!("knows cards in {}", cards_in_others(&site)?));

    limits::hold(&site).with_context(|| site.journal())?;
    report("limited");
    // From here on, what ends when is compared with the clock, which an emulator beside others does not keep.
    if !is_long() {
        return Ok(());
    }

    grants::end_in_time(&site)?;
    report("granted");
    grants::end_in_a_suspended_machine(&site).with_context(|| site.journal())?;
    report("suspended");
    let granted = if owned {
        grants::leave_one_with_a_clock_behind(&site)?;
        None
    } else {
        Some(grants::leave_some(&site)?)
    };

    // Docker's own rules are gone by now; they come back with it.
    let (mark, unnamed) = (site.closed()?, stranger.mark());
    site.guest.reboot()?;
    site.run("systemctl is-active docker dfw")?;
    site.only_friends_get_in(mark)?;
    stranger
        .never_got_in(unnamed)
        .context("a port that no policy names")?;
    report("rebooted without anybody getting in");
    match granted {
        Some(left) => left.is_restored(&site),
        None => grants::have_ended(&site),
    }
    .with_context(|| site.journal())?;
    report("done");
    Ok(())
}

/// Packets of a card in a bond or a VRF come in through that: `plan` warns of a policy that names the card.
/// Returns which of both this kernel has.
fn cards_in_others(site: &Site) -> Result<String> {
    let said = site.run(
        "for module in dummy bonding vrf; do modprobe $module 2>/dev/null || true; done
         ip link add of-bond type dummy && ip link add a-bond type bond &&
             ip link set of-bond master a-bond && echo has bond || true
         ip link add of-vrf type dummy && ip link add a-vrf type vrf table 77 &&
             ip link set of-vrf master a-vrf && echo has vrf || true
         printf 'default: deny\\nports: {81: {allow: any, interface: [of-bond, of-vrf]}}\\n' >/tmp/cards.yaml
         dfw plan /tmp/cards.yaml 2>&1
         for link in a-bond a-vrf of-bond of-vrf; do ip link del $link 2>/dev/null || true; done",
    )?;
    let kinds = ["bond", "vrf"];
    let has: Vec<&str> = (kinds.into_iter())
        .filter(|kind| said.contains(&format!("has {kind}")))
        .collect();
    for kind in kinds {
        let warning = if has.contains(&kind) {
            format!("`of-{kind}` of port 81/tcp is a port of `a-{kind}`")
        } else {
            format!("`of-{kind}`")
        };
        ensure!(said.contains(&warning), "no word of {warning} in {said}");
    }
    ensure!(!has.is_empty(), "neither a bond nor a VRF: {said}");
    Ok(has.join(" and "))
}
