//! What is shared with the tests, and the helpers that this binary is itself.

#[path = "../../tests/support/command.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
pub(crate) mod command;
#[path = "../../tests/support/fake_engine.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
pub(crate) mod fake_engine;
#[path = "../../tests/support/helper.rs"]
pub(crate) mod helper;
#[path = "../../tests/support/janitor.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
pub(crate) mod janitor;
#[path = "../../tests/support/netns.rs"]
pub(crate) mod netns;

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use crate::{cost, raw};

/// The janitor, the one who measures a program, and the one who sends bytes are this same program.
pub(crate) fn helper_main() -> Option<ExitCode> {
    helper::main(|role, rest| match (role, rest) {
        ("janitor", [dir]) => janitor::wait_and_clean(Path::new(dir)),
        ("measure", [namespace, program, arguments @ ..]) => {
            cost::measure_here(Path::new(namespace), program, arguments)
        }
        ("raw", [file]) => raw::send(Path::new(file)),
        _ => bail!("no such helper"),
    })
}
