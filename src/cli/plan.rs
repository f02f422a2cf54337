//! `dfw plan`: what `dfw apply` would change.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::kernel::{self, Kernel};
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::plan;
use crate::untrusted;

use super::failure::Failure;
use super::host::{self, EngineArgs};
use super::load::{load_for_host, look};
use super::notice::notices as notices_of;
use super::preview::Preview;
use super::problems::Problems;
use super::summary::tested;

/// The exit code that says that there are changes, for whoever asks for it.
const CHANGES: u8 = 10;

pub(super) fn run(
    terminal: Terminal,
    path: &Path,
    engine: &EngineArgs,
    exit_code: bool,
) -> Result<ExitCode, Failure> {
    let (loaded, passed) = load_for_host(terminal, path)?;
    let (loaded, found) = look(&engine.ask(), loaded, passed, path)?;
    let tried = (|| {
        let ruleset = loaded.compile(&found.host);
        kernel::sound(&ruleset)?;
        let kernel = Kernel::open()?;
        let snapshot = kernel.survey()?;
        let installed = snapshot.installed.as_ref();
        // Nothing is written, so that nothing needs a secret.
        let plan = plan::diff(installed, &ruleset, 0);
        let neighbours = &snapshot.neighbours;
        let preview = Preview::of((&loaded, &found), installed, neighbours, &ruleset, &plan);
        let mut notices = host::notices(&loaded.policy, &found);
        notices.extend(notices_of(
            &loaded.policy,
            &found.host,
            &snapshot.neighbours,
        ));
        notices.extend(preview.cut.clone().filter(|_| !plan.is_empty()));
        let problems = Problems::of(installed);
        Ok((
            plan.is_empty(),
            preview,
            json::size(&ruleset),
            notices,
            problems,
        ))
    })();
    let (is_empty, preview, size, notices, problems) = match tried {
        Ok(done) => done,
        Err(error) => return Err(Failure::kernel(&error, loaded.sources, &loaded.files)),
    };
    for notice in &notices {
        terminal.diagnostic(notice, &loaded.sources);
        terminal.gap();
    }
    terminal.answer(
        || {
            let mut document = json!({
                "schema": "dfw/plan/v2",
                "changes_pending": !is_empty,
                "problems": problems.json(),
                "tests": json::tests(passed, &[]),
                "size": size,
                "warnings": loaded
                    .warnings
                    .iter()
                    .chain(&notices)
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            });
            Preview::add_to(Some(&preview), &mut document);
            document
        },
        || {
            let (apply, path) = (super::command("apply", path), untrusted::path(path));
            let outcome = if is_empty {
                let word = terminal.paint(Tone::Good, "no changes");
                format!("{word}: the rules in force are those of {path} already\n")
            } else {
                let word = terminal.paint(Tone::Warning, "planned");
                format!("{word}: nothing was changed; {apply} does it\n")
            };
            problems.dormant_text(terminal)
                + &problems.unknown_text(terminal)
                + &preview.text(terminal)
                + &tested(passed)
                + &outcome
        },
    )?;
    if exit_code && !is_empty {
        Ok(ExitCode::from(CHANGES))
    } else if problems.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Incomplete)
    }
}
