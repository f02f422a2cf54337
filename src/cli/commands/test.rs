//! `dfw test`: runs the policies' `tests:`.

use std::path::Path;

use serde_json::json;

use crate::cli::load::load_tested;
use crate::cli::report::failure::Failure;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::untrusted;

pub(in crate::cli) fn run(terminal: Terminal, path: &Path) -> Result<(), Failure> {
    let (loaded, passed) = load_tested(terminal, path)?;
    terminal.answer(
        || {
            json!({
                "schema": "dfw/test/v1",
                "tests": json::tests(passed, &[]),
                "warnings": loaded
                    .warnings
                    .iter()
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            })
        },
        || match passed {
            0 => format!(
                "{} has no tests; add them under `tests:`\n",
                untrusted::path(path)
            ),
            _ => format!(
                "{}: {}\n",
                terminal.paint(Tone::Good, "passed"),
                count(passed, "test", "tests")
            ),
        },
    )?;
    Ok(())
}
