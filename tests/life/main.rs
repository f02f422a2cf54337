//! dfw's life beside real systemd, Docker, nftables.service and firewalld: boots, restarts, crashes
//! and floods, with a stranger who tries to get in all the time.
//!
//! Needs root, the packages that `tests/run` installs and the root that `tests/roots` builds. Without them
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
mod meddlers;
mod namespaces;
mod package;
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
    arguments.test_threads.get_or_insert(2);
    let missing = namespaces::missing();
    let mut missing_to_packages = missing.clone();
    missing_to_packages.extend(package::missing());
    for thing in &missing_to_packages {
        eprintln!("the life tests need {thing}");
    }
    let may_skip = std::env::var("CI").as_deref() != Ok("true");
    let missing: &'static [String] = missing.leak();
    let missing_to_packages: &'static [String] = missing_to_packages.leak();
    let trials = all()
        .map(|(name, trial)| {
            let missing = if package::TRIALS.iter().any(|(known, _)| *known == name) {
                missing_to_packages
            } else {
                missing
            };
            Trial::test(name, move || {
                let result = if missing.is_empty() {
                    trial()
                } else {
                    missed(missing)
                };
                result.map_err(|error| format!("{error:#}").into())
            })
            .with_ignored_flag(may_skip && !missing.is_empty())
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
        boots::TRIALS,
        meddlers::TRIALS,
        deaths::TRIALS,
        files::TRIALS,
        engines::TRIALS,
        figures::TRIALS,
        package::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
