//! dfw beside a real engine: who reaches which port, by every way a packet can take.
//!
//! All trials share one lab, which the first of them builds and which goes away with the last.
//! They run one after the other, for the ruleset is shared too; each begins without any rule of
//! dfw. Needs root and the packages that `tests/run` installs. Without them the trials are
//! skipped, or fail where the environment says `CI=true`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and talks to whoever runs it"
)]

#[expect(
    dead_code,
    reason = "what only the matrix uses of what both of them share"
)]
#[path = "../support/mod.rs"]
mod support;

mod answers;
mod audit;
mod cards;
mod cases;
mod doors;
mod explain;
mod guard;
mod holders;
mod life;
mod neighbours;
mod questions;
mod reach;
mod spoken;
mod traffic;
mod verdicts;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use support::edition::Edition;
use support::fleet::Fleet;
use support::lab::Lab;

/// A trial by name; it gets a lab without rules of dfw.
type Named = (&'static str, fn(&Lab) -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = support::helper_main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let missing = Edition::MACHINE.missing();
    let skip = !missing.is_empty() && std::env::var("CI").as_deref() != Ok("true");
    for thing in &missing {
        eprintln!("the engine tests need {thing}");
    }
    let shared = Arc::new(Shared::default());
    let trials = all()
        .map(|(name, trial)| {
            let shared = Arc::clone(&shared);
            Trial::test(name, move || shared.try_out(trial)).with_ignored_flag(skip)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    shared.close();
    conclusion.exit_code()
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        doors::TRIALS,
        traffic::TRIALS,
        verdicts::TRIALS,
        neighbours::TRIALS,
        audit::TRIALS,
        explain::TRIALS,
        guard::TRIALS,
        holders::TRIALS,
        questions::TRIALS,
        cards::TRIALS,
        cases::TRIALS,
        reach::TRIALS,
        spoken::TRIALS,
        // Last, because these stop and start what the others use.
        life::TRIALS,
        spoken::LAST,
    ];
    groups.into_iter().flatten().copied()
}

/// The one lab of this run; built when the first trial asks for it.
#[derive(Default)]
struct Shared(Mutex<Option<Result<Arc<Lab>, String>>>);

impl Shared {
    fn lab(&self) -> Result<Arc<Lab>, String> {
        let mut lab = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lab.get_or_insert_with(|| {
            let missing = Edition::MACHINE.missing();
            if !missing.is_empty() {
                return Err(format!("the lab needs {}", missing.join("; ")));
            }
            Lab::start(env!("CARGO_BIN_EXE_dfw"), Fleet::new(Edition::MACHINE))
                .map(Arc::new)
                .map_err(|error| format!("the lab did not come up: {error:#}"))
        })
        .clone()
    }

    fn try_out(&self, trial: fn(&Lab) -> Result<()>) -> Result<(), Failed> {
        let lab = self.lab()?;
        let result = lab
            .remove()
            .context("before the trial")
            .and_then(|()| trial(&lab));
        result.map_err(|error| format!("{error:#}\n{}", lab.report()).into())
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
