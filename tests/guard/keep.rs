//! The last good policy, kept on disk.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::Named;
use crate::daemon::{Daemon, arguments, until};
use crate::place::{DFW, Place};

pub(crate) const TRIALS: &[Named] = &[
    ("the_last_good_policy_is_used", the_last_good_policy_is_used),
    ("a_damaged_state_is_ignored", a_damaged_state_is_ignored),
    (
        "without_any_policy_what_is_in_force_stays",
        without_any_policy_what_is_in_force_stays,
    ),
    (
        "a_full_disk_is_told_and_survived",
        a_full_disk_is_told_and_survived,
    ),
];

const POLICY: &str =
    "default: deny\nsources: {office: {file: lists/office}}\nports: {80: [office]}\n";

/// A place where a guard has run with a policy and a list, and where no rules are left.
fn left() -> Result<(Place, dfw::ruleset::Ruleset)> {
    let place = Place::new()?;
    place.write("policies/a.yaml", POLICY)?;
    place.write("policies/lists/office", "203.0.113.7\n")?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect_in_force()?;
    let installed = place.installed()?;
    until("the state", || {
        place.dir().join("state/last-good").exists().then_some(())
    })?;
    guard.stop()?;
    // As after a reboot.
    place.dfw_ok(&["remove"])?;
    Ok((place, installed))
}

fn the_last_good_policy_is_used() -> Result<()> {
    for damage in ["remove", "break", "list"] {
        let (place, installed) = left()?;
        match damage {
            "remove" => std::fs::remove_dir_all(place.dir().join("policies"))?,
            "break" => drop(place.write("policies/a.yaml", "default: [")?),
            _ => std::fs::remove_file(place.dir().join("policies/lists/office"))?,
        }
        let mut guard = Daemon::start(&place, &[])?;
        guard.expect("the last good policies are used")?;
        guard.expect_in_force()?;
        ensure!(place.installed()? == installed, "{damage}: not the same");
        // The files come back.
        place.write("policies/lists/office", "203.0.113.8\n")?;
        place.write("policies/a.yaml", POLICY)?;
        guard.expect("right again")?;
        guard.expect_in_force()?;
        ensure!(place.installed()? != installed, "{damage}: still the same");
    }
    Ok(())
}

fn a_damaged_state_is_ignored() -> Result<()> {
    let (place, _) = left()?;
    let state = place.dir().join("state/last-good");
    let mut bytes = std::fs::read(&state)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes)?;
    place.write("policies/a.yaml", "default: [")?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect("is damaged")?;
    ensure!(place.snapshot()?.installed.is_none());
    place.write("policies/a.yaml", "default: deny\n")?;
    guard.expect_in_force()
}

fn without_any_policy_what_is_in_force_stays() -> Result<()> {
    let place = Place::new()?;
    let path = place.write("former.yaml", "default: deny\nports: {80: [203.0.113.7]}\n")?;
    place.dfw_ok(&["apply", &path.to_string_lossy()])?;
    let before = place.snapshot()?.installed;
    place.write("policies/a.yaml", "default: [")?;
    let mut guard = Daemon::start(&place, &[])?;
    guard.expect("what is in force stays")?;
    let status = place.dir().join("guard.sock");
    let told = place.dfw_ok(&["status", "--socket", &status.to_string_lossy()])?;
    ensure!(told.contains("no valid policy yet"), "{told}");
    ensure!(
        place.snapshot()?.installed == before,
        "something was changed"
    );
    guard.stop()
}

fn a_full_disk_is_told_and_survived() -> Result<()> {
    let place = Place::new()?;
    place.write("policies/a.yaml", POLICY)?;
    place.write("policies/lists/office", "203.0.113.7\n")?;
    let state = place.dir().join("state");
    std::fs::create_dir(&state)?;
    // A disk of one page, in a mount namespace that ends with guard.
    let script = "mount -t tmpfs -o size=4k none \"$1\" && shift && exec \"$@\"";
    let mut command: Command = place.namespace().command("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&state);
    command.arg(DFW).args(arguments(&place, &[]));
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
    place.write("policies/lists/office", &list)?;
    guard.expect_in_force()?;
    let line = guard.expect("cannot be kept")?;
    ensure!(line.contains("No space left"), "{line}");
    // It goes on, and what is kept is whole.
    place.write("policies/lists/office", "203.0.113.9\n")?;
    guard.expect_in_force()?;
    guard.stop()
}
