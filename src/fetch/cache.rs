//! What the fetcher remembers of each source, in a file beside the list. Others read it for people only: it decides
//! nothing.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::file::{self, Accept, Limit};

/// The longest time between two attempts, whatever a damaged file says: that of the greatest `every`.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// What is remembered of a source.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// When the list was fetched, or found unchanged: seconds since 1970.
    pub fetched: Option<u64>,
    /// How many entries it has.
    pub(super) entries: usize,
    /// From when on it is to be fetched again.
    due: u64,
    /// Why it could not be fetched the last time.
    pub failure: Option<String>,
    /// How often it could not.
    pub failures: u64,
    /// Which version of the list it is.
    pub(super) version: Option<Version>,
}

/// Which version of a list a server has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// Its `ETag`.
    pub(super) etag: Option<String>,
    /// Its `Last-Modified`.
    pub(super) modified: Option<String>,
}

impl Status {
    /// Reads what is remembered; nothing if that is damaged.
    #[must_use]
    pub fn read(cache: &Path, key: &str) -> Self {
        let read = file::read(&cache.join(name(key)), Accept::InPlace, Limit::POLICY);
        let status = read
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        status.unwrap_or_default()
    }

    /// Returns the age of the list; `None` if there is none.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let age = seconds(now).saturating_sub(self.fetched?);
        Some(Duration::from_secs(age))
    }

    /// Writes it.
    pub(super) fn write(&self, cache: &Path, key: &str) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        file::replace(&cache.join(name(key)), 0o644, &bytes)
            .map_err(|error| format!("cannot write to the cache: {error}"))
    }

    /// Returns whether it is to be fetched again.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        self.wait(now).is_zero()
    }

    /// Returns in how long it is to be fetched again. A clock that was set back does not stop it.
    pub(super) fn wait(&self, now: SystemTime) -> Duration {
        let now = seconds(now);
        if self.fetched.is_some_and(|fetched| fetched > now) {
            return Duration::ZERO;
        }
        Duration::from_secs(self.due.saturating_sub(now)).min(LONGEST)
    }

    /// Forgets the version of a list that is not in the cache any more.
    pub(super) fn forget_version(&mut self) {
        self.version = None;
    }

    /// Notes that it was fetched, and is to be fetched again after a while; returns whether it failed before.
    pub(super) fn succeed(&mut self, now: SystemTime, entries: usize, wait: Duration) -> bool {
        self.fetched = Some(seconds(now));
        self.entries = entries;
        self.due = seconds(now).saturating_add(wait.as_secs());
        self.failure.take().is_some()
    }

    /// Notes that it was not fetched; returns whether for the same reason as before.
    pub(super) fn fail(&mut self, now: SystemTime, reason: &str, wait: Duration) -> bool {
        let is_known = self.failure.as_deref() == Some(reason);
        self.failure = Some(reason.to_owned());
        self.failures = self.failures.saturating_add(1);
        self.due = seconds(now).saturating_add(wait.as_secs());
        is_known
    }
}

/// Returns the seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns the name of the file in the cache.
#[must_use]
pub fn name(key: &str) -> String {
    format!("status-{key}.json")
}
