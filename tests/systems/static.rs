//! The program, to be linked with its C library for machines that have another one: as an example it depends on what
//! the tests depend on, so that nothing is compiled again for it.

use std::process::ExitCode;

fn main() -> ExitCode {
    dfw::cli::main()
}
