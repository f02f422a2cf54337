//! dfw beside a real engine: who reaches which port, by every way a packet can take.
//!
//! Two trials run at a time, each in a lab of its own, for the ruleset is the lab's. A lab is built by the first
//! trial that finds none, and used by the next one once a trial is over; each begins without any rule of dfw.
//! Needs root and the packages that `tests/run` installs. Without them the trials are
//! skipped, or fail where the environment says `CI=true`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

#[expect(
    dead_code,
    reason = "what only the matrix uses of what both of them share"
)]
#[path = "../support/mod.rs"]
mod support;

mod answers;
mod audit;
mod cases;
mod container_sends_first;
mod engine_requests;
mod explain;
mod fake_engine;
mod grants;
mod guard;
mod lifecycle;
mod network_cards;
mod other_firewalls;
mod paths;
mod reach;
mod socket_holders;
mod traffic;
mod verdicts;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};

use support::edition::Edition;
use support::fleet::Fleet;
use support::lab::Lab;

/// A trial by name; it gets a lab without rules of dfw, which nobody else uses meanwhile.
type Named = (&'static str, fn(&Lab) -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = support::helper_main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting: for the engine, or for what must not come.
    arguments.test_threads.get_or_insert(2);
    let missing = Edition::MACHINE.missing();
    let skip = !missing.is_empty() && std::env::var("CI").as_deref() != Ok("true");
    for thing in &missing {
        eprintln!("the engine tests need {thing}");
    }
    let labs = Arc::new(Labs::default());
    let trials = all()
        .map(|(name, trial)| {
            let labs = Arc::clone(&labs);
            Trial::test(name, move || labs.try_out(name, trial)).with_ignored_flag(skip)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    labs.close();
    conclusion.exit_code()
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        paths::TRIALS,
        traffic::TRIALS,
        verdicts::TRIALS,
        other_firewalls::TRIALS,
        audit::TRIALS,
        explain::TRIALS,
        guard::TRIALS,
        grants::TRIALS,
        socket_holders::TRIALS,
        engine_requests::TRIALS,
        fake_engine::TRIALS,
        network_cards::TRIALS,
        cases::TRIALS,
        reach::TRIALS,
        container_sends_first::TRIALS,
        // Last, because these stop and start what others may use after them.
        lifecycle::TRIALS,
        container_sends_first::LAST,
    ];
    groups.into_iter().flatten().copied()
}

/// The labs of this run: one for each trial that runs at a time, built when a trial finds none that is free.
#[derive(Default)]
struct Labs(Mutex<State>);

#[derive(Default)]
struct State {
    free: Vec<Used>,
    /// Why a lab did not come up: another one would not, either.
    error: Option<String>,
}

/// A lab, and what was tried in it so far.
struct Used {
    lab: Lab,
    trials: Vec<&'static str>,
}

impl Labs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Used, String> {
        {
            let mut state = self.state();
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            if let Some(used) = state.free.pop() {
                return Ok(used);
            }
        }
        build().inspect_err(|error| self.state().error = Some(error.clone()))
    }

    fn try_out(&self, name: &'static str, trial: fn(&Lab) -> Result<()>) -> Result<(), Failed> {
        let mut used = self.take()?;
        let result = used
            .lab
            .remove()
            .context("before the trial")
            .and_then(|()| trial(&used.lab));
        let result = result.map_err(|error| {
            let before = used.trials.join(", ");
            format!(
                "{error:#}\n{}\n--- in this lab before: {before}",
                used.lab.report()
            )
            .into()
        });
        used.trials.push(name);
        self.state().free.push(used);
        result
    }

    fn close(&self) {
        let free = std::mem::take(&mut self.state().free);
        drop(free);
    }
}

fn build() -> Result<Used, String> {
    let missing = Edition::MACHINE.missing();
    if !missing.is_empty() {
        return Err(format!("the lab needs {}", missing.join("; ")));
    }
    let lab = Lab::start(env!("CARGO_BIN_EXE_dfw"), Fleet::new(Edition::MACHINE))
        .map_err(|error| format!("the lab did not come up: {error:#}"))?;
    Ok(Used {
        lab,
        trials: Vec::new(),
    })
}
