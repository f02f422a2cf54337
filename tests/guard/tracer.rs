//! Guard starts no other program, as the kernel sees it.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::{Daemon, arguments};
use crate::place::{DFW, Place};

pub(crate) const TRIALS: &[Named] = &[("guard_starts_no_program", guard_starts_no_program)];

fn guard_starts_no_program() -> Result<()> {
    let place = Place::new()?;
    place.write("policies/a.yaml", "default: deny\nports: {80: any}\n")?;
    let log = place.dir().join("strace");
    let mut command = place.namespace().command("strace");
    // The tracer stays in the background, so that the process is guard's own.
    command.args(["-D", "-f", "-qq", "-e", "signal=none"]);
    command.args(["-e", "trace=execve,execveat,fork,vfork,clone,clone3", "-o"]);
    command.arg(&log).arg(DFW);
    command.args(arguments(&place, &["--no-owner"]));
    let mut guard = Daemon::of(command)?;
    guard.expect_in_force()?;
    place.nft("flush ruleset")?;
    guard.expect("put back")?;
    place.write("policies/a.yaml", "default: [")?;
    guard.expect("change nothing")?;
    guard.stop()?;
    let log = std::fs::read_to_string(&log).context("strace has written nothing")?;
    let calls: Vec<&str> = log.lines().collect();
    let only = calls.len() == 1 && calls[0].contains(&format!("execve(\"{DFW}\""));
    ensure!(only, "it did more than run:\n{log}");
    Ok(())
}
