//! `dfw fetch --daemon`: fetches each source when it is due.
//!
//! Names and lists have a thread each: a server that takes minutes delays no name. What is to be fetched is read
//! from files that guard or people write, and read again when they change.

use std::path::Path;
use std::time::Duration;

use crate::policy::Request;

use super::watch::Watch;
use super::{Fetcher, Outcome, RETRY, Requests, next_due};

/// How long it waits at most: the clock may be set.
const LONGEST: Duration = Duration::from_mins(1);
/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(500);

/// A daemon without rights.
pub struct Daemon<'a> {
    /// What it writes to.
    pub cache: &'a Path,
    /// The file or folder that says what to fetch.
    pub path: &'a Path,
    /// Reads that.
    pub read: &'a (dyn Fn() -> Result<Requests, String> + Sync),
    /// Reports what became of a source.
    pub report: &'a (dyn Fn(Outcome) + Sync),
    /// Reports what concerns all sources.
    pub warn: &'a (dyn Fn(&str) + Sync),
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

    /// Reports a failure that is another one than before; of both threads, one does.
    fn warn_once(&self, kind: Kind, known: &mut Option<String>, error: String) {
        if kind == Kind::Names && known.as_ref() != Some(&error) {
            (self.warn)(&error);
        }
        *known = Some(error);
    }
}
