//! `dfw generate`: what is made of the command line and the language, for packages and editors.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::report::failure::Failure;
use crate::cli::{Args, manual};
use crate::output::terminal::Terminal;
use crate::policy;
use crate::text::diagnostic::Diagnostic;
use crate::{file, untrusted};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write the manual pages into a folder: one of each verb, and dfw-policy(5)
    Man {
        /// Where they go; it is made if there is none
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print what a shell needs to complete command lines of dfw
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the JSON Schema of policies, which editors complete and check with
    Schema,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &GenerateArgs) -> Result<(), Failure> {
    match &args.what {
        What::Man { dir } => return pages(dir),
        What::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "dfw", &mut script);
            let script = String::from_utf8_lossy(&script);
            let document = || json!({"schema": "dfw/completions/v1", "script": script});
            terminal.answer(document, || script.to_string())?;
        }
        What::Schema => {
            terminal.answer(policy::schema, || format!("{:#}\n", policy::schema()))?;
        }
    }
    Ok(())
}

fn pages(dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let message = format!("cannot write {}", untrusted::path(path));
        move |error| {
            Failure::plain(Diagnostic::error(
                "unwritable",
                format!("{message}: {error}"),
            ))
        }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    for (name, text) in manual::pages(Args::command())? {
        let path = dir.join(name);
        file::sweep(&path);
        file::replace(&path, 0o644, &text).map_err(failed(&path))?;
    }
    Ok(())
}
