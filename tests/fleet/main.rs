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
mod late;
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

use anyhow::Result;

use crate::support::command::find;

/// A trial by name.
type Named = (&'static str, fn() -> Result<()>);

/// What only the long version tries, unless it is named: `tests/former` must build one more program for it.
const LONG: [&str; 1] = ["a_fleet_of_two_versions_is_one_fleet"];

fn main() -> ExitCode {
    // Each trial has a cluster of its own.
    support::suite("fleet", 3, missing, &LONG)
}

fn missing() -> Vec<String> {
    let mut missing = namespace::missing();
    let lacking = ["etcd", "etcdctl"]
        .into_iter()
        .filter(|name| find(name).is_none());
    missing.extend(lacking.map(|name| format!("the program {name}")));
    missing
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        chaos::TRIALS,
        rollout::TRIALS,
        failures::TRIALS,
        late::TRIALS,
        contents::TRIALS,
        attacks::TRIALS,
        many::TRIALS,
        versions::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
