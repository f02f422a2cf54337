//! `dfw init`: a first policy, of what is published now.

use crate::net::Entry;
use std::path::Path;

use serde_json::json;

use crate::init::{Allow, propose};
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::site::{Site, Sockets};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::failure::Failure;
use super::host::{self, EngineArgs};
use super::summary::summary;
use super::{command, directory};

/// The file that is written into the directory.
const NAME: &str = "published.yaml";

/// Who is allowed, as the command line says it.
#[derive(Debug, Clone)]
pub(super) enum Allowed {
    Any,
    Entry(Entry),
}

impl std::str::FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            _ => text
                .parse()
                .map(Self::Entry)
                .map_err(|mistake: crate::policy::Mistake| mistake.to_string()),
        }
    }
}

pub(super) fn run(
    terminal: Terminal,
    dir: &Path,
    allowed: &[Allowed],
    engine: &EngineArgs,
) -> Result<(), Failure> {
    let found = Site::find(&engine.ask(), Sockets::All)?;
    if found.host.engines.is_empty() {
        let mut diagnostic = Diagnostic::error("no-engine", "no container engine answers here");
        for error in &found.unanswered {
            diagnostic = diagnostic.help(host::short(error));
        }
        return Err(Failure::plain(diagnostic.help(
            "start it, or say with `--docker-host` where it listens; nothing was written",
        )));
    }
    let allow = if allowed.iter().any(|a| matches!(a, Allowed::Any)) {
        Allow::Any
    } else {
        let entries = allowed.iter().filter_map(|allowed| match allowed {
            Allowed::Any => None,
            Allowed::Entry(entry) => Some(*entry),
        });
        Allow::Addresses(entries.collect())
    };
    let proposal = propose(&found.host, &allow)
        .map_err(|error| Failure::plain(Diagnostic::error("init", error.to_string())))?;
    directory::prepare(dir)?;
    let path = directory::write(dir, NAME, &proposal.text)?;
    let notices = host::unanswered(&found);
    for notice in &notices {
        terminal.diagnostic(notice, &SourceMap::new());
        terminal.gap();
    }
    terminal.answer(
        || {
            json!({
                "schema": "dfw/init/v1",
                "written": path.display().to_string(),
                "policy": proposal.policy.json(),
                "engines": json::engines(&found.host),
                "warnings": notices
                    .iter()
                    .map(|n| to_json(n, &SourceMap::new()))
                    .collect::<Vec<_>>(),
            })
        },
        || {
            let nobody = match &allow {
                Allow::Addresses(entries) if entries.is_empty() => {
                    "nobody is allowed yet: write in who may, or begin again with `--allow`\n"
                }
                _ => "",
            };
            format!(
                "{}{}: {} with {}; nothing is in force yet\n{nobody}next: {}, and {}\n",
                summary(terminal, &proposal.policy),
                terminal.paint(Tone::Good, "written"),
                untrusted::path(&path),
                count(proposal.policy.ports.len(), "port", "ports"),
                command("plan", dir),
                command("apply --confirm 60s", dir),
            )
        },
    )?;
    Ok(())
}
