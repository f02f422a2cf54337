//! `dfw plan`: shows what `dfw apply` would change.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::arguments::{EngineArgs, PolicyPath, command};
use crate::cli::load::{load_for_host, look};
use crate::cli::report::failure::Failure;
use crate::cli::report::fetched;
use crate::cli::report::notice::all_notices;
use crate::cli::report::preview::Preview;
use crate::cli::report::problems::Problems;
use crate::cli::report::summary::tested;
use crate::kernel::{self, Kernel};
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::ruleset::Ruleset;
use crate::site::HostFacts;
use crate::store::Policies;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::diff::ExitArgs;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct PlanArgs {
    #[command(flatten)]
    policy: PolicyPath,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    codes: ExitArgs,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &PlanArgs) -> Result<ExitCode, Failure> {
    let location = args.policy.to_enforce()?;
    let path = &location.path;
    let loaded = load_for_host(terminal, &location)?;
    let (loaded, passed, mut site) = look(terminal, &args.engine.ask(), loaded, &location)?;
    let ruleset = loaded.compile(&site.host);
    let planned = match plan(&loaded, &mut site, &ruleset) {
        Ok(planned) => planned,
        Err(error) => return Err(Failure::kernel(&error, loaded.sources, &loaded.files)),
    };
    let Planned {
        is_empty,
        preview,
        problems,
        notices,
    } = planned;
    terminal.diagnostics(&notices, &loaded.sources);
    terminal.answer(
        || {
            let mut document = json!({
                "schema": "dfw/plan/v3",
                "changes_pending": !is_empty,
                "problems": problems.json(),
                "tests": json::tests(passed, &[]),
                "size": json::size(&ruleset),
                "warnings": loaded
                    .warnings
                    .iter()
                    .chain(&notices)
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            });
            Preview::add_to(Some(&preview), (&loaded, &site), &mut document);
            document
        },
        || {
            let (apply, path) = (command("apply", path), untrusted::path(path));
            let outcome = if is_empty {
                let word = terminal.paint(Tone::Good, "no changes");
                format!("{word}: {path} is already in force\n")
            } else {
                let word = terminal.paint(Tone::Warning, "planned");
                format!("{word}: nothing was changed; run {apply}\n")
            };
            problems.dormant_text(terminal)
                + &problems.unknown_text(terminal)
                + &fetched::text(terminal, &loaded)
                + &preview.text(terminal)
                + &tested(passed)
                + &outcome
        },
    )?;
    if let Some(code) = args.codes.code(is_empty, preview.opens()) {
        Ok(code)
    } else if problems.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::Incomplete)
    }
}

/// The result of planning an apply.
struct Planned {
    is_empty: bool,
    preview: Preview,
    problems: Problems,
    notices: Vec<Diagnostic>,
}

fn plan(
    loaded: &Policies,
    site: &mut HostFacts,
    ruleset: &Ruleset,
) -> Result<Planned, kernel::Error> {
    let kernel = Kernel::open()?;
    let survey = kernel.survey_since(site.survey.take())?;
    let proposal = kernel.propose(Some(&survey), ruleset)?;
    let preview = Preview::of((loaded, site), ruleset, &proposal);
    let mut notices = all_notices(loaded, site, proposal.foreign_chains());
    notices.extend(preview.cut.clone().filter(|_| !proposal.is_empty()));
    Ok(Planned {
        is_empty: proposal.is_empty(),
        problems: Problems::of(proposal.installed()),
        preview,
        notices,
    })
}
