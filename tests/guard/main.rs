//! `dfw guard` and a real kernel, in network namespaces of their own: what happens to the rules when
//! policies change, others modify the table, guard dies, and its folders vanish or are full.
//!
//! Needs root and the packages that `tests/run` installs. Without them the trials are skipped, or
//! fail where the environment says `CI=true`.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

mod answers;
mod bundle;
mod cache;
mod control;
mod daemon;
mod fetched;
mod grants;
mod grants_at_random;
mod hidden;
mod hostile;
mod idle;
mod keep;
mod lists;
mod many_clients;
mod modifiers;
mod names;
#[path = "../kernel/namespace.rs"]
#[expect(dead_code, reason = "the kernel tests use the rest")]
mod namespace;
mod networks;
mod owners;
mod policies;
#[path = "../kernel/pty.rs"]
#[expect(dead_code, reason = "the kernel tests use the rest")]
mod pty;
mod refused;
mod rights;
mod servers;
#[path = "../support/sign.rs"]
mod sign;
mod silent;
mod site;
mod stranger;
#[path = "../kernel/support.rs"]
#[expect(dead_code, reason = "the kernel tests use the rest")]
mod support;
mod survival;
mod tracer;
mod upgrade;

use std::process::ExitCode;

use anyhow::Result;

/// A trial by name.
type Named = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    // Most of a trial is waiting for other programs, and three of them do nothing else for a minute.
    support::suite("guard", 6, namespace::missing, &[])
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        // First, as a generation that cuts the host off is tried for a minute, whatever else runs.
        site::TRIALS,
        fetched::TRIALS,
        hostile::TRIALS,
        answers::TRIALS,
        refused::TRIALS,
        rights::TRIALS,
        bundle::TRIALS,
        cache::TRIALS,
        grants::TRIALS,
        grants_at_random::TRIALS,
        policies::TRIALS,
        modifiers::TRIALS,
        survival::TRIALS,
        upgrade::TRIALS,
        keep::TRIALS,
        hidden::TRIALS,
        lists::TRIALS,
        owners::TRIALS,
        control::TRIALS,
        many_clients::TRIALS,
        names::TRIALS,
        networks::TRIALS,
        idle::TRIALS,
        tracer::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
