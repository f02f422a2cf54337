//! Many hosts and a real etcd: three members with TLS and users, and hosts in network namespaces of their own, each
//! with `dfw guard` and `dfw fetch`.
//!
//! Needs root, the packages that `tests/run` installs, and the feature `etcd`. Without them the trials are skipped, or
//! fail where the environment says `CI=true`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

mod attacks;
mod chaos;
mod cluster;
mod contents;
#[path = "../guard/daemon.rs"]
#[expect(dead_code, reason = "the guard tests use the rest")]
mod daemon;
mod failures;
mod fleet;
mod many;
#[path = "../kernel/namespace.rs"]
#[expect(dead_code, reason = "the kernel tests use the rest")]
mod namespace;
#[path = "../kernel/pty.rs"]
#[expect(dead_code, reason = "the kernel tests use the rest")]
mod pty;
mod rollout;
#[path = "../guard/servers.rs"]
#[expect(dead_code, reason = "the guard tests use the rest")]
mod servers;
#[path = "../support/sign.rs"]
mod sign;
#[path = "../kernel/support.rs"]
#[expect(dead_code, reason = "the kernel tests use the rest")]
mod support;
mod versions;

use std::process::ExitCode;

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Trial};

use crate::support::command::find;

/// A trial by name.
type Named = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    if let Some(code) = support::helper_main() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Each trial has a cluster of its own.
    arguments.test_threads = arguments.test_threads.or(Some(3));
    let missing = missing();
    let skip = !missing.is_empty() && std::env::var("CI").as_deref() != Ok("true");
    for thing in &missing {
        eprintln!("the fleet tests need {thing}");
    }
    let trials = all()
        .map(|(name, _)| {
            Trial::test(name, move || {
                let missing = self::missing();
                let result = if missing.is_empty() {
                    support::isolated::run(name)
                } else {
                    missed(&missing)
                };
                result.map_err(|error| format!("{error:#}").into())
            })
            .with_ignored_flag(skip)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn missing() -> Vec<String> {
    let mut missing = namespace::missing();
    let lacking = ["etcd", "etcdctl"]
        .into_iter()
        .filter(|name| find(name).is_none());
    missing.extend(lacking.map(|name| format!("the program {name}")));
    missing
}

fn missed(missing: &[String]) -> Result<()> {
    bail!("this trial needs {}", missing.join("; "))
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        chaos::TRIALS,
        rollout::TRIALS,
        failures::TRIALS,
        contents::TRIALS,
        attacks::TRIALS,
        many::TRIALS,
        versions::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
