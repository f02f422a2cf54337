//! `dfw show`: the rules as nft text.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::arguments::DEFAULT_PATH;
use crate::cli::load::load;
use crate::cli::report::failure::Failure;
use crate::cli::report::notice;
use crate::host::HostView;
use crate::kernel::Kernel;
use crate::output::json;
use crate::output::terminal::Terminal;
use crate::ruleset::Ruleset;
use crate::text::diagnostic::Diagnostic;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// Show what this policy becomes; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_PATH)]
    policy: Option<PathBuf>,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &ShowArgs) -> Result<(), Failure> {
    match &args.policy {
        Some(path) => compiled(terminal, path),
        None => installed(terminal),
    }
}

/// Those that a policy becomes on a host of which nothing is known.
fn compiled(terminal: Terminal, path: &Path) -> Result<(), Failure> {
    let loaded = load(terminal, path)?;
    let warnings: Vec<_> = notice::without_host(&loaded.policy).collect();
    terminal.diagnostics(&warnings, &loaded.sources);
    print(terminal, "policy", &loaded.compile(&HostView::default()))
}

/// Those in force.
fn installed(terminal: Terminal) -> Result<(), Failure> {
    match Kernel::open()?.snapshot()?.installed {
        Some(installed) => print(terminal, "kernel", &installed.ruleset),
        None => Err(Failure::plain(
            Diagnostic::error("not-installed", "no rules of dfw are in force")
                .help("`dfw apply PATH` puts a policy in force")
                .help("`dfw show --policy PATH` shows the rules that a policy becomes"),
        )),
    }
}

fn print(terminal: Terminal, from: &str, ruleset: &Ruleset) -> Result<(), Failure> {
    terminal.answer(
        || {
            json!({
                "schema": "dfw/show/v1",
                "from": from,
                "size": json::size(ruleset),
                "nft": ruleset.to_string(),
            })
        },
        || ruleset.to_string(),
    )?;
    Ok(())
}
