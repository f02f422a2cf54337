//! Others who change dfw's table.

use anyhow::{Result, ensure};
use dfw::kernel::Claim;

use crate::Named;
use crate::daemon::Daemon;
use crate::namespace::{Sandbox, TABLE};

pub(crate) const TRIALS: &[Named] = &[
    ("what_others_do_is_put_back", what_others_do_is_put_back),
    (
        "a_program_that_keeps_modifying_is_restored_at_once",
        a_program_that_keeps_modifying_is_restored_at_once,
    ),
    (
        "an_owned_table_is_not_flushed",
        an_owned_table_is_not_flushed,
    ),
    (
        "apply_beside_guard_is_reported",
        apply_beside_guard_is_reported,
    ),
    ("a_plain_table_is_taken_over", a_plain_table_is_taken_over),
    (
        "a_silent_engine_delays_no_repair",
        a_silent_engine_delays_no_repair,
    ),
];

const POLICY: &str = "default: deny\nports: {80: [203.0.113.7]}\n";

/// Whether this kernel has owners of tables.
fn has_owners(sandbox: &Sandbox) -> Result<bool> {
    sandbox.kernel(|kernel| Ok(kernel.claim()? != Claim::Unknown))
}

fn what_others_do_is_put_back() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    let before = sandbox.installed()?;
    for change in [
        "flush ruleset",
        "flush chain inet dfw-nft input",
        "delete table inet dfw-nft",
        "insert rule inet dfw-nft forward accept",
        "add element inet dfw-nft tcp-ports { 8080 : accept }",
        "add table inet dfw-nft { flags dormant ; }",
        "flush ruleset",
    ] {
        sandbox.nft(change)?;
        let line = guard.expect("the table was modified by `nft` (pid ")?;
        eprintln!("{change}: {line}");
        ensure!(sandbox.installed()? == before, "{change}: not as before");
    }
    // Others' tables are theirs.
    sandbox.nft("add table inet theirs")?;
    sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    ensure!(!sandbox.listing()?.contains("theirs"));
    Ok(())
}

/// Rulesets change within repairs as well, and the table is back as soon as it can be.
fn a_program_that_keeps_modifying_is_restored_at_once() -> Result<()> {
    const TIMES: u32 = 40;
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, &["--no-owner"])?;
    guard.expect_in_force()?;
    let before = sandbox.installed()?;
    sandbox.kernel(|kernel| {
        let mut times = 0;
        while times < TIMES {
            let outline = kernel.outline();
            times += u32::from(outline.is_ok_and(|now| now.installed.is_some()));
            kernel.remove(None)?;
        }
        Ok(())
    })?;
    crate::daemon::until("the table", || {
        sandbox
            .installed()
            .is_ok_and(|now| now == before)
            .then_some(())
    })?;
    sandbox.write("policies/b.yaml", "ports: {443: any}\n")?;
    guard.expect_in_force()?;
    let failed = guard.said.iter().find(|line| line.contains("retrying in"));
    ensure!(failed.is_none(), "{failed:?}");
    guard.stop()
}

fn an_owned_table_is_not_flushed() -> Result<()> {
    let sandbox = Sandbox::new()?;
    if !has_owners(&sandbox)? {
        eprintln!("this kernel has no owners of tables");
        return Ok(());
    }
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let before = sandbox.installed()?;
    sandbox.nft("add table inet theirs")?;
    sandbox.nft("flush ruleset")?;
    ensure!(!sandbox.listing()?.contains("theirs"));
    ensure!(sandbox.nft(&format!("delete table {TABLE}")).is_err());
    ensure!(sandbox.installed()? == before, "not as before");
    // Dead or alive.
    guard.kill()?;
    ensure!(sandbox.installed()? == before, "it died with guard");
    Ok(())
}

fn apply_beside_guard_is_reported() -> Result<()> {
    let sandbox = Sandbox::new()?;
    if !has_owners(&sandbox)? {
        return Ok(());
    }
    let path = sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let path = path.to_string_lossy();
    // There is nothing to do.
    sandbox.dfw_ok(&["apply", &path])?;
    let other = sandbox.write("other.yaml", "default: allow\n")?;
    for words in [&["apply", &*other.to_string_lossy()][..], &["remove"]] {
        let report = sandbox.dfw(words)?;
        report.expect_failure(1, "owned")?;
        let holder = format!("`dfw` (process {})", guard.pid());
        ensure!(report.stderr.contains(&holder), "{report:?}");
    }
    // A second guard does not fight the first.
    let mut second = Daemon::start(&sandbox, &[])?;
    second.expect("belongs to another process")?;
    ensure!(second.end()? == Some(1));
    guard.stop()?;
    // From here on nobody minds.
    sandbox.dfw_ok(&["apply", &other.to_string_lossy()])?;
    sandbox.dfw_ok(&["remove"])?;
    Ok(())
}

fn a_plain_table_is_taken_over() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let path = sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.dfw_ok(&["apply", &path.to_string_lossy()])?;
    let before = sandbox.installed()?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    if has_owners(&Sandbox::new()?)? {
        guard.expect_in_force()?;
        sandbox.nft("flush ruleset")?;
    } else {
        guard.expect("others can change")?;
    }
    ensure!(sandbox.installed()? == before, "not as before");
    Ok(())
}

fn a_silent_engine_delays_no_repair() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let path = sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.dfw_ok(&["apply", &path.to_string_lossy()])?;
    let before = sandbox.installed()?;
    // It takes questions and answers none.
    let engine = sandbox.dir().join("engine.sock");
    let _engine = std::os::unix::net::UnixListener::bind(&engine)?;
    let engine = engine.to_string_lossy();
    let mut guard = Daemon::start(&sandbox, &["--no-owner", "--docker-host", &*engine])?;
    guard.expect("waiting for container engines")?;
    sandbox.nft("flush ruleset")?;
    guard.expect("the table was modified by `nft` (pid ")?;
    ensure!(sandbox.installed()? == before, "not as before");
    let socket = sandbox.dir().join("guard.sock");
    let report = sandbox.dfw_ok(&["status", "--json", "--socket", &socket.to_string_lossy()])?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let unanswered = report["guard"]["unanswered"][0].as_str();
    ensure!(
        unanswered.is_some_and(|text| text.contains("no answer yet")),
        "{report:#}"
    );
    guard.expect("does not answer")?;
    guard.stop()
}
