//! dfw's life beside real systemd, Docker, nftables.service and firewalld: boots, restarts, crashes
//! and floods, with a stranger who tries to get in all the time.
//!
//! Two of the systems are machines of their own, with other kernels, in QEMU without KVM.
//!
//! Needs root, the packages that `tests/run` installs and the roots that `tests/roots` builds. Without them
//! the trials are skipped, or fail where the environment says `CI=true`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and talks to whoever runs it"
)]

mod boots;
mod deaths;
mod engines;
mod figures;
mod files;
mod guest;
mod lan;
mod machine;
mod machines;
mod meddlers;
mod namespaces;
mod site;
mod stranger;
mod support;

use std::process::ExitCode;

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

/// A trial by name.
type Named = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = support::helper_main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // More would only wait for each other.
    arguments.test_threads.get_or_insert(4);
    let mut missing = namespaces::missing();
    missing.extend(machine::missing(machines::RELEASES));
    let skip = !missing.is_empty() && std::env::var("CI").as_deref() != Ok("true");
    for thing in &missing {
        eprintln!("the life tests need {thing}");
    }
    let missing: &'static [String] = missing.leak();
    let trials = all()
        .map(|(name, trial)| {
            Trial::test(name, move || {
                let result = if missing.is_empty() {
                    trial()
                } else {
                    missed(missing)
                };
                result.map_err(|error| format!("{error:#}").into())
            })
            .with_ignored_flag(skip)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::close();
    conclusion.exit_code()
}

fn missed(missing: &[String]) -> Result<()> {
    bail!("this trial needs {}", missing.join("; "))
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        // First, as they take longest.
        machines::TRIALS,
        boots::TRIALS,
        meddlers::TRIALS,
        deaths::TRIALS,
        files::TRIALS,
        engines::TRIALS,
        figures::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
