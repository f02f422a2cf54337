//! `dfw fetch`: lists and names from the network into the cache.

use serde_json::json;

use crate::cli::arguments::{self, PolicyPath};
use crate::cli::load;
use crate::cli::report::failure::Failure;
use crate::fetch::{Fetcher, Outcome, rights};
use crate::output::terminal::{Terminal, Tone};
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FetchArgs {
    #[command(flatten)]
    policy: PolicyPath,
    /// Only fetch what is due: names by their TTL, lists by `every`
    #[arg(long)]
    due: bool,
    /// Accept the list in the cache although it takes more away than `max-loss`; fetch nothing
    #[arg(long, value_name = "NAME", conflicts_with = "due")]
    accept: Option<String>,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &FetchArgs) -> Result<(), Failure> {
    if let Some(name) = &args.accept {
        return accept(terminal, args, name);
    }
    let requests = load::requests(&args.policy.path)?;
    let cache = arguments::cache();
    let failed = |message: String| Failure::plain(Diagnostic::error("fetch", message));
    let fetcher = Fetcher::new().map_err(failed)?;
    rights::give_up(&cache).map_err(failed)?;
    let outcomes: Vec<Outcome> = requests
        .iter()
        .filter_map(|(name, fetched)| fetcher.fetch(&cache, name, fetched, args.due))
        .collect();
    let mut complete = true;
    for outcome in &outcomes {
        if let Err(reason) = &outcome.result {
            complete = false;
            // Once for each change.
            if !(args.due && outcome.is_known) {
                let text = format!("{}: {}", outcome.name, untrusted::clean(reason));
                terminal.say(Tone::Warning, "not fetched", &text);
            }
        }
    }
    terminal.answer(
        || {
            let sources = outcomes.iter().map(|outcome| match &outcome.result {
                Ok((entries, changed)) => {
                    json!({"name": outcome.name.as_str(), "entries": entries, "changed": changed})
                }
                Err(reason) => json!({"name": outcome.name.as_str(), "failure": reason}),
            });
            json!({"schema": "dfw/fetch/v1", "sources": sources.collect::<Vec<_>>()})
        },
        || {
            let lines = outcomes.iter().filter_map(|outcome| {
                let (entries, changed) = outcome.result.as_ref().ok()?;
                let changed = if *changed { "changed" } else { "unchanged" };
                Some(format!("{}: {entries} entries, {changed}\n", outcome.name))
            });
            lines.collect()
        },
    )?;
    if complete || args.due {
        Ok(())
    } else {
        Err(Failure::Incomplete)
    }
}

/// Accepts the list in the cache, within all other bounds.
fn accept(terminal: Terminal, args: &FetchArgs, name: &str) -> Result<(), Failure> {
    let entries = load::accept(&args.policy.path, name)?;
    terminal.answer(
        || json!({"schema": "dfw/fetch/v1", "accepted": name, "entries": entries}),
        || format!("accepted: {entries} entries of {name}; `dfw apply` or dfw guard takes them\n"),
    )?;
    Ok(())
}
