//! Every generated file: `man/dfw*.[15]` and `completions/dfw.SHELL`.

use std::collections::BTreeMap;
use std::io;

use clap::ValueEnum;
use clap_complete::Shell;
use dfw::cli::command_line;

use super::manual;

/// Returns the content of every file by its path below the output directory.
pub(crate) fn files() -> io::Result<BTreeMap<String, Vec<u8>>> {
    let pages = manual::pages(command_line())?.into_iter();
    let mut files: BTreeMap<String, Vec<u8>> = pages
        .map(|(name, text)| (format!("man/{name}"), text))
        .collect();
    for &shell in Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command_line(), "dfw", &mut script);
        files.insert(format!("completions/dfw.{shell}"), script);
    }
    Ok(files)
}
