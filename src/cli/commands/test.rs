//! `dfw test`: runs the policies' `tests:`.

use serde_json::json;

use crate::cli::arguments::PolicyPath;
use crate::cli::load::load_tested;
use crate::cli::report::failure::Failure;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::untrusted;

pub(in crate::cli) fn run(terminal: Terminal, policies: &PolicyPath) -> Result<(), Failure> {
    let location = policies.to_show()?;
    let (loaded, passed) = load_tested(terminal, &location)?;
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
                untrusted::path(&location.path)
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
