//! What the fetcher remembers of each source, in a file beside the list. Others read it for people only: it decides
//! nothing.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::file::{self, Accept, Limit};
use crate::untrusted::clean_to;

/// The longest time between two attempts, whatever a damaged file says: that of the greatest `every`.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// The most bytes of what is remembered of a source: a reason of [`REASON`] characters and two texts of [`TAG`] bytes,
/// whatever JSON escapes in them, are less than 6 KiB. Guard keeps it for each source.
const SIZE: u64 = 16 << 10;
/// The longest reason of a failure, in characters: parts of it come from servers.
pub const REASON: usize = 300;
/// How many bytes of an `ETag` are remembered.
pub(super) const TAG: usize = 1024;

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
    /// Reads what is remembered; nothing but a failure that says so if that cannot be read.
    #[must_use]
    pub fn read(cache: &Path, key: &str) -> Self {
        let read = file::read(&cache.join(name(key)), Accept::InPlace, Limit::of(SIZE));
        let unread = |reason: &str| {
            let reason = format!("what the fetcher remembers of it cannot be read: {reason}");
            Self {
                failure: Some(clean_to(&reason, REASON)),
                ..Self::default()
            }
        };
        match read {
            Ok(bytes) => match serde_json::from_slice::<Self>(&bytes) {
                Ok(status) => status.bounded(),
                // The error may quote the file.
                Err(_) => unread("it is damaged"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => unread(&error.to_string()),
        }
    }

    /// Cleans and cuts the texts, which are not always those that were written here.
    fn bounded(mut self) -> Self {
        self.failure = self.failure.map(|reason| clean_to(&reason, REASON));
        self.version = self.version.map(|version| Version {
            etag: version.etag.filter(|text| text.len() <= TAG),
            modified: version.modified.filter(|text| text.len() <= TAG),
        });
        self
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
        let reason = Some(clean_to(reason, REASON));
        let is_known = self.failure == reason;
        self.failure = reason;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_texts_of_a_server_fit_and_are_read_again() {
        let cache = tempfile::tempdir().unwrap();
        let mut status = Status {
            fetched: Some(u64::MAX),
            entries: usize::MAX,
            failures: u64::MAX,
            version: Some(Version {
                etag: Some("\"".repeat(TAG)),
                modified: Some("\\".repeat(TAG)),
            }),
            ..Status::default()
        };
        for reason in ["\\".repeat(64 << 10), "\u{10348}".repeat(64 << 10)] {
            status.fail(SystemTime::now(), &reason, LONGEST);
            status.write(cache.path(), "a").unwrap();
            let read = Status::read(cache.path(), "a");
            assert_eq!(read.failure, status.failure);
            assert_eq!(
                (read.version, read.fetched),
                (status.version.clone(), status.fetched)
            );
            assert!(read.failure.unwrap().chars().count() <= REASON);
            // It is the same reason again, although it was cut.
            assert!(status.fail(SystemTime::now(), &reason, LONGEST));
        }
    }

    #[test]
    fn what_a_hostile_fetcher_writes_is_bounded() {
        let cache = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(cache.path().join(name("a")), text).unwrap();
            Status::read(cache.path(), "a")
        };
        let long = "\u{202e}\u{1b}[2J".repeat(1 << 10);
        let text = json!({"fetched": 7, "failures": 2, "failure": long}).to_string();
        let status = read(&text);
        let failure = status.failure.unwrap();
        assert_eq!((status.fetched, status.failures), (Some(7), 2));
        assert!(failure.chars().count() <= REASON, "{failure}");
        assert!(!failure.contains(['\u{202e}', '\u{1b}']), "{failure:?}");
        let long = "1".repeat(2 * TAG);
        let version = json!({"etag": long, "modified": "now"});
        let version = read(&json!({"version": version}).to_string())
            .version
            .unwrap();
        assert_eq!(
            (version.etag, version.modified.as_deref()),
            (None, Some("now"))
        );
        for (text, reason) in [
            (
                json!({"fetched": 7, "failure": "1".repeat(16 << 10)}).to_string(),
                "larger than 16 KiB",
            ),
            ("secret".to_owned(), "damaged"),
        ] {
            let status = read(&text);
            let failure = status.failure.unwrap();
            assert!(failure.contains("cannot be read"), "{failure}");
            assert!(failure.contains(reason), "{failure}");
            assert!(!failure.contains("secret"), "{failure}");
            assert_eq!((status.fetched, status.failures), (None, 0));
        }
        fs::remove_file(cache.path().join(name("a"))).unwrap();
        assert_eq!(Status::read(cache.path(), "a").failure, None);
    }
}
