//! What a host says of itself in the store.

use std::time::Duration;

use serde::Deserialize;

use crate::bundle::Digest;
use crate::bundle::word::Word;
use crate::etcd::Found;
use crate::untrusted::clean_to;

/// The most bytes of a status.
pub(super) const SIZE: usize = 4 << 10;
/// The state of a host whose status cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";
/// The longest text of a host, in characters.
const TEXT: usize = 200;
/// How old the last beat of a host may be: it beats each four to six minutes. A lease alone proves nothing.
pub const BEAT: Duration = Duration::from_mins(12);

/// A host by its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: Word,
    /// The version of dfw.
    pub version: String,
    /// When it said this, in seconds since 1970 by its own clock.
    pub at: u64,
    /// The state, as `dfw status` says it.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// The manifest that the state is about.
    pub about: Option<Digest>,
    /// The generation in force.
    pub generation: Option<u64>,
    /// Its manifest.
    pub manifest: Option<Digest>,
    /// The highest generation that it has accepted.
    pub accepted: Option<u64>,
    /// The highest head that it has accepted.
    pub serial: Option<u64>,
    /// Whether the last head has expired.
    pub is_stale: bool,
    /// How often other programs changed the rules, and guard put them back.
    pub restored: u64,
    /// Whether guard fails to bring the rules into force.
    pub is_failing: bool,
}

/// The text of a status.
#[derive(Deserialize)]
struct Status {
    format: String,
    #[serde(default)]
    dfw: String,
    #[serde(default)]
    at: u64,
    guard: Option<Guard>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Guard {
    state: String,
    reason: Option<String>,
    about: Option<About>,
    generation: Option<u64>,
    manifest: Option<Digest>,
    accepted: Option<u64>,
    serial: Option<u64>,
    stale: bool,
    counts: Counts,
}

#[derive(Deserialize)]
struct About {
    manifest: Digest,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    restored: u64,
    failing: bool,
}

impl Host {
    /// Reads a status, whose key says which host wrote it; `None` if the key is that of no host. A host whose status
    /// cannot be read is one, too: it is not as if it were not there.
    #[must_use]
    pub fn read(found: &Found, prefix: &str) -> Option<Self> {
        let name = found.key.strip_prefix(prefix)?.strip_suffix("/status")?;
        let name: Word = name.parse().ok()?;
        if found.value.len() > SIZE {
            let kib = SIZE >> 10;
            return Some(Self::unreadable(
                name,
                format!("it has more than {kib} KiB"),
            ));
        }
        let status = serde_json::from_slice::<Status>(&found.value).ok();
        let status = status.filter(|status| status.format == "dfw/v1/host-status");
        let Some(status) = status else {
            return Some(Self::unreadable(name, "it is no status".to_owned()));
        };
        let is_known = status.guard.is_some();
        let guard = status.guard.unwrap_or_default();
        let text = |text: &str| clean_to(text, TEXT);
        Some(Self {
            name,
            version: text(&status.dfw),
            at: status.at,
            state: if is_known {
                text(&guard.state)
            } else {
                "no-guard".to_owned()
            },
            reason: guard.reason.as_deref().map(text),
            about: guard.about.map(|about| about.manifest),
            generation: guard.generation,
            manifest: guard.manifest,
            accepted: guard.accepted,
            serial: guard.serial,
            is_stale: guard.stale,
            restored: guard.counts.restored,
            is_failing: guard.counts.failing,
        })
    }

    /// Returns a host whose status cannot be read, for this reason.
    fn unreadable(name: Word, reason: String) -> Self {
        Self {
            name,
            version: String::new(),
            at: 0,
            state: UNREADABLE.to_owned(),
            reason: Some(reason),
            about: None,
            generation: None,
            manifest: None,
            accepted: None,
            serial: None,
            is_stale: false,
            restored: 0,
            is_failing: false,
        }
    }

    /// Returns whether its status cannot be read.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.state == UNREADABLE
    }

    /// Returns whether it has said something lately; `now` is in seconds since 1970.
    #[must_use]
    pub fn is_live(&self, now: u64) -> bool {
        !self.is_unreadable() && now.saturating_sub(self.at) <= BEAT.as_secs()
    }

    /// Returns whether a generation is in force and confirmed.
    #[must_use]
    pub fn has(&self, manifest: &Digest) -> bool {
        self.manifest.as_ref() == Some(manifest) && !self.is_failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &str, value: &str) -> Found {
        Found {
            key: key.to_owned(),
            value: value.as_bytes().to_vec(),
            changed: 1,
            is_leased: true,
        }
    }

    #[test]
    fn a_status_is_bounded_and_cleaned() {
        let status = |state: &str| {
            format!(
                r#"{{"format":"dfw/v1/host-status","at":100,"dfw":"0.1.0","guard":{{"state":"{state}","generation":3}}}}"#
            )
        };
        let read = |key: &str, value: &str| Host::read(&found(key, value), "/p/hosts/");
        let host = read("/p/hosts/web-1/status", &status("in-force")).unwrap();
        assert_eq!((host.name.as_str(), host.generation), ("web-1", Some(3)));
        assert!(host.is_live(100 + 12 * 60) && !host.is_live(101 + 12 * 60));
        let hostile = read("/p/hosts/web-1/status", &status(r"a\u001b[8m")).unwrap();
        assert!(!hostile.state.contains('\u{1b}'));
        for wrong in [
            "/p/hosts/Web/status",
            "/p/hosts/web-1",
            "/p/hosts/a/b/status",
        ] {
            assert_eq!(read(wrong, &status("in-force")), None, "{wrong}");
        }
        for (wrong, reason) in [
            ("{}", "no status"),
            ("x", "no status"),
            (r#"{"format":"dfw/v9/host-status"}"#, "no status"),
            (&status(&"x".repeat(4096)), "more than 4 KiB"),
        ] {
            let host = read("/p/hosts/a/status", wrong).unwrap();
            assert!(host.is_unreadable() && !host.is_live(100), "{wrong}");
            assert!(host.reason.unwrap().contains(reason), "{wrong}");
        }
        let silent = read(
            "/p/hosts/a/status",
            r#"{"format":"dfw/v1/host-status","guard":null}"#,
        );
        assert_eq!(silent.unwrap().state, "no-guard");
    }
}
