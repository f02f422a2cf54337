//! How far a site is, for status and metrics, and what the fetcher and the store are told.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::bundle::{Address, Digest};
use crate::fetch::site::{self, Wanted};
use crate::file;
use crate::guard::log::Level;
use crate::store::bundle::now;
use crate::untrusted::clean_to;

use super::machine::{Candidate, Phase};
use super::state::Generation;
use super::{EVERY, ONCE_MORE, REASON, Reason, Site};

/// What is known of a site.
#[derive(Debug, Clone)]
pub(in crate::guard) struct Report {
    address: Address,
    /// The state, as the table in the documentation has it.
    pub(in crate::guard) state: &'static str,
    reason: Option<String>,
    /// The generation in force and its manifest.
    pub(in crate::guard) generation: Option<u64>,
    pub(in crate::guard) manifest: Option<Digest>,
    /// The generation that the state is about, signed or not.
    about: Option<Generation>,
    /// The highest numbers that were accepted.
    pub(in crate::guard) serial: Option<u64>,
    accepted: Option<u64>,
    expires: Option<String>,
    /// Whether the last head that was accepted has expired.
    pub(in crate::guard) is_stale: bool,
    /// How long ago the fetcher had a head; `None` if never.
    age: Option<Duration>,
    failure: Option<String>,
    pub(in crate::guard) failures: u64,
}

impl Site {
    /// Returns how far the site is.
    pub(in crate::guard) fn report(&self) -> Report {
        let saved = &self.machine.saved;
        let floor = saved.floor.as_ref();
        let is_stale = floor.is_some_and(|floor| floor.expires <= now());
        let undone = saved.undone.as_ref().filter(|undone| {
            floor.is_some_and(|floor| floor.generation.manifest == undone.manifest)
        });
        let (state, reason) = match self.machine.phase() {
            Phase::Applying(_) | Phase::Trial(_) => ("trial", None),
            Phase::RollingBack(_) | Phase::Back(_) | Phase::Recovering => ("back", None),
            phase => match (&self.denied, undone) {
                (Some((state, reason)), _) => (*state, Some(reason.clone())),
                (None, _) if matches!(phase, Phase::Waiting(_)) => ("waiting", None),
                (None, Some(undone)) => match undone.reason {
                    Reason::Reverted => ("reverted", None),
                    Reason::Suspected => ("back", None),
                    Reason::Undecided => ("undecided", None),
                },
                (None, None) if is_stale => ("stale", None),
                (None, None) if saved.in_force.is_none() => {
                    let is_silent = self.status.fetched.is_none() && self.status.failures == 0;
                    let text = "nothing was fetched yet; is dfw-fetch.service running?";
                    ("nothing", is_silent.then(|| text.to_owned()))
                }
                (None, None) => ("in-force", None),
            },
        };
        let fetched = self
            .status
            .fetched
            .map(|at| UNIX_EPOCH + Duration::from_secs(at));
        let age = fetched.and_then(|at| SystemTime::now().duration_since(at).ok());
        let failure = self.status.failure.as_deref();
        let candidate = match self.machine.phase() {
            Phase::Idle => None,
            Phase::Recovering => saved.trial.as_ref().map(|trial| trial.generation),
            Phase::Waiting(candidate)
            | Phase::Applying(candidate)
            | Phase::Trial(candidate)
            | Phase::RollingBack(candidate)
            | Phase::Back(candidate) => Some(candidate.generation),
        };
        Report {
            address: self.address.clone(),
            state,
            reason,
            about: candidate.or(self.about),
            generation: saved.in_force.map(|known| known.number),
            manifest: saved.in_force.map(|known| known.manifest),
            serial: floor.map(|floor| floor.serial),
            accepted: floor.map(|floor| floor.generation.number),
            expires: floor.map(|floor| floor.expires.to_string()),
            is_stale,
            age,
            failure: failure.map(|failure| clean_to(failure, REASON)),
            failures: self.status.failures,
        }
    }

