//! The `dfw` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfw::cli::main()
}
