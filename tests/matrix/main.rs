//! Engines × paths × clients: which paths each engine opens without dfw, and which stay open with it.
//!
//! One trial for each line of [`variants::VARIANTS`]: it builds a lab around that engine, asks
//! every row of its tables before, with and after a policy, and fails with every wrong result.
//! Needs root, the packages that `tests/run` installs and, for engines of other releases, the roots
//! that `tests/roots` builds. What is missing is reported and skipped, or fails with `CI=true`.
//!
//! The table in `docs/paths.md` must be what the probes have found; `UPDATE=1` writes it. Engines whose paths
//! others have as well are left to `tests/run --long`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

#[expect(
    dead_code,
    reason = "what only the engine's trials use of what both of them share"
)]
#[path = "../support/mod.rs"]
mod support;

mod page;
mod swarm;
mod tables;
mod variants;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};

use support::audit;
use support::explain;
use support::lab::Lab;
use support::paths::POLICY;
use support::reach;
use support::size::is_long;
use support::table::{Answer, Reading, Row, ask};
use tables::PathKind;
use variants::{Engine, VARIANTS, Variant};

/// The ports that [`POLICY`] adds for some engines.
const MORE: &str = "
  8088-8089: [trusted]
  5388-5389/udp: [trusted]
  8095-8096: [trusted]
";

/// What the probes of one table have found, without and with dfw.
struct Finding {
    kind: PathKind,
    bare: Vec<Answer>,
    guarded: Vec<Answer>,
}

/// Findings by variant, in the order of [`VARIANTS`].
type Findings = Vec<Option<Vec<Finding>>>;

fn main() -> ExitCode {
    if let Some(code) = support::helper_main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Most of a variant's time is waiting for its engine, and for what must not come.
    arguments.test_threads.get_or_insert(3);
    let must = std::env::var("CI").as_deref() == Ok("true");
    let findings: Arc<Mutex<Findings>> =
        Arc::new(Mutex::new(VARIANTS.iter().map(|_| None).collect()));
    let (tried, left): (Vec<_>, Vec<_>) = VARIANTS
        .iter()
        .enumerate()
        .partition(|(_, variant)| is_long() || !variant.has_only_known_paths());
    for (_, variant) in left {
        eprintln!("left to `tests/run --long`: {}", variant.name);
    }
    let trials = tried.into_iter().map(|(index, variant)| {
        let missing = variant.fleet.edition.missing();
        for thing in &missing {
            eprintln!("{} needs {thing}", variant.name);
        }
        let findings = Arc::clone(&findings);
        Trial::test(variant.name, move || {
            try_out(variant, |found| {
                findings.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(found);
            })
            .map_err(|error| format!("{error:#}").into())
        })
        .with_ignored_flag(!missing.is_empty() && !must)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let findings = std::mem::take(&mut *findings.lock().unwrap_or_else(PoisonError::into_inner));
    if let Err(error) = page::compare(&findings) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// The life of one variant's lab; `keep` gets what the probes have found.
fn try_out(variant: &Variant, keep: impl FnOnce(Vec<Finding>)) -> Result<()> {
    let missing = variant.fleet.edition.missing();
    if !missing.is_empty() {
        bail!("{} needs {}", variant.name, missing.join("; "));
    }
    let lab =
        Lab::start(env!("CARGO_BIN_EXE_dfw"), variant.fleet).context("the lab did not come up")?;
    keep(look(&lab, variant)?);
    reach::both_ways(&lab, is_long()).context("the audit both ways")
}

fn look(lab: &Lab, variant: &Variant) -> Result<Vec<Finding>> {
    let version = lab.docker("version --format {{.Server.Version}}")?;
    ensure!(
        version.starts_with(variant.version()),
        "this is version {version}"
    );
    tables::occupy_a_stopped_containers_port(lab)?;
    (variant.prepare)(lab)?;
    let bare = ask(lab, &readings(variant, false)).context("without dfw")?;
    audited(lab, variant).context("the audit without dfw")?;
    lab.apply(&format!("{POLICY}{MORE}"))?;
    audited(lab, variant).context("the audit with dfw")?;
    explained(lab, variant).context("explain")?;
    let guarded = ask(lab, &readings(variant, true)).context("with dfw")?;
    let rules = lab.report();
    lab.remove()?;
    // Not everything again: rules that are gone are gone on every path.
    let after = ask(lab, &readings(variant, false)[..2]).context("after dfw")?;

    let mut wrong = Vec::new();
    for (when, answers) in [("without", &bare), ("with", &guarded), ("after", &after)] {
        for ((table, _), answers) in variant.tables().zip(answers) {
            let errors = answers.iter().filter(|answer| !answer.is_right());
            wrong.extend(errors.map(|answer| format!("{when:<7} {:<24} {answer}", table.name)));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "{} probes are wrong:\n{}\n--- while dfw's rules were in force\n{rules}",
            wrong.len(),
            wrong.join("\n")
        );
    }
    let paths = variant.tables().map(|(table, _)| table.kind);
    let answers = bare.into_iter().zip(guarded);
    Ok(paths
        .zip(answers)
        .map(|(kind, (bare, guarded))| Finding {
            kind,
            bare,
            guarded,
        })
        .collect())
}

/// Checks that `dfw audit` lists exactly the paths that are open to strangers.
fn audited(lab: &Lab, variant: &Variant) -> Result<()> {
    let rows = variant
        .tables()
        .filter(|(table, _)| table.kind.leads_to_containers())
        .flat_map(|(table, _)| table.rows);
    audit::agrees(lab, &audit::audit(lab, &[], None)?, rows)
}

/// Checks that `dfw explain` agrees with real packets on each path that the engine opens: for two random clients of
/// a row, or for all in a long run. `tests/engine` checks all clients with the machine's own engine.
fn explained(lab: &Lab, variant: &Variant) -> Result<()> {
    let rows = variant
        .tables()
        .filter(|(table, engine)| {
            table.kind.leads_to_containers() && matches!(engine, Engine::Opens)
        })
        .flat_map(|(table, _)| table.rows);
    explain::agrees(lab, rows, is_long())
}

/// Each table of a variant as it is to be read: what the engine closes, dfw does not open.
fn readings(variant: &Variant, guarded: bool) -> Vec<(&'static [Row], Reading)> {
    let read = |engine| match (engine, guarded) {
        (Engine::Opens, false) => Reading::Bare,
        (Engine::Opens, true) => Reading::Guarded,
        (Engine::Closes, _) => Reading::Shut,
        (Engine::Mutes, false) => Reading::Mute,
        (Engine::Mutes, true) => Reading::MuteGuarded,
    };
    variant
        .tables()
        .map(|(table, engine)| (table.rows, read(engine)))
        .collect()
}
