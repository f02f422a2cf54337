//! A table that belongs to the process that made it, and outlives that process.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use dfw::kernel::{Claim, Error, Kernel};

use crate::Named;
use crate::namespace::{Sandbox, TABLE, compiled_text};
use crate::property::same;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_table_of_an_owner_cannot_be_changed_by_others",
        a_table_of_an_owner_cannot_be_changed_by_others,
    ),
    (
        "an_orphan_of_an_owner_is_taken_over_as_it_is",
        an_orphan_of_an_owner_is_taken_over_as_it_is,
    ),
    (
        "a_plain_table_gives_way_to_one_of_an_owner",
        a_plain_table_gives_way_to_one_of_an_owner,
    ),
    (
        "nothing_passes_while_a_table_is_replaced",
        nothing_passes_while_a_table_is_replaced,
    ),
];

const POLICY: &str = "default: deny\nports: {80: [203.0.113.7]}\n";

/// Claims the table in a fresh place; `None` on a kernel without owners.
fn claimed(kernel: &Kernel, expected: Claim) -> Result<bool> {
    let claim = kernel.claim()?;
    if claim == Claim::Unknown {
        eprintln!("this kernel has no owners of tables");
        return Ok(false);
    }
    same(&claim, &expected)?;
    Ok(true)
}

fn a_table_of_an_owner_cannot_be_changed_by_others() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled_text(POLICY)?;
    sandbox.kernel(|owner| {
        if !claimed(owner, Claim::Nothing)? {
            return Ok(());
        }
        owner.replace(&ruleset, "a test", None)?;
        let before = sandbox.installed()?;
        same(&before, &ruleset)?;
        sandbox.nft("flush ruleset")?;
        ensure!(sandbox.nft(&format!("delete table {TABLE}")).is_err());
        ensure!(sandbox.nft(&format!("flush table {TABLE}")).is_err());
        sandbox.kernel(|other| {
            for refused in [
                other.remove(None).map(drop),
                other.replace(&ruleset, "another", None).map(drop),
                other.claim().map(drop),
            ] {
                ensure!(matches!(refused, Err(Error::Owned(_))), "{refused:?}");
            }
            Ok(())
        })?;
        same(&sandbox.installed()?, &before)?;
        // The error names the owner, and what to do.
        let path = sandbox.write("web.yaml", "default: deny\nports: {443: any}\n")?;
        let path = path.to_string_lossy();
        for words in [&["apply", &*path][..], &["remove"]] {
            let report = sandbox.dfw(words)?;
            report.expect_failure(1, "owned")?;
            let holder = format!("(process {})", std::process::id());
            ensure!(
                report.stderr.contains("dfw guard")
                    && report.stderr.contains(&holder)
                    && report.stderr.contains("nothing was changed"),
                "{report:?}"
            );
        }
        // Its owner does as it likes.
        owner.replace(&compiled_text("default: allow\n")?, "a test", None)?;
        owner.remove(None)?;
        Ok(())
    })?;
    ensure!(sandbox.snapshot()?.installed.is_none());
    Ok(())
}

fn an_orphan_of_an_owner_is_taken_over_as_it_is() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled_text(POLICY)?;
    let supported = sandbox.kernel(|owner| {
        let supported = claimed(owner, Claim::Nothing)?;
        owner.replace(&ruleset, "a test", None)?;
        Ok(supported)
    })?;
    if !supported {
        return Ok(());
    }
    let before = sandbox.snapshot()?.installed.context("the table is gone")?;
    sandbox.kernel(|heir| {
        claimed(heir, Claim::Ours)?;
        same(&sandbox.snapshot()?.installed, &Some(before))?;
        sandbox.nft("flush ruleset")?;
        same(&sandbox.installed()?, &ruleset)
    })?;
    // Whose owner is gone anybody may change.
    let path = sandbox.write("web.yaml", "default: deny\nports: {443: any}\n")?;
    sandbox.dfw_ok(&["apply", &path.to_string_lossy()])?;
    sandbox.dfw_ok(&["remove"])?;
    ensure!(sandbox.snapshot()?.installed.is_none());
    Ok(())
}

fn a_plain_table_gives_way_to_one_of_an_owner() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ruleset = compiled_text(POLICY)?;
    sandbox.install(&ruleset)?;
    sandbox.kernel(|owner| {
        if !claimed(owner, Claim::Plain)? {
            return Ok(());
        }
        owner.replace(&ruleset, "a test", None)?;
        sandbox.nft("flush ruleset")?;
        same(&sandbox.installed()?, &ruleset)
    })
}

/// How often the table is replaced: without what closes the ports meanwhile, about one packet in each passes.
const REPLACEMENTS: usize = 60;

/// The elements of interval sets become visible a moment after the rules.
fn nothing_passes_while_a_table_is_replaced() -> Result<()> {
    let (host, client) = (Sandbox::new()?, Sandbox::new()?);
    let [inside, outside] = [&host, &client].map(Sandbox::namespace);
    inside.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        outside.path().display()
    ))?;
    for (end, address) in [(inside, "192.0.2.1/24"), (outside, "192.0.2.2/24")] {
        end.ip(&format!("addr add {address} dev eth0"))?;
        end.ip("link set eth0 up")?;
    }
    let ruleset = compiled_text("default: deny\nports: {8080/udp: [203.0.113.7], 80: any}\n")?;
    let server = inside.run(|| Ok(UdpSocket::bind("192.0.2.1:8080")?))?;
    server.set_nonblocking(true)?;
    let stranger = outside.run(|| Ok(UdpSocket::bind("192.0.2.2:0")?))?;
    stranger.connect("192.0.2.1:8080")?;
    let passed = || server.recv(&mut [0; 8]).is_ok();
    crate::support::command::wait_for("a way", crate::support::probe::PATIENCE, || {
        let _ = stranger.send(b"open");
        passed().then_some(())
    })?;
    host.install(&ruleset)?;
    while passed() {}
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let mut sent = 0_u64;
            while !ends.load(Ordering::Relaxed) {
                // Without room for it, it is sent again.
                sent += u64::from(stranger.send(b"closed").is_ok());
            }
            sent
        });
        let replaced = host.kernel(|kernel| {
            for _ in 0..REPLACEMENTS {
                kernel.replace(&ruleset, "a test", None)?;
            }
            Ok(())
        });
        ends.store(true, Ordering::Relaxed);
        let sent = sent.join().map_err(|_| anyhow::anyhow!("panicked"))?;
        replaced?;
        let all = std::iter::repeat_with(passed).take_while(|it| *it).count();
        eprintln!("{all} of {sent} packets passed in {REPLACEMENTS} replacements");
        ensure!(sent > 1000 && all == 0, "{all} of {sent} packets passed");
        Ok(())
    })?;
    // What closed the ports is gone.
    same(&host.installed()?, &ruleset)
}
