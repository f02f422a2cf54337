//! `dfw check`: are the policies right?

use std::path::Path;

use serde_json::json;

use crate::host::local_ports::LocalPorts;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::untrusted;

use super::failure::Failure;
use super::load::load_tested;
use super::notice::local_ports;
use super::summary::{summary, tested};

pub(super) fn run(terminal: Terminal, path: &Path) -> Result<(), Failure> {
    let (loaded, passed) = load_tested(terminal, path)?;
    // Whether they overlap is a question to the host that they are for, which is mostly this one.
    let notices = local_ports(&loaded.policy, &LocalPorts::read());
    for notice in &notices {
        terminal.diagnostic(notice, &loaded.sources);
        terminal.gap();
    }
    terminal.answer(
        || {
            json!({
                "schema": "dfw/check/v1",
                "policy": loaded.policy.json(),
                "tests": json::tests(passed, &[]),
                "warnings": loaded
                    .warnings
                    .iter()
                    .chain(&notices)
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            })
        },
        || {
            let good = terminal.paint(Tone::Good, "right");
            format!(
                "{}{}{good}: {} can be applied\n",
                summary(terminal, &loaded.policy),
                tested(passed),
                untrusted::path(path)
            )
        },
    )?;
    Ok(())
}
