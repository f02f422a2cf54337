//! `dfw show`: prints rules as nft text.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::arguments::{BundleArgs, DEFAULT_PATH};
use crate::cli::load::load;
use crate::cli::report::failure::Failure;
use crate::cli::report::notice;
use crate::clock;
use crate::host::HostView;
use crate::kernel::Kernel;
use crate::output::json;
use crate::output::terminal::Terminal;
use crate::ruleset::Ruleset;
use crate::store::Location;
use crate::text::diagnostic::Diagnostic;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// Print the rules of this policy; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_PATH)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    bundle: BundleArgs,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &ShowArgs) -> Result<(), Failure> {
    match &args.policy {
        Some(path) => compiled(terminal, &args.bundle.to_show(path)?),
        None => installed(terminal),
    }
}

/// Prints the rules of a policy, compiled without knowledge of a host.
fn compiled(terminal: Terminal, location: &Location) -> Result<(), Failure> {
    let loaded = load(terminal, location)?;
    let warnings: Vec<_> = notice::without_host(&loaded.policy).collect();
    terminal.diagnostics(&warnings, &loaded.sources);
    print(terminal, "policy", &loaded.compile(&HostView::default()))
}

/// Prints the rules in force.
fn installed(terminal: Terminal) -> Result<(), Failure> {
    match Kernel::open()?.snapshot()?.installed {
        Some(mut installed) => {
            installed.ruleset.set_back(clock::since_boot());
            print(terminal, "kernel", &installed.ruleset)
        }
        None => Err(Failure::plain(
            Diagnostic::error("not-installed", "dfw's rules are not in force")
                .help("`dfw apply PATH` applies a policy")
                .help("`dfw show --policy PATH` prints the rules of a policy"),
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
