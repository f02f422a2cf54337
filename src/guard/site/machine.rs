//! The state of a host that follows a site: what happens when, without doing it.
//!
//! | phase | leaves when |
//! |---|---|
//! | idle | a generation passed all checks and tests → waiting |
//! | waiting | the server answers under the old rules → applying |
//! | applying | the new rules are in force → trial; they cannot be → rolling back |
//! | trial | the server answers through the new rules → idle, confirmed; the time is over → rolling back |
//! | rolling back | the old rules are in force → back |
//! | back | the server answers, and nothing came from it in the trial → idle, *suspected*, and in the trial after that *reverted* |
//! | | anything else → idle, *undecided* |
//!
//! A trial is saved before the rules change. A guard that finds one rolls back: everything but a yes is a no.
//!
//! A server that is down looks like rules that cut off. So one trial proves nothing: a generation is reverted if twice in
//! a row the server is reached before, silent through its rules, and reached again after. Any answer through them,
//! such as a refused connection, proves that packets pass.

use std::time::Duration;

use super::state::{Generation, Reason, Saved, Trial};

/// How long a generation may take until the server has answered through its rules. With the way back it is a minute.
pub(in crate::guard) const TRIAL: Duration = Duration::from_secs(55);
/// How long that may take if it has failed before.
pub(in crate::guard) const SECOND: Duration = Duration::from_secs(30);

/// What is to be done next, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Action {
    /// Write the state; if that fails, nothing that follows is done ([`Machine::unsaved`]).
    Save,
    /// Ask whether the server can be reached.
    Probe,
    /// Bring the rules of the candidate into force.
    Apply,
    /// Keep its rules.
    Keep,
    /// Bring the former rules into force.
    RollBack,
}

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Probe {
    /// Each connection has brought a head.
    Reached,
    /// Something came from the server, but no head: packets pass in both directions.
    Answered,
    /// Nothing came from the server: the rules may be the reason.
    Silent,
    /// The fetcher does not answer, which says nothing about the rules.
    Unknown,
}

/// A generation that passed all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) struct Candidate {
    pub(in crate::guard) generation: Generation,
    /// The number of its head.
    pub(in crate::guard) serial: u64,
}

/// How far a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Phase {
    Idle,
    Waiting(Candidate),
    Applying(Candidate),
    Trial(Candidate),
    RollingBack(Candidate),
    Back(Candidate),
    /// An earlier guard ended in a trial, and its rules may be in force.
    Recovering,
}

/// The state and its changes.
#[derive(Debug)]
pub(in crate::guard) struct Machine {
    pub(in crate::guard) saved: Saved,
    phase: Phase,
    /// What the probes of the trial were.
    seen: Seen,
}

/// What the probes of a trial were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    silent: bool,
    answered: bool,
}

impl Machine {
    /// Takes up what was saved, in this boot. If its rules may be in force still, the phase is recovering until
    /// [`restored`](Self::restored).
    pub(in crate::guard) fn start(mut saved: Saved, boot: &str) -> Self {
        let mut phase = Phase::Idle;
        if let Some(trial) = &saved.trial {
            if trial.boot == boot {
                phase = Phase::Recovering;
            } else {
                let (manifest, serial) = (trial.generation.manifest, trial.serial);
                saved.undo(manifest, serial, Reason::Undecided);
                saved.trial = None;
            }
        }
        Self {
            saved,
            phase,
            seen: Seen::default(),
        }
    }

