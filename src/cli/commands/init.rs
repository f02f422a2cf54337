//! `dfw init`: writes a first policy from the published ports.

use crate::net::Entry;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::arguments::command;
use crate::cli::arguments::{DEFAULT_PATH, EngineArgs};
use crate::cli::directory;
use crate::cli::report::engines;
use crate::cli::report::failure::Failure;
use crate::cli::report::summary::summary;
use crate::init::{Allow, propose};
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::site::{HostFacts, Sockets};
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

/// The name of the policy file in the directory.
const NAME: &str = "published.yaml";

/// A value of `--allow`.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Allowed {
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

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct InitArgs {
    /// The directory for the policy
    #[arg(default_value = DEFAULT_PATH)]
    path: PathBuf,
    /// Sources to allow: addresses, networks, ranges or `any` [default: none]
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    allow: Vec<Allowed>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &InitArgs) -> Result<(), Failure> {
    let InitArgs {
        path: dir,
        allow: allowed,
        engine,
    } = args;
    let found = HostFacts::find(&engine.ask(), Sockets::All)?;
    if found.host.engines.is_empty() {
        let mut diagnostic = Diagnostic::error("no-engine", "no container engine was found");
        for error in &found.unanswered {
            diagnostic = diagnostic.help(engines::short(error));
        }
        return Err(Failure::plain(diagnostic.help(
            "start the engine, or name its socket with `--docker-host`; nothing was written",
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
    let notices = engines::unanswered(&found);
    terminal.diagnostics(&notices, &SourceMap::new());
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
                    "no source is allowed yet: add sources, or start over with `--allow`\n"
                }
                _ => "",
            };
            format!(
                "{}{}: {} with {}; not in force yet\n{nobody}next: {}, then {}\n",
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
