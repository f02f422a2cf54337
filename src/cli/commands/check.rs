//! `dfw check`: validates the policies.

use std::path::Path;

use serde_json::json;

use crate::cli::load::load_tested;
use crate::cli::report::failure::Failure;
use crate::cli::report::notice::local_ports;
use crate::cli::report::summary::{summary, tested};
use crate::host::local_ports::LocalPorts;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::untrusted;

pub(in crate::cli) fn run(terminal: Terminal, path: &Path) -> Result<(), Failure> {
    let (loaded, passed) = load_tested(terminal, path)?;
    // Whether they overlap is a question to the host that they are for, which is mostly this one.
    let notices = local_ports(&loaded.policy, &LocalPorts::read());
    terminal.diagnostics(&notices, &loaded.sources);
    terminal.answer(
        || {
            json!({
                "schema": "dfw/check/v2",
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
            let good = terminal.paint(Tone::Good, "ok");
            format!(
                "{}{}{good}: {} is valid\n",
                summary(terminal, &loaded.policy),
                tested(passed),
                untrusted::path(path)
            )
        },
    )?;
    Ok(())
}
