//! `dfw remove`: dfw's rules out of the kernel.

use serde_json::json;

use crate::kernel::{self, Kernel, Outcome};
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::TABLE;

use super::apply::waits;
use super::failure::Failure;
use super::watchdog::waiting;

/// How often it is tried while others keep changing rulesets.
const TRIES: u32 = 8;

pub(super) fn run(terminal: Terminal) -> Result<(), Failure> {
    let removed = remove()?;
    terminal.answer(
        || json!({"schema": "dfw/remove/v1", "changed": removed}),
        || {
            if removed {
                let word = terminal.paint(Tone::Warning, "removed");
                format!(
                    "{word}: table inet {TABLE} is gone, and published ports are open to whom \
                     Docker and other rules let in\n"
                )
            } else {
                let word = terminal.paint(Tone::Good, "no changes");
                format!("{word}: no rules of dfw were in force\n")
            }
        },
    )?;
    Ok(())
}

fn remove() -> Result<bool, Failure> {
    let kernel = Kernel::open()?;
    for _ in 0..TRIES {
        let snapshot = match kernel.outline() {
            Err(kernel::Error::Busy) => break,
            snapshot => snapshot?,
        };
        let Some(installed) = snapshot.installed else {
            return Ok(false);
        };
        if let Some(process) = waiting(installed.comment.as_deref()) {
            return Err(waits(process));
        }
        if kernel.remove(snapshot.generation)? == Outcome::Done {
            return Ok(true);
        }
    }
    // Others never rest. What is to go need not be known.
    kernel.remove(None)?;
    Ok(true)
}
