//! `dfw fetch`: lists and names from the network into the cache.

use std::path::Path;

use serde_json::{Value, json};

use crate::bundle::Address;
use crate::cli::arguments::{self, PolicyPath};
use crate::cli::load;
use crate::cli::report::failure::Failure;
use crate::fetch::daemon::Daemon;
use crate::fetch::site::{self, Site, Wanted};
use crate::fetch::store::Credentials;
use crate::fetch::{Fetcher, Outcome, rights};
use crate::output::terminal::{Terminal, Tone};
use crate::store::Location;
use crate::text::diagnostic::Diagnostic;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FetchArgs {
    #[command(flatten)]
    policy: PolicyPath,
    /// Only fetch what is due: names by their TTL, lists by `every`
    #[arg(long)]
    due: bool,
    /// Keep fetching, each source when it is due
    #[arg(long, conflicts_with = "due")]
    daemon: bool,
    /// Accept the list in the cache, or in its file, although it takes more away than `max-loss`; fetch nothing
    #[arg(long, value_name = "NAME", conflicts_with_all = ["due", "daemon"])]
    accept: Option<String>,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &FetchArgs) -> Result<(), Failure> {
    if let Some(address) = args.policy.address()? {
        return fetch_site(terminal, args, address);
    }
    let location = args.policy.to_enforce()?;
    if let Some(name) = &args.accept {
        return accept(terminal, &location, name);
    }
    let cache = arguments::cache();
    let failed = |message: String| Failure::plain(Diagnostic::error("fetch", message));
    if args.daemon {
        let readable = rights::to_keep_fetching(&location.path);
        let has_site = location.path.with_file_name(site::WANTED).exists();
        let credentials = Credentials::read();
        let cache = rights::give_up(&cache, &readable, has_site).map_err(failed)?;
        return keep_fetching(terminal, &location, (&cache, &credentials)).map_err(failed);
    }
    let requests = load::requests(&location)?;
    let fetcher = Fetcher::new().map_err(failed)?;
    let cache = rights::give_up(&cache, &[], false).map_err(failed)?;
    let mut outcomes = Vec::new();
    fetcher.fetch(&cache, &requests, args.due, |outcome| {
        warn(terminal, &outcome, args.due);
        outcomes.push(outcome);
    });
    let complete = outcomes.iter().all(|outcome| outcome.result.is_ok());
    terminal.answer(
        || {
            let sources = outcomes.iter().map(|outcome| match &outcome.result {
                Ok((entries, changed)) => {
                    json!({"name": outcome.name.as_str(), "entries": entries, "changed": changed})
                }
                Err(reason) => json!({"name": outcome.name.as_str(), "failure": reason}),
            });
            document(&sources.collect::<Vec<_>>())
        },
        || outcomes.iter().filter_map(line).collect(),
    )?;
    if complete || args.due {
        Ok(())
    } else {
        Err(Failure::Incomplete)
    }
}

/// Fetches the bundle of a site.
fn fetch_site(terminal: Terminal, args: &FetchArgs, address: Address) -> Result<(), Failure> {
    let failed = |message: String| Failure::plain(Diagnostic::error("fetch", message));
    if args.due || args.daemon || args.accept.is_some() {
        let message = "`--due`, `--daemon` and `--accept` are not for an address: guard tells \
                       `dfw fetch --daemon` what to fetch";
        return Err(failed(message.to_owned()));
    }
    let cache = arguments::cache();
    let credentials = address.is_etcd().then(Credentials::read);
    let readable = rights::to_keep_fetching(&cache);
    let cache = rights::give_up(&cache, &readable, true).map_err(failed)?;
    let wanted = Wanted {
        address,
        contents: None,
        host: args.policy.host().cloned(),
        keep: None,
        probe: None,
        connections: site::CONNECTIONS,
    };
    let site = Site {
        cache: &cache,
        wanted: &wanted,
    };
    let done = match credentials {
        Some(credentials) => credentials.fetch(&site),
        None => site.fetch().0,
    };
    let (generation, is_new) = done.map_err(failed)?;
    let changed = if is_new { "changed" } else { "unchanged" };
    let address = wanted.address.to_string();
    terminal.answer(
        || {
            let mut document = document(&[]);
            document["site"] =
                json!({"address": address, "generation": generation, "changed": is_new});
            document
        },
        || format!("{address}: generation {generation}, {changed}\n"),
    )?;
    Ok(())
}

/// Fetches for as long as the process lives.
fn keep_fetching(
    terminal: Terminal,
    location: &Location,
    (cache, credentials): (&Path, &Credentials),
) -> Result<(), String> {
    Daemon {
        cache,
        credentials,
        path: &location.path,
        read: &|| load::requests_or_line(location),
        report: &|outcome| {
            warn(terminal, &outcome, true);
            let is_news = matches!(outcome.result, Ok((_, changed)) if changed || outcome.is_known);
            if let (true, Some(line)) = (is_news, line(&outcome)) {
                terminal.say(Tone::Good, "fetched", line.trim_end());
            }
        },
        news: &|generation| {
            let text = format!("generation {generation} of the site");
            terminal.say(Tone::Good, "fetched", &text);
        },
        warn: &|text| terminal.say(Tone::Warning, "warning", text),
    }
    .run()
}

/// Warns of a source that was not fetched; if `once`, then not again for the same reason.
fn warn(terminal: Terminal, outcome: &Outcome, once: bool) {
    if let Err(reason) = &outcome.result
        && !(once && outcome.is_known)
    {
        let text = format!("{}: {reason}", outcome.name);
        terminal.say(Tone::Warning, "not fetched", &text);
    }
}

fn document(sources: &[Value]) -> Value {
    json!({"schema": "dfw/fetch/v1", "sources": sources})
}

fn line(outcome: &Outcome) -> Option<String> {
    let (entries, changed) = outcome.result.as_ref().ok()?;
    let changed = if *changed { "changed" } else { "unchanged" };
    Some(format!("{}: {entries} entries, {changed}\n", outcome.name))
}

/// Accepts the list in the cache, within all other bounds.
fn accept(terminal: Terminal, location: &Location, name: &str) -> Result<(), Failure> {
    let entries = load::accept(location, name)?;
    terminal.answer(
        || document(&[json!({"name": name, "entries": entries, "accepted": true})]),
        || format!("accepted: {entries} entries of {name}; `dfw apply` or dfw guard takes them\n"),
    )?;
    Ok(())
}
