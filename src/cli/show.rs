//! `dfw show`: the rules as nft text.

use std::path::Path;

use serde_json::json;

use crate::host::HostView;
use crate::kernel::Kernel;
use crate::output::json;
use crate::output::terminal::Terminal;
use crate::ruleset::Ruleset;
use crate::text::diagnostic::Diagnostic;

use super::failure::Failure;
use super::load::load;
use super::notice;

/// Those that a policy becomes on a host of which nothing is known.
pub(super) fn compiled(terminal: Terminal, path: &Path) -> Result<(), Failure> {
    let loaded = load(terminal, path)?;
    for warning in notice::without_host(&loaded.policy) {
        terminal.diagnostic(&warning, &loaded.sources);
        terminal.gap();
    }
    print(terminal, "policy", &loaded.compile(&HostView::default()))
}

/// Those in force.
pub(super) fn installed(terminal: Terminal) -> Result<(), Failure> {
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
