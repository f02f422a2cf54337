//! Fetching lists and names: the part that speaks to the network has no rights.
//!
//! It writes to its cache and nowhere else, and nobody trusts what is in there: policies are read with the bounds
//! of each list. A failure changes nothing in the cache.

mod cache;
mod names;
mod web;

pub mod rights;

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::file;
use crate::net::{AddressSet, Entry};
use crate::policy::{Fetched, Request, SourceName};

use cache::Status;
use names::Names;
use web::{Answer, Web};

/// How soon a failure is tried again: a name, and a list.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(5));

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
    /// Whether it failed before for the same reason.
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

    /// Fetches one source into the cache; `None` if it is not due.
    #[must_use]
    pub fn fetch(
        &self,
        cache: &Path,
        name: &SourceName,
        fetched: &Fetched,
        only_due: bool,
    ) -> Option<Outcome> {
        let key = fetched.request.key();
        let mut status = Status::read(cache, &key);
        let now = SystemTime::now();
        if only_due && !status.is_due(now) {
            return None;
        }
        let path = cache.join(&key);
        let former = file::read(&path, file::Accept::InPlace, file::Limit::LIST).ok();
        if former.is_none() {
            status.forget_version();
        }
        let answer = self.answer(&fetched.request, &status).and_then(|answer| {
            let list = match answer {
                Answer::Same => return Ok((status.entries, false)),
                Answer::List(list, version) => {
                    status.version = version;
                    list
                }
                Answer::Addresses(list, ttl) => {
                    status.wait = ttl;
                    list
                }
            };
            let text = text(&fetched.request, &list);
            let is_new = former.as_deref() != Some(text.as_bytes());
            if is_new && let Err(error) = file::replace(&path, 0o644, text.as_bytes()) {
                status.version = None;
                return Err(format!("cannot write to the cache: {error}"));
            }
            Ok((list.len(), is_new))
        });
        let is_name = matches!(fetched.request, Request::Name(_));
        let is_known = match &answer {
            Ok((entries, _)) => {
                let wait = fetched.every.unwrap_or(status.wait);
                status.succeed(now, *entries, wait);
                false
            }
            Err(reason) => status.fail(now, reason, if is_name { RETRY.0 } else { RETRY.1 }),
        };
        let written = status.write(cache, &key);
        Some(Outcome {
            name: name.clone(),
            result: answer.and_then(|result| written.map(|()| result)),
            is_known,
        })
    }

    fn answer(&self, request: &Request, status: &Status) -> Result<Answer, String> {
        match request {
            Request::Name(name) => {
                let (addresses, ttl) = self.names.addresses(name)?;
                let entries = addresses.into_iter().map(|address| match address {
                    IpAddr::V4(address) => Entry::V4(address.to_bits(), address.to_bits()),
                    IpAddr::V6(address) => Entry::V6(address.to_bits(), address.to_bits()),
                });
                Ok(Answer::Addresses(AddressSet::from_entries(entries), ttl))
            }
            Request::Url {
                url,
                format,
                allow_private,
            } => self
                .web
                .list(url, format, *allow_private, status.version.as_ref()),
        }
    }
}

/// The text of a list in the cache: plain lines.
fn text(request: &Request, list: &AddressSet) -> String {
    let mut text = format!("# {}\n", request.describe());
    for entry in list.iter() {
        text.push_str(&entry.to_string());
        text.push('\n');
    }
    text
}
