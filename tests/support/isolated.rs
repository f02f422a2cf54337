//! Trials that are a process of their own each.
//!
//! Trials of one process share its descriptors. While one of them starts a program, the child holds a copy
//! of all of them, `O_CLOEXEC` or not, until it has become that program. For this moment an executable that
//! another trial has just written is still open for writing (`Text file busy`), a socket that another trial
//! has closed is still there, and `/proc` shows a holder of it that the other trial does not know.

use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::command::outcome;
use super::helper::HELPER;

/// The argument that makes a test binary run one trial as a helper.
pub(crate) const ROLE: &str = "trial";

/// Runs the trial of this name by this same program.
///
/// # Errors
///
/// When the trial fails or panics; what it has printed is in the error.
pub(crate) fn run(name: &str) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = outcome(command.args([HELPER, ROLE, name]))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}\n{printed}", output.status);
    }
    eprint!("{printed}");
    Ok(())
}

/// The other side of [`run`]; `close` cleans up, whether the trial has passed or not.
pub(crate) fn play<'a>(
    name: &str,
    mut trials: impl Iterator<Item = (&'a str, fn() -> Result<()>)>,
    close: impl FnOnce(),
) -> Result<()> {
    // A suite that is killed takes its trials with it; their janitors clean up.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (_, trial) = trials
        .find(|(known, _)| *known == name)
        .with_context(|| format!("no trial {name}"))?;
    let result = trial();
    close();
    result
}
