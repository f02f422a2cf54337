//! What a host remembers of its site, and which heads it takes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bundle::moment::Moment;
use crate::bundle::{Digest, Head};

/// How much a number may grow at once: somebody who has a key for a day must not use up all numbers.
const LEAP: u64 = 1_000_000;
/// How far the clocks of this host and of the machine that signs may be apart.
const SKEW: Duration = Duration::from_mins(5);
/// How often a generation is tried that was neither confirmed nor proved to cut the host off.
pub(in crate::guard) const TRIES: u32 = 3;

/// What is kept over restarts and reboots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard) struct Saved {
    /// What was accepted last.
    pub(in crate::guard) floor: Option<Floor>,
    /// What was confirmed last.
    pub(in crate::guard) in_force: Option<Generation>,
    /// A trial, written before the rules change.
    pub(in crate::guard) trial: Option<Trial>,
    /// The generation that was tried last and rolled back.
    pub(in crate::guard) undone: Option<Undone>,
    /// The number of the roll-out that was accepted last: an older one does not count, as it may have been stopped.
    #[serde(default)]
    pub(in crate::guard) rollout: u64,
}

/// A generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard) struct Generation {
    pub(in crate::guard) number: u64,
    /// The digest of its manifest.
    pub(in crate::guard) manifest: Digest,
}

/// The numbers below which nothing is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard) struct Floor {
    /// The keys that were trusted. The numbers do not count once one of them is not: it may have leaked.
    pub(in crate::guard) keys: BTreeSet<Digest>,
    pub(in crate::guard) generation: Generation,
    pub(in crate::guard) serial: u64,
    pub(in crate::guard) created: Moment,
    pub(in crate::guard) expires: Moment,
}

/// A generation that is in force until it is confirmed or rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard) struct Trial {
    /// The boot, by the kernel's name for it.
    pub(in crate::guard) boot: String,
    /// When it is rolled back, in milliseconds since boot (`CLOCK_BOOTTIME`).
    pub(in crate::guard) deadline: u64,
    pub(in crate::guard) serial: u64,
    pub(in crate::guard) generation: Generation,
    /// What was in force before.
    pub(in crate::guard) former: Option<Generation>,
}

/// A generation that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard) struct Undone {
    pub(in crate::guard) manifest: Digest,
    /// The number of the head with which it was tried.
    pub(in crate::guard) serial: u64,
    pub(in crate::guard) reason: Reason,
    pub(in crate::guard) tries: u32,
}

/// Why a generation was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::guard) enum Reason {
    /// Nothing came from the server through its rules, twice, and it is reached without them.
    Reverted,
    /// The same once: it is tried once more, as the server may have been down.
    Suspected,
    /// Anything else: the server cannot be reached without them, either, it has answered through them, or guard ended
    /// before that was known.
    Undecided,
}

/// What is to be done with a head that may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Next {
    /// Nothing: its generation is in force.
    Nothing,
    /// Its generation was rolled back, and is not tried again.
    Held(Reason),
    /// Its generation is to be tested and tried.
    Try,
}

/// Reasons why a head is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(in crate::guard) enum Denied {
    /// The clock of this host or of the one that signs is wrong.
    #[error("a clock is wrong: this host has {now}, and a head was made at {created}")]
    Clock { now: Moment, created: Moment },
    /// The server has an older head or generation than it had before.
    #[error(
        "the server is behind: serial {serial}, generation {generation}; this host has seen serial {seen}, generation {least}"
    )]
    Behind {
        serial: u64,
        generation: u64,
        seen: u64,
        least: u64,
    },
    /// Two heads have one number.
    #[error("two heads have the serial {0}")]
    SerialTwice(u64),
    /// Two manifests have one number.
    #[error("two manifests have the generation {0}")]
    GenerationTwice(u64),
    /// A number grew too much.
    #[error("the {0} grew by more than {LEAP}")]
    Leap(&'static str),
    /// The head has expired.
    #[error("the head expired at {0}")]
    Expired(Moment),
}

impl Saved {
    /// Returns the numbers below which nothing is accepted; `None` if there are none, or not with these keys.
    pub(in crate::guard) fn floor(&self, keys: &BTreeSet<Digest>) -> Option<&Floor> {
        let floor = self.floor.as_ref();
        floor.filter(|floor| floor.keys.is_subset(keys))
    }

