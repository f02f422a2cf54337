//! dfw and a real kernel, in network namespaces of their own: applying, reading back, two independent
//! implementations for comparison, and failures.
//!
//! Needs root and the packages that `tests/run` installs. Without them the trials are skipped, or
//! fail where the environment says `CI=true`. `DFW_SEED` repeats the random rulesets of a run.

#![expect(
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "a black-box test starts programs and reports to the terminal"
)]

#[path = "../support/arbitrary.rs"]
mod arbitrary;
mod cases;
mod change;
mod concurrent_writers;
mod confirm;
mod container_sends_first;
mod drift;
#[path = "../support/encoded.rs"]
mod encoded;
mod engines;
mod grants;
mod import;
#[path = "../support/iptables/mod.rs"]
mod iptables;
mod judge;
mod kill;
mod libnftnl;
mod libnftnl_expressions;
mod limits;
mod loss;
mod marks;
#[expect(dead_code, reason = "the guard tests use the rest")]
mod namespace;
mod nat;
mod owner;
mod program;
#[path = "../support/property.rs"]
#[expect(dead_code, reason = "the tests without a kernel use the rest")]
mod property;
mod pty;
mod read_back;
#[path = "../support/reference/mod.rs"]
#[expect(dead_code, reason = "the tests without a kernel use the rest")]
#[expect(clippy::unwrap_used, reason = "what fails there is a failed test")]
mod reference;
mod rejections;
mod reverse_path;
mod roundtrip;
mod session;
mod shared;
mod socket_holders;
mod support;
mod terminal_behaviour;
mod text;
mod tracer;
mod tracked;
mod traffic;
mod watch;

use std::process::ExitCode;

use anyhow::Result;

/// A trial by name.
type Named = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    // Most of a trial is waiting for other programs.
    support::suite("kernel", 4, namespace::missing, &[])
}

fn all() -> impl Iterator<Item = Named> {
    let groups = [
        // Those that take longest begin first.
        judge::TRIALS,
        import::TRIALS,
        read_back::TRIALS,
        roundtrip::TRIALS,
        text::TRIALS,
        libnftnl_expressions::TRIALS,
        rejections::TRIALS,
        reverse_path::TRIALS,
        change::TRIALS,
        concurrent_writers::TRIALS,
        drift::TRIALS,
        marks::TRIALS,
        nat::TRIALS,
        owner::TRIALS,
        engines::TRIALS,
        grants::TRIALS,
        program::TRIALS,
        tracer::TRIALS,
        tracked::TRIALS,
        traffic::TRIALS,
        limits::TRIALS,
        container_sends_first::TRIALS,
        loss::TRIALS,
        terminal_behaviour::TRIALS,
        kill::TRIALS,
        confirm::TRIALS,
        session::TRIALS,
        shared::TRIALS,
        socket_holders::TRIALS,
        watch::TRIALS,
    ];
    groups.into_iter().flatten().copied()
}
