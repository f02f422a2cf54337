//! `dfw check`: are the policies right?

use std::path::Path;

use serde_json::json;

use crate::escape;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};

use super::failure::Failure;
use super::load::load_tested;
use super::summary::{summary, tested};

pub(super) fn run(terminal: Terminal, path: &Path) -> Result<(), Failure> {
    let (loaded, passed) = load_tested(terminal, path)?;
    terminal.answer(
        || {
            json!({
                "schema": "dfw/check/v1",
                "policy": json::policy(&loaded.policy),
                "tests": json::tests(passed, &[]),
                "warnings": loaded
                    .warnings
                    .iter()
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
                escape::path(path)
            )
        },
    )?;
    Ok(())
}