    /// Returns what is to be done with a head whose signature is right.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(in crate::guard) fn check(
        &self,
        head: &Head,
        keys: &BTreeSet<Digest>,
        now: Moment,
    ) -> Result<Next, Denied> {
        let floor = self.floor(keys);
        let made = floor.map_or(head.created, |floor| floor.created.max(head.created));
        if now.after(SKEW).is_none_or(|latest| latest < made) {
            return Err(Denied::Clock { now, created: made });
        }
        if let Some(floor) = floor {
            check_numbers(floor, head)?;
        }
        if head.check_time(now).is_err() {
            return Err(Denied::Expired(head.expires));
        }
        if self
            .in_force
            .is_some_and(|known| known.manifest == head.manifest)
        {
            return Ok(Next::Nothing);
        }
        let undone = self.undone.as_ref();
        let undone = undone.filter(|undone| undone.manifest == head.manifest);
        Ok(match undone {
            Some(undone) if undone.is_final(head.serial) => Next::Held(undone.reason),
            _ => Next::Try,
        })
    }

    /// Raises the numbers to those of a head that was checked; returns whether they are other ones now.
    pub(in crate::guard) fn accept(&mut self, head: &Head, keys: &BTreeSet<Digest>) -> bool {
        let floor = Floor {
            keys: keys.clone(),
            generation: Generation::of(head),
            serial: head.serial,
            created: head.created,
            expires: head.expires,
        };
        let is_new = self.floor.as_ref() != Some(&floor);
        if self.floor(keys).is_none() {
            self.rollout = 0;
        }
        self.floor = Some(floor);
        is_new
    }

    /// Returns whether nothing came from the server through the rules of a generation when it was tried last.
    pub(super) fn suspects(&self, manifest: &Digest) -> bool {
        let undone = self.undone.as_ref();
        undone.is_some_and(|undone| {
            undone.manifest == *manifest && undone.reason == Reason::Suspected
        })
    }

    /// Notes that a generation was rolled back.
    pub(super) fn undo(&mut self, manifest: Digest, serial: u64, reason: Reason) {
        let known = self.undone.as_ref();
        let known = known.filter(|known| (known.manifest, known.serial) == (manifest, serial));
        let tries = known.map_or(0, |known| known.tries).saturating_add(1);
        self.undone = Some(Undone {
            manifest,
            serial,
            reason,
            tries,
        });
    }
}

impl Generation {
    pub(in crate::guard) fn of(head: &Head) -> Self {
        Self {
            number: head.generation,
            manifest: head.manifest,
        }
    }
}

impl Undone {
    /// Returns whether it is not tried again with a head of this number.
    fn is_final(&self, serial: u64) -> bool {
        match self.reason {
            Reason::Reverted => true,
            Reason::Suspected => false,
            Reason::Undecided => self.tries >= TRIES && serial <= self.serial,
        }
    }
}

impl Denied {
    /// Returns the state that a host reports.
    pub(in crate::guard) fn state(self) -> &'static str {
        match self {
            Self::Behind { .. } => "store-behind",
            Self::Expired(_) => "stale",
            _ => "refused",
        }
    }
}

fn check_numbers(floor: &Floor, head: &Head) -> Result<(), Denied> {
    let least = floor.generation.number;
    if head.serial < floor.serial || head.generation < least {
        return Err(Denied::Behind {
            serial: head.serial,
            generation: head.generation,
            seen: floor.serial,
            least,
        });
    }
    let is_known = head.manifest == floor.generation.manifest;
    if head.generation == least && !is_known {
        return Err(Denied::GenerationTwice(head.generation));
    }
    let is_same = is_known && (head.created, head.expires) == (floor.created, floor.expires);
    if head.serial == floor.serial && !is_same {
        return Err(Denied::SerialTwice(head.serial));
    }
    for (name, number, floor) in [
        ("serial", head.serial, floor.serial),
        ("generation", head.generation, least),
    ] {
        if number - floor > LEAP {
            return Err(Denied::Leap(name));
        }
    }
    Ok(())
}
