//! `dfw remove`: dfw's rules out of the kernel.

use serde_json::json;

use crate::cli::report::failure::Failure;
use crate::cli::session::watchdog::waiting;
use crate::kernel::{self, COMMITS, Kernel, Outcome, attempts};
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::TABLE;

pub(in crate::cli) fn run(terminal: Terminal) -> Result<(), Failure> {
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
    for _ in attempts(COMMITS) {
        let snapshot = match kernel.outline() {
            Err(kernel::Error::Busy) => break,
            snapshot => snapshot?,
        };
        let Some(installed) = snapshot.installed else {
            return Ok(false);
        };
        if let Some(process) = waiting(installed.comment.as_deref()) {
            return Err(Failure::unconfirmed(process));
        }
        if kernel.remove(snapshot.generation)? == Outcome::Done {
            return Ok(true);
        }
    }
    // Others never rest. What is to go need not be known.
    kernel.remove(None)?;
    Ok(true)
}
