//! `dfw remove`: removes dfw's rules from the kernel.

use serde_json::json;

use crate::cli::report::failure::Failure;
use crate::kernel::unconfirmed::waiting;
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
                    "{word}: table inet {TABLE} was deleted; published ports are open unless \
                     other rules deny them\n"
                )
            } else {
                let word = terminal.paint(Tone::Good, "no changes");
                format!("{word}: dfw's rules were not in force\n")
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
    // Other programs kept changing rules. A table can be deleted without reading it.
    kernel.remove(None)?;
    Ok(true)
}
