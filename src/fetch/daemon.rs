//! `dfw fetch --daemon`: fetches each source when it is due.
//!
//! Names and lists have a thread each: a server that takes minutes delays no name. What is to be fetched is read
//! from files that guard or people write, and read again when they change.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::policy::Request;

use super::site::{FOLDER, Site, WANTED, Wanted};
use super::store::{Credentials, Following};
use super::watch::Watch;
use super::{Fetcher, Outcome, RETRY, Requests, next_due};

/// How long it waits at most: the clock may be set.
const LONGEST: Duration = Duration::from_mins(1);
/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(500);

/// The longest time between two attempts to fetch a bundle, unless the server asks for more.
const SITE_RETRY: Duration = Duration::from_mins(15);

/// A daemon without rights.
pub struct Daemon<'a> {
    /// What it writes to.
    pub cache: &'a Path,
    /// The file or folder that says what to fetch.
    pub path: &'a Path,
    /// What this host shows to a store.
    pub credentials: &'a Credentials,
    /// Reads that.
    pub read: &'a (dyn Fn() -> Result<Requests, String> + Sync),
    /// Reports what became of a source.
    pub report: &'a (dyn Fn(Outcome) + Sync),
    /// Reports a new generation of a site.
    pub news: &'a (dyn Fn(u64) + Sync),
    /// Reports what concerns all sources.
    pub warn: &'a (dyn Fn(&str) + Sync),
}

/// Returns the wait after so many failures in a row.
fn backoff(wait: Duration, failures: u32) -> Duration {
    let doubled = wait.saturating_mul(1 << failures.saturating_sub(1).min(8));
    doubled.min(SITE_RETRY.max(wait))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Names,
    Lists,
}

impl Daemon<'_> {
    /// Fetches until it fails.
    ///
    /// # Errors
    /// What the system denies, in one sentence.
    pub fn run(&self) -> Result<(), String> {
        std::thread::scope(|scope| {
            let lists = std::thread::Builder::new().name("lists".to_owned());
            let lists = lists.spawn_scoped(scope, || match self.serve(Kind::Lists) {
                Ok(()) => {}
                // The service manager starts it again, with both.
                Err(error) => {
                    (self.warn)(&error);
                    std::process::exit(1);
                }
            });
            lists.map_err(|error| error.to_string())?;
            // Guard writes into the folder of the requests what site it follows, if it does.
            if !self.path.is_dir() {
                let site = std::thread::Builder::new().name("site".to_owned());
                let site = site.spawn_scoped(scope, || {
                    let Err(error) = self.follow_site();
                    (self.warn)(&error);
                    std::process::exit(1);
                });
                site.map_err(|error| error.to_string())?;
            }
            self.serve(Kind::Names)
        })
    }

    fn serve(&self, kind: Kind) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        let mut watch = Watch::new(self.path).map_err(failed)?;
        let mut requests = Requests::new();
        let mut failure = None;
        let mut has_changed = true;
        loop {
            watch.begin();
            if has_changed {
                match (self.read)() {
                    Ok(read) => {
                        failure = None;
                        requests = read;
                        requests.retain(|(_, fetched)| {
                            let is_name = matches!(fetched.request, Request::Name(_));
                            is_name == (kind == Kind::Names)
                        });
                    }
                    Err(error) => self.warn_once(kind, &mut failure, error),
                }
            }
            let mut shortest = SHORTEST;
            if next_due(self.cache, &requests).is_some_and(|wait| wait.is_zero()) {
                // Resolvers and certificates of the host may be other ones by now.
                match Fetcher::new() {
                    Ok(fetcher) => fetcher.fetch(self.cache, &requests, true, self.report),
                    Err(error) => {
                        shortest = RETRY.0;
                        self.warn_once(kind, &mut failure, error);
                    }
                }
            }
            let next = next_due(self.cache, &requests).unwrap_or(LONGEST);
            has_changed = watch.wait(next.clamp(shortest, LONGEST)).map_err(failed)?;
        }
    }

    /// Fetches the bundle of the site that guard follows, and answers its probes.
    fn follow_site(&self) -> Result<Infallible, String> {
        let path = self.path.with_file_name(WANTED);
        let mut watch = Watch::new(&path).map_err(|error| error.to_string())?;
        let (mut due, mut failures) = (Instant::now(), 0_u32);
        let (mut address, mut probe, mut failure) = (None, None, None);
        loop {
            watch.begin();
            match Wanted::read(&path) {
                Ok(Some(wanted)) => {
                    let site = Site {
                        cache: self.cache,
                        wanted: &wanted,
                    };
                    let has_folder = self.cache.join(FOLDER).is_dir();
                    if has_folder && wanted.address.is_etcd() {
                        address = None;
                        let following = Following {
                            cache: self.cache,
                            wanted: &path,
                            news: self.news,
                            warn: self.warn,
                        };
                        let done = self.credentials.follow(&following, &wanted.address);
                        if let Err(error) = done {
                            (self.warn)(&format!("{}: {error}", wanted.address));
                            watch.wait(LONGEST).map_err(|error| error.to_string())?;
                        }
                        continue;
                    }
                    // Without a folder of its own nothing can be fetched: this process may make none any more.
                    if !has_folder {
                        return Err("the cache has no folder for a site: starting again".to_owned());
                    }
                    if wanted.probe != probe {
                        probe.clone_from(&wanted.probe);
                        probe.as_ref().map_or(Ok(()), |probe| site.probe(probe))?;
                    }
                    if address.as_ref() != Some(&wanted.address) {
                        address = Some(wanted.address.clone());
                        due = Instant::now();
                    }
                    if due <= Instant::now() {
                        let (done, wait) = site.fetch();
                        failures = if done.is_ok() {
                            0
                        } else {
                            failures.saturating_add(1)
                        };
                        due = Instant::now() + backoff(wait, failures);
                        match done {
                            Ok((generation, is_new)) => {
                                failure = None;
                                if is_new {
                                    (self.news)(generation);
                                }
                            }
                            Err(error) => {
                                let text = format!("{}: {error}", wanted.address);
                                if failure.as_ref() != Some(&text) {
                                    (self.warn)(&text);
                                }
                                failure = Some(text);
                            }
                        }
                    }
                }
                Ok(None) => address = None,
                Err(error) => (self.warn)(&format!("{}: {error}", path.display())),
            }
            let wait = match address {
                Some(_) => due.saturating_duration_since(Instant::now()),
                None => LONGEST,
            };
            let wait = wait.min(LONGEST);
            watch.wait(wait).map_err(|error| error.to_string())?;
        }
    }

    /// Reports a failure that is another one than before; of both threads, one does.
    fn warn_once(&self, kind: Kind, known: &mut Option<String>, error: String) {
        if kind == Kind::Names && known.as_ref() != Some(&error) {
            (self.warn)(&error);
        }
        *known = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_row_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let waits = |wait, failures| backoff(Duration::from_secs(wait), failures).as_secs();
        assert_eq!(waits(60, 0), 60);
        assert_eq!(waits(60, 1), 60);
        assert_eq!(waits(60, 2), 120);
        assert_eq!(waits(60, 4), 480);
        for failures in [5, 9, 10, 1000, u32::MAX] {
            assert_eq!(waits(60, failures), 900, "{failures}");
        }
        // As a server has asked for.
        assert_eq!(waits(3600, 1), 3600);
        assert_eq!(waits(3600, 9), 3600);
    }
}
