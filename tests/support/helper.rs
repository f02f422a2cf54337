//! A test binary that is started again to play another role: a server, a janitor, an init.

use std::process::ExitCode;

use anyhow::Result;

/// The first argument that turns a test binary into one of its own helpers.
pub(crate) const HELPER: &str = "test-helper";

/// Plays a role if the binary was started as a helper. Call it first thing in `main`; it answers
/// `None` in an ordinary test run.
pub(crate) fn main(play: impl FnOnce(&str, &[String]) -> Result<()>) -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(HELPER) {
        return None;
    }
    let role = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    Some(match play(&role, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{HELPER} {role}: {error:#}");
            ExitCode::FAILURE
        }
    })
}