    /// Tells the fetcher what is wanted.
    pub(super) fn ask(&mut self) {
        let saved = &self.machine.saved;
        let wanted = Wanted {
            address: self.address.clone(),
            contents: self.contents.clone(),
            host: self.location.trust.host.clone(),
            keep: Some(saved.in_force.iter().map(|known| known.manifest).collect()),
            probe: self.probe.as_ref().map(|(probe, _)| probe.clone()),
            // The rules in force are not on trial: it is enough that the server is there.
            connections: match self.machine.phase() {
                Phase::Waiting(_) => 1,
                _ => site::CONNECTIONS,
            },
        };
        if let Err(error) = wanted.write(&self.wanted) {
            let text = format!("cannot tell `dfw fetch` what to fetch: {error}");
            self.log.say(Level::Warning, &text);
        }
    }

    /// Says how far this host is, for the store: in a file beside that which says what is wanted.
    /// Counts that grow are said once a minute.
    pub(in crate::guard) fn tell(&mut self, counts: Value, now: Instant) {
        if !self.address.is_etcd() {
            return;
        }
        let mut status = self.report().to_store();
        let known = self.told.as_ref();
        if known.is_some_and(|(known, at)| *known == status && now < *at + EVERY) {
            return;
        }
        let state = status.clone();
        status["counts"] = counts;
        let path = self.wanted.with_file_name(site::REPORT);
        match file::replace(&path, 0o644, status.to_string().as_bytes()) {
            Ok(()) => self.told = Some((state, now)),
            Err(error) => {
                let text = format!("cannot tell `dfw fetch` the state of this host: {error}");
                self.log.say(Level::Warning, &text);
            }
        }
    }

    /// Says what became of a trial that is over.
    pub(super) fn close(&mut self, candidate: Candidate, failure: Option<String>, now: Instant) {
        let number = candidate.generation.number;
        let undone = self.machine.saved.undone.as_ref();
        let (state, text) = match undone.map(|undone| undone.reason) {
            Some(Reason::Reverted) => (
                "reverted",
                format!(
                    "generation {number} cuts this host off from the server: rolled back, and not tried again"
                ),
            ),
            Some(Reason::Suspected) => {
                self.held_until = Some(now + ONCE_MORE);
                let text = format!(
                    "generation {number} is rolled back, and tried once more: it cuts this host off from the server, or the server was down"
                );
                ("back", text)
            }
            _ => {
                self.held_until = Some(now + self.undecided.next());
                let failure = failure.or_else(|| self.failure.take());
                let failure = failure.unwrap_or_else(|| "its rules were not in force".to_owned());
                let text = format!(
                    "generation {number} is rolled back, and it is not known why the server could not be reached: {failure}"
                );
                ("undecided", text)
            }
        };
        self.log.say(Level::Error, &text);
        self.denied = Some((state, text));
    }
}

impl Report {
    /// Returns what a store is told of this host, without counts.
    pub(super) fn to_store(&self) -> Value {
        let generation = |generation: Generation| {
            let Generation { number, manifest } = generation;
            json!({"generation": number, "manifest": manifest})
        };
        json!({
            "state": self.state,
            "reason": self.reason,
            "about": self.about.map(generation),
            "generation": self.generation,
            "manifest": self.manifest,
            "accepted": self.accepted,
            "serial": self.serial,
            "expires": self.expires,
            "stale": self.is_stale,
        })
    }

    /// Returns the report for programs; the age is in seconds.
    pub(in crate::guard) fn document(&self) -> Value {
        json!({
            "address": self.address.to_string(),
            "state": self.state,
            "reason": self.reason,
            "generation": self.generation,
            "manifest": self.manifest.map(|digest| digest.to_string()),
            "serial": self.serial,
            "accepted": self.accepted,
            "expires": self.expires,
            "stale": self.is_stale,
            "age": self.age.map(|age| age.as_secs()),
            "failures": self.failures,
            "failure": self.failure,
        })
    }
}
