//! What the tests that need a network share: namespaces with names, a topology of hosts, a real
//! engine, servers, probes, and a clean-up that happens however the test ends.
//!
//! Nothing here knows dfw's insides; the program under test is only ever run.

pub(crate) mod audit;
pub(crate) mod command;
pub(crate) mod edition;
pub(crate) mod engine;
pub(crate) mod explain;
pub(crate) mod fake_engine;
pub(crate) mod fleet;
pub(crate) mod helper;
pub(crate) mod inside;
pub(crate) mod janitor;
pub(crate) mod lab;
pub(crate) mod netns;
pub(crate) mod paths;
pub(crate) mod probe;
pub(crate) mod property;
pub(crate) mod reach;
pub(crate) mod scan;
pub(crate) mod service;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod topology;
pub(crate) mod watch;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

/// The servers in containers, the init process of the engine's namespaces, and the janitor are
/// all this same program.
pub(crate) fn helper_main() -> Option<ExitCode> {
    helper::main(play)
}

fn play(role: &str, rest: &[String]) -> Result<()> {
    match (role, rest) {
        ("serve", specs) => service::serve_forever(specs),
        ("init", []) => engine::reap_forever(),
        ("janitor", [dir]) => janitor::wait_and_clean(Path::new(dir)),
        _ => bail!("no such helper"),
    }
}
