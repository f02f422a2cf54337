//! Fetching lists and names: the part that speaks to the network has no rights.
//!
//! It writes to its cache and nowhere else, and nobody trusts what is in there: policies are read with the bounds
//! of each list. A failure changes nothing in the cache.

#[cfg(feature = "etcd")]
mod etcd;
mod names;
mod watch;
mod web;

pub mod cache;
pub mod daemon;
pub mod rights;
pub mod site;
pub mod store;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::file::{self, Accept, Limit};
use crate::net::{AddressSet, Entry};
use crate::policy::{Fetched, Request, SourceName};

use cache::Status;
use names::Names;
use web::{Answer, Web};

/// How often a list is fetched of which nothing else is known.
const EVERY: Duration = Duration::from_hours(12);
/// How soon a failure is tried again: a name, and a list.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(5));

/// What is fetched: each source with its request.
pub type Requests = Vec<(SourceName, Fetched)>;

/// What is known of this host before the rights are given up: resolvers, certificates, the proxy.
pub struct Fetcher {
    names: Names,
    web: Web,
}

/// What became of one source.
#[derive(Debug)]
pub struct Outcome {
    /// The source.
    pub name: SourceName,
    /// How many entries the list has, and whether they are other ones than before; or why it was not fetched.
    pub result: Result<(usize, bool), String>,
    /// Whether it failed before: for the same reason, if it was not fetched.
    pub is_known: bool,
}

impl Fetcher {
    /// Reads what it needs of this host.
    ///
    /// # Errors
    /// What cannot be read, in one sentence.
    pub fn new() -> Result<Self, String> {
        let names = Names::new()?;
        let web = Web::new(&names);
        Ok(Self { names, web })
    }

    /// Fetches these sources into the cache, names first; `only_due` leaves out those that are not due.
    pub fn fetch(
        &self,
        cache: &Path,
        requests: &[(SourceName, Fetched)],
        only_due: bool,
        mut report: impl FnMut(Outcome),
    ) {
        let now = SystemTime::now();
        let fetches = requests.iter().filter_map(|(name, fetched)| {
            let key = fetched.request.key();
            let status = Status::read(cache, &key);
            (!only_due || status.is_due(now)).then_some(Fetch {
                cache,
                name,
                fetched,
                key,
                status,
            })
        });
        let (names, lists): (Vec<Fetch<'_>>, Vec<_>) =
            fetches.partition(|fetch| fetch.host().is_some());
        let hosts: Vec<&str> = names.iter().filter_map(Fetch::host).collect();
        let answers = self.names.all_addresses(&hosts);
        for (fetch, answer) in names.into_iter().zip(answers) {
            let answer = answer.map(|(addresses, ttl)| {
                let entries = addresses.into_iter().map(Entry::from);
                Answer::Addresses(AddressSet::from_entries(entries), ttl)
            });
            report(fetch.keep(answer));
        }
        for mut fetch in lists {
            let answer = fetch.list(&self.web);
            report(fetch.keep(answer));
        }
    }
}

/// Returns an error as text.
fn failed(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Returns in how long the first of these sources is due; `None` if there is none.
#[must_use]
pub fn next_due(cache: &Path, requests: &[(SourceName, Fetched)]) -> Option<Duration> {
    let now = SystemTime::now();
    let waits = requests.iter().map(|(_, fetched)| {
        let status = Status::read(cache, &fetched.request.key());
        status.wait(now)
    });
    waits.min()
}

/// A source that is being fetched.
struct Fetch<'a> {
    cache: &'a Path,
    name: &'a SourceName,
    fetched: &'a Fetched,
    key: String,
    status: Status,
}

impl<'a> Fetch<'a> {
    /// The host whose addresses it is about.
    fn host(&self) -> Option<&'a str> {
        match &self.fetched.request {
            Request::Name(name) => Some(name),
            Request::Url { .. } => None,
        }
    }

    /// Asks a server for its list, if that is another one than the one in the cache.
    fn list(&mut self, web: &Web) -> Result<Answer, String> {
        let Request::Url {
            url,
            format,
            allow_private,
        } = &self.fetched.request
        else {
            return Err("not a list".to_owned());
        };
        if !self.cache.join(&self.key).exists() {
            self.status.forget_version();
        }
        web.list(url, format, *allow_private, self.status.version.as_ref())
    }

    /// Writes an answer to the cache, and remembers what became of it.
    fn keep(mut self, answer: Result<Answer, String>) -> Outcome {
        let now = SystemTime::now();
        let is_name = self.host().is_some();
        let result = answer.and_then(|answer| self.write(answer));
        let is_known = match &result {
            Ok((entries, _, wait)) => self.status.succeed(now, *entries, *wait),
            Err(reason) => {
                let wait = if is_name { RETRY.0 } else { RETRY.1 };
                self.status.fail(now, reason, wait)
            }
        };
        let written = self.status.write(self.cache, &self.key);
        let result = result.map(|(entries, is_new, _)| (entries, is_new));
        Outcome {
            name: self.name.clone(),
            result: result.and_then(|result| written.map(|()| result)),
            is_known,
        }
    }

    /// Writes an answer to the cache, if it is new; says how many entries it has, whether it is new, and for how
    /// long it is used.
    fn write(&mut self, answer: Answer) -> Result<(usize, bool, Duration), String> {
        let every = self.fetched.every.unwrap_or(EVERY);
        let (list, version, wait) = match answer {
            Answer::Same => return Ok((self.status.entries, false, every)),
            Answer::List(list, version) => (list, version, every),
            Answer::Addresses(list, ttl) => (list, None, ttl),
        };
        self.status.version = version;
        let path = self.cache.join(&self.key);
        // Plain lines; a text of a million is formatted where it is needed.
        let what = self.fetched.request.describe();
        let text = format_args!("# {what}\n{}", list.lines());
        let is_new = !file::holds(&path, Accept::InPlace, Limit::LIST, &text);
        if is_new && let Err(error) = file::replace_with(&path, 0o644, |file| file.write_fmt(text))
        {
            self.status.forget_version();
            return Err(format!("cannot write to the cache: {error}"));
        }
        Ok((list.len(), is_new, wait))
    }
}