    pub(in crate::guard) fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns whether a candidate may be offered.
    pub(in crate::guard) fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Waiting(_))
    }

    /// Takes a candidate that passed all checks and tests.
    pub(in crate::guard) fn offer(&mut self, candidate: Candidate) -> Vec<Action> {
        if !self.is_free() || self.phase == Phase::Waiting(candidate) {
            return Vec::new();
        }
        self.phase = Phase::Waiting(candidate);
        vec![Action::Probe]
    }

    /// Drops a candidate that waits: the server has another one, or it does not pass any more.
    pub(in crate::guard) fn withdraw(&mut self) {
        if matches!(self.phase, Phase::Waiting(_)) {
            self.phase = Phase::Idle;
        }
    }

    /// Takes the answer to the last probe, or its absence.
    pub(in crate::guard) fn probed(
        &mut self,
        probe: Probe,
        now: Duration,
        boot: &str,
    ) -> Vec<Action> {
        let is_reached = probe == Probe::Reached;
        if matches!(self.phase, Phase::Trial(_)) {
            self.seen.silent |= probe == Probe::Silent;
            self.seen.answered |= matches!(probe, Probe::Reached | Probe::Answered);
        }
        match self.phase {
            Phase::Waiting(candidate) if is_reached => self.begin(candidate, now, boot),
            Phase::Trial(candidate) if self.is_over(now) => self.roll_back(candidate),
            Phase::Trial(candidate) if is_reached => self.confirm(candidate),
            Phase::Trial(_) => vec![Action::Probe],
            Phase::Back(candidate) => {
                let is_cut_off = is_reached && self.seen.silent && !self.seen.answered;
                let manifest = candidate.generation.manifest;
                let reason = if !is_cut_off {
                    Reason::Undecided
                } else if self.saved.suspects(&manifest) {
                    Reason::Reverted
                } else {
                    Reason::Suspected
                };
                self.close(candidate, reason)
            }
            _ => Vec::new(),
        }
    }

    /// Notes whether the rules of the candidate are in force.
    pub(in crate::guard) fn applied(&mut self, is_done: bool) -> Vec<Action> {
        match self.phase {
            Phase::Applying(candidate) if is_done => {
                self.phase = Phase::Trial(candidate);
                vec![Action::Probe]
            }
            Phase::Applying(candidate) => self.roll_back(candidate),
            _ => Vec::new(),
        }
    }

    /// Notes that the former rules are in force.
    pub(in crate::guard) fn restored(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::RollingBack(candidate) => {
                self.phase = Phase::Back(candidate);
                vec![Action::Probe]
            }
            Phase::Recovering => {
                self.phase = Phase::Idle;
                if let Some(trial) = self.saved.trial.take() {
                    let manifest = trial.generation.manifest;
                    self.saved.undo(manifest, trial.serial, Reason::Undecided);
                }
                vec![Action::Save]
            }
            _ => Vec::new(),
        }
    }

    /// Rolls back if the time of a trial is over.
    pub(in crate::guard) fn tick(&mut self, now: Duration) -> Vec<Action> {
        match self.phase {
            Phase::Applying(candidate) | Phase::Trial(candidate) if self.is_over(now) => {
                self.roll_back(candidate)
            }
            _ => Vec::new(),
        }
    }

    /// Goes back to waiting: the trial could not be saved, and nothing was changed.
    pub(in crate::guard) fn unsaved(&mut self) {
        if let Phase::Applying(candidate) = self.phase {
            self.saved.trial = None;
            self.phase = Phase::Waiting(candidate);
        }
    }

    /// Returns how much of the time of a trial is left.
    pub(in crate::guard) fn left(&self, now: Duration) -> Option<Duration> {
        let trial = self.saved.trial.as_ref()?;
        Some(Duration::from_millis(trial.deadline).saturating_sub(now))
    }

    fn is_over(&self, now: Duration) -> bool {
        self.left(now).is_none_or(|left| left.is_zero())
    }

    fn begin(&mut self, candidate: Candidate, now: Duration, boot: &str) -> Vec<Action> {
        let time = if self.saved.suspects(&candidate.generation.manifest) {
            SECOND
        } else {
            TRIAL
        };
        let deadline = now.saturating_add(time).as_millis();
        self.seen = Seen::default();
        self.saved.trial = Some(Trial {
            boot: boot.to_owned(),
            deadline: u64::try_from(deadline).unwrap_or(u64::MAX),
            serial: candidate.serial,
            generation: candidate.generation,
            former: self.saved.in_force,
        });
        self.phase = Phase::Applying(candidate);
        vec![Action::Save, Action::Apply]
    }

    fn confirm(&mut self, candidate: Candidate) -> Vec<Action> {
        self.saved.trial = None;
        self.saved.undone = None;
        self.saved.in_force = Some(candidate.generation);
        self.phase = Phase::Idle;
        vec![Action::Keep, Action::Save]
    }

    fn roll_back(&mut self, candidate: Candidate) -> Vec<Action> {
        self.phase = Phase::RollingBack(candidate);
        vec![Action::RollBack]
    }

    fn close(&mut self, candidate: Candidate, reason: Reason) -> Vec<Action> {
        let manifest = candidate.generation.manifest;
        self.saved.trial = None;
        self.saved.undo(manifest, candidate.serial, reason);
        self.phase = Phase::Idle;
        vec![Action::Save]
    }
}

#[cfg(test)]
mod tests;
