//! Enforces the desired ruleset: proposes, commits, and restores the table when another program modified it.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::kernel::{self, COMMITS, Claim, Commit, Kernel, attempts, unconfirmed};
use crate::nftables::notice::Modifier;
use crate::ruleset::Ruleset;
use crate::untrusted;

use super::due::Backoff;
use super::error::Error;
use super::feeds::event::Event;
use super::feeds::feed::{Feed, Polled};
use super::feeds::table::Monitor;
use super::record::{self, Repair};

/// The delay before a restore when the table is modified repeatedly, at first and at most. The first few
/// restores are immediate.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
const AT_ONCE: u32 = 8;
/// How often notifications are read before the table is looked at.
const TURNS: u32 = 32;
/// After this long without a modification the delay is reset.
const CALM: Duration = Duration::from_secs(10);

/// dfw's table and its monitor.
pub(super) struct Enforcement {
    kernel: Kernel,
    /// Whether the next installation must replace it.
    replace: bool,
    /// Whether this process has brought it into force.
    held: bool,
    /// `None` while guard itself changes it.
    monitor: Option<Monitor>,
    /// The ruleset that was in force when the monitor was opened, until something is heard of the table.
    in_force: Option<Rc<Ruleset>>,
    pause: Backoff,
    in_a_row: u32,
    /// The time of the last modification.
    stirred: Option<Instant>,
    /// The first process that modified the table since it was in force, and the time of the
    /// notification.
    modifier: Option<(Option<Modifier>, Instant)>,
}

/// The result of enforcing a ruleset.
#[derive(Debug)]
pub(super) enum Change {
    Nothing,
    /// Other rules are in force now.
    Made,
    /// The table was restored.
    PutBack(Repair),
}

/// How a ruleset came into force.
struct Brought {
    /// Whether anything was changed.
    changed: bool,
    /// Whether there was no table.
    gone: bool,
    /// The generation since which it is in force; `None` if others changed rulesets meanwhile.
    generation: Option<u32>,
}

impl Enforcement {
    pub(super) fn open(own: bool) -> Result<(Self, Claim), Error> {
        let kernel = Kernel::open()?;
        let claim = if own { kernel.claim()? } else { Claim::Unknown };
        let enforcement = Self {
            kernel,
            replace: claim == Claim::Plain,
            held: false,
            monitor: Some(Monitor::open()?),
            in_force: None,
            pause: Backoff::new(PAUSE.0, PAUSE.1),
            in_a_row: 0,
            stirred: None,
            modifier: None,
        };
        Ok((enforcement, claim))
    }

    /// Notes a modification; returns the delay before the restore.
    pub(super) fn note_modifier(&mut self, modifier: Option<Modifier>, now: Instant) -> Duration {
        self.modifier.get_or_insert((modifier, now));
        self.pause(now)
    }

    /// Returns the delay, which grows while modifications continue.
    fn pause(&mut self, now: Instant) -> Duration {
        let calm = self
            .stirred
            .replace(now)
            .is_none_or(|last| now.duration_since(last) > CALM);
        if calm {
            self.pause.reset();
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row <= AT_ONCE {
            Duration::ZERO
        } else {
            self.pause.next()
        }
    }

    /// Reads pending notifications of modifications: all, or so many that nothing is known of the table.
    fn hear(&mut self) -> Result<(), Error> {
        let mut events = Vec::new();
        let now = Instant::now();
        let mut turns = 0..TURNS;
        while self.read(&mut events)? {
            if turns.next().is_none() {
                self.in_force = None;
                break;
            }
        }
        for event in events {
            if let Event::Table(modifier) = event {
                self.modifier.get_or_insert((modifier, now));
            }
        }
        Ok(())
    }

    /// Reads some pending notifications; returns whether there may be more.
    fn read(&mut self, events: &mut Vec<Event>) -> io::Result<bool> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(false);
        };
        let before = events.len();
        let are_more = monitor.read(events)?;
        // What the monitor reports is a modification, or that some were lost.
        if events.len() > before {
            self.in_force = None;
        }
        Ok(are_more)
    }

    /// Brings a ruleset into force; `known` says that it was in force before. Returns the change, and
    /// the delay before another check if other programs committed meanwhile.
    ///
    /// The table is not read if this very ruleset was in force when it was read last, and nobody has modified it since:
    /// most containers start and stop without a change of rules.
    pub(super) fn enforce(
        &mut self,
        ruleset: &Rc<Ruleset>,
        stamp: impl Fn() -> String,
        known: bool,
    ) -> Result<(Change, Option<Duration>), Error> {
        self.hear()?;
        let is_same = |known: &Rc<Ruleset>| Rc::ptr_eq(known, ruleset);
        if self.modifier.is_none() && self.in_force.as_ref().is_some_and(is_same) {
            return Ok((Change::Nothing, None));
        }
        // A subscriber slows down a large transaction.
        self.ignore();
        let began = Instant::now();
        let done = self.bring(ruleset, stamp);
        self.monitor = Some(Monitor::open()?);
        let Brought {
            changed,
            gone,
            generation,
        } = done?;
        let known = known || self.held && gone;
        self.held = true;
        let now = Instant::now();
        // Commits of other programs while the monitor was closed. A restore is reported in any case.
        let overtaken = generation.is_none() || self.kernel.generation().ok() != generation;
        self.in_force = (!overtaken).then(|| Rc::clone(ruleset));
        let again = overtaken.then(|| self.pause(now));
        let mut modifier = self.modifier.take();
        if !changed {
            return Ok((Change::Nothing, again));
        }
        if known && modifier.is_none() {
            // Modified after the monitor was closed.
            modifier = Some((None, began));
        }
        let change = modifier.map_or(Change::Made, |(by, noticed)| {
            Change::PutBack(Repair {
                at: record::now(),
                by,
                took: now.duration_since(noticed),
            })
        });
        Ok((change, again))
    }

    /// Hears nothing of the table until the monitor is open again.
    fn ignore(&mut self) {
        self.monitor = None;
        self.in_force = None;
    }

    fn bring(
        &mut self,
        ruleset: &Ruleset,
        stamp: impl Fn() -> String,
    ) -> Result<Brought, kernel::Error> {
        // If the table is gone, no packet depends on it, and one transaction is faster.
        let gone = self.modifier.is_some() && !self.is_there()?;
        if self.replace || gone {
            let moment = self.kernel.generation()?;
            let generation = match self.kernel.replace(ruleset, &stamp(), moment)? {
                Commit::InForce { generation } => generation,
                Commit::Overtaken => {
                    self.kernel.replace(ruleset, &stamp(), None)?;
                    None
                }
            };
            self.replace = false;
            Ok(Brought {
                changed: true,
                gone,
                generation,
            })
        } else {
            self.commit(ruleset, stamp)
        }
    }

    /// Proposes and commits; retries when other programs committed meanwhile.
    fn commit(
        &self,
        ruleset: &Ruleset,
        stamp: impl Fn() -> String,
    ) -> Result<Brought, kernel::Error> {
        for attempt in attempts(COMMITS) {
            let survey = self.kernel.try_survey(None)?;
            let proposal = self.kernel.propose(survey.as_ref(), ruleset)?;
            let brought = |changed, generation| Brought {
                changed,
                gone: survey.as_ref().is_some_and(|s| s.installed.is_none()),
                generation,
            };
            if proposal.is_empty() {
                return Ok(brought(false, proposal.generation()));
            }
            if let Commit::InForce { generation } = proposal.commit(&stamp(), attempt)? {
                return Ok(brought(true, generation));
            }
        }
        Err(kernel::Error::Busy)
    }

    /// Removes the mark of rules that are not confirmed from the stamp of the table.
    pub(super) fn confirm(&mut self) -> Result<(), Error> {
        // This change is guard's own.
        self.ignore();
        let renamed = self
            .kernel
            .rename(|stamp| unconfirmed::marked(stamp).map(|(_, plain)| plain));
        self.monitor = Some(Monitor::open()?);
        renamed?;
        Ok(())
    }

    /// Removes the table if its rules are not confirmed.
    pub(super) fn remove_unconfirmed(&mut self) -> Result<(), Error> {
        self.ignore();
        let removed = self.kernel.glimpse().and_then(|installed| {
            let stamp = installed.and_then(|installed| installed.comment);
            if stamp.as_deref().and_then(unconfirmed::marked).is_some() {
                self.kernel.remove(None)?;
            }
            Ok(())
        });
        self.monitor = Some(Monitor::open()?);
        self.modifier = None;
        self.held = false;
        Ok(removed?)
    }

    /// Returns whether the table exists, also while other programs keep changing rulesets.
    pub(super) fn is_there(&self) -> Result<bool, kernel::Error> {
        let installed = match self.kernel.outline() {
            Err(kernel::Error::Busy) => self.kernel.glimpse()?,
            outline => outline?.installed,
        };
        Ok(installed.is_some())
    }
}

impl Feed for Enforcement {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        self.monitor.descriptors()
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        self.read(events).map(drop)
    }
}

/// Returns the stamp of the table: version, time and policies.
pub(super) fn stamp(path: &str, mark: &str) -> String {
    let path = path.replace(
        |c: char| matches!(c, '"' | '\\') || untrusted::is_deceptive(c),
        "?",
    );
    let now = record::now();
    let mut stamp = format!(
        "dfw {}{mark} at {now} from {path} (guard)",
        env!("CARGO_PKG_VERSION")
    );
    stamp.truncate(stamp.floor_char_boundary(crate::ruleset::check::COMMENT_MAX));
    stamp
}
