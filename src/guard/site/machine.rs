//! The state of a host that follows a site: what happens when, without doing it.
//!
//! | phase | leaves when |
//! |---|---|
//! | idle | a generation passed all checks and tests → waiting |
//! | waiting | the server answers under the old rules → applying |
//! | applying | the new rules are in force → trial; they cannot be → rolling back |
//! | trial | the server answers through the new rules → idle, confirmed; the time is over → rolling back |
//! | rolling back | the old rules are in force → back |
//! | back | the server answers → idle, *reverted*; it does not → idle, *undecided* |
//!
//! A trial is saved before the rules change. A guard that finds one rolls back: everything but a yes is a no.

use std::time::Duration;

use super::state::{Generation, Reason, Saved, Trial};

/// How long a generation may take until the server has answered through its rules. With the way back it is a minute.
pub(in crate::guard) const TRIAL: Duration = Duration::from_secs(55);

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
        Self { saved, phase }
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
        is_reached: bool,
        now: Duration,
        boot: &str,
    ) -> Vec<Action> {
        match self.phase {
            Phase::Waiting(candidate) if is_reached => self.begin(candidate, now, boot),
            Phase::Trial(candidate) if self.is_over(now) => self.roll_back(candidate),
            Phase::Trial(candidate) if is_reached => self.confirm(candidate),
            Phase::Trial(_) => vec![Action::Probe],
            Phase::Back(candidate) => {
                let reason = if is_reached {
                    Reason::Reverted
                } else {
                    Reason::Undecided
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
        let deadline = now.saturating_add(TRIAL).as_millis();
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
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::bundle::moment::Moment;
    use crate::bundle::{Digest, Head};
    use crate::guard::site::state::{Denied, Next};

    /// What can happen to a host.
    #[derive(Debug, Clone)]
    enum Happens {
        /// The server has a head: serial, generation, whether its files are others than usual, and for how long it is
        /// valid in seconds from now on.
        Head(u64, u64, bool, i64),
        /// The candidate that waits fails a test now.
        Withdrawn,
        /// The fetcher says whether the server can be reached, or nothing for so long.
        Answer(bool),
        /// The rules can be changed, or not.
        Kernel(bool),
        /// Time passes: seconds.
        Time(u64),
        /// Somebody sets the clock.
        Clock(i64),
        /// The disk is full, or not.
        Disk(bool),
        /// Guard is killed after so many more actions, and starts again.
        Kill(usize),
        Reboot,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            6 => (1..12_u64, 1..6_u64, any::<bool>(), -100..10_000_i64)
                .prop_map(|(serial, generation, other, valid)| Happens::Head(serial, generation, other, valid)),
            1 => Just(Happens::Withdrawn),
            8 => any::<bool>().prop_map(Happens::Answer),
            2 => any::<bool>().prop_map(Happens::Kernel),
            3 => (1..80_u64).prop_map(Happens::Time),
            2 => (-1_000_000..1_000_000_i64).prop_map(Happens::Clock),
            1 => any::<bool>().prop_map(Happens::Disk),
            2 => (0..3_usize).prop_map(Happens::Kill),
            1 => Just(Happens::Reboot),
        ]
    }

    /// A host: its disk, its kernel, its clocks, and a guard.
    struct World {
        disk: Saved,
        rules: Option<Generation>,
        boot: u64,
        since_boot: Duration,
        clock: i64,
        is_writable: bool,
        is_open: bool,
        /// After how many actions guard is killed.
        fuse: Option<usize>,
        guard: Machine,
        /// How often guard has started again: it knows what the disk knew.
        starts: u32,
        keys: BTreeSet<Digest>,
        /// Of the trial that runs: whether the server has answered through its rules, in time.
        proved: bool,
        reverted: Vec<Digest>,
    }

    fn moment(seconds: i64) -> Moment {
        let seconds = u64::try_from(seconds.max(0)).unwrap();
        Moment::since_epoch(Duration::from_secs(seconds)).unwrap()
    }

    impl World {
        fn new() -> Self {
            let keys = BTreeSet::from([Digest::of(b"key")]);
            Self {
                disk: Saved::default(),
                rules: None,
                boot: 0,
                since_boot: Duration::ZERO,
                clock: 2_000_000_000,
                is_writable: true,
                is_open: true,
                fuse: None,
                guard: Machine::start(Saved::default(), "0"),
                starts: 0,
                keys,
                proved: false,
                reverted: Vec::new(),
            }
        }

        fn boot(&self) -> String {
            self.boot.to_string()
        }

        /// Does what the machine asks for, until guard is killed.
        fn act(&mut self, actions: Vec<Action>) {
            let mut actions: std::collections::VecDeque<_> = actions.into();
            while let Some(action) = actions.pop_front() {
                if let Some(left) = &mut self.fuse {
                    match left.checked_sub(1) {
                        Some(less) => *left = less,
                        None => return self.kill(),
                    }
                }
                match action {
                    Action::Save if self.is_writable => self.disk = self.guard.saved.clone(),
                    Action::Save => {
                        self.guard.unsaved();
                        actions.clear();
                    }
                    Action::Probe => {}
                    Action::Apply => {
                        let trial = self.disk.trial.clone().expect("a trial is saved before");
                        assert_eq!(trial.boot, self.boot());
                        assert!(!self.reverted.contains(&trial.generation.manifest));
                        self.proved = false;
                        if self.is_open {
                            self.rules = Some(trial.generation);
                        }
                        actions.extend(self.guard.applied(self.is_open));
                    }
                    Action::Keep => {
                        assert!(self.proved, "kept without a proof");
                        assert_eq!(self.guard.saved.in_force, self.rules);
                    }
                    Action::RollBack => {
                        self.rules = self.guard.saved.in_force;
                        actions.extend(self.guard.restored());
                    }
                }
            }
        }

        fn kill(&mut self) {
            self.fuse = None;
            self.start();
        }

        fn start(&mut self) {
            self.starts += 1;
            self.guard = Machine::start(self.disk.clone(), &self.boot());
            // Guard brings what was confirmed into force, whatever else is.
            self.rules = self.guard.saved.in_force;
            let actions = self.guard.restored();
            self.act(actions);
            assert!(matches!(self.guard.phase(), Phase::Idle));
        }

        fn offer(&mut self, head: &Head) {
            let (before, starts) = (self.guard.saved.floor.clone(), self.starts);
            let now = moment(self.clock);
            match self.guard.saved.check(head, &self.keys, now) {
                Ok(next) => {
                    assert!(now < head.expires);
                    if self.guard.is_free() && self.guard.saved.accept(head, &self.keys) {
                        self.act(vec![Action::Save]);
                    }
                    // A guard that was killed meanwhile examines the head anew.
                    if next == Next::Try && self.starts == starts {
                        let generation = Generation::of(head);
                        let serial = head.serial;
                        let actions = self.guard.offer(Candidate { generation, serial });
                        self.act(actions);
                    }
                }
                Err(Denied::Expired(_)) => assert!(now >= head.expires),
                Err(_) => {}
            }
            let after = self.guard.saved.floor.as_ref();
            if let (Some(before), Some(after)) = (&before, after)
                && self.starts == starts
            {
                assert!(before.serial <= after.serial);
                assert!(before.generation.number <= after.generation.number);
            }
        }

        fn happen(&mut self, what: &Happens) {
            match *what {
                Happens::Head(serial, generation, other, valid) => {
                    let head = Head {
                        site: "prod".parse().unwrap(),
                        serial,
                        generation,
                        manifest: Digest::of(format!("{generation} {other}").as_bytes()),
                        created: moment(self.clock),
                        expires: moment(self.clock + valid),
                    };
                    self.offer(&head);
                }
                Happens::Withdrawn => self.guard.withdraw(),
                Happens::Answer(is_reached) => {
                    let is_trial = matches!(self.guard.phase(), Phase::Trial(_));
                    let left = self.guard.left(self.since_boot).unwrap_or_default();
                    self.proved |= is_trial && is_reached && !left.is_zero();
                    let back = match self.guard.phase() {
                        Phase::Back(candidate) if is_reached => Some(candidate),
                        _ => None,
                    };
                    let actions = self.guard.probed(is_reached, self.since_boot, &self.boot());
                    self.reverted
                        .extend(back.map(|candidate| candidate.generation.manifest));
                    let is_cut_short = self.fuse.is_some() || !self.is_writable;
                    self.act(actions);
                    if is_cut_short {
                        // The verdict may not have been written.
                        self.reverted.retain(|manifest| {
                            let undone = self.guard.saved.undone.as_ref();
                            undone.is_some_and(|undone| {
                                undone.manifest == *manifest && undone.reason == Reason::Reverted
                            })
                        });
                    }
                }
                Happens::Kernel(is_open) => self.is_open = is_open,
                Happens::Time(seconds) => {
                    self.since_boot += Duration::from_secs(seconds);
                    self.clock += i64::try_from(seconds).unwrap();
                    let actions = self.guard.tick(self.since_boot);
                    self.act(actions);
                }
                Happens::Clock(by) => self.clock = (self.clock + by).max(1_000_000_000),
                Happens::Disk(is_writable) => self.is_writable = is_writable,
                Happens::Kill(after) => self.fuse = Some(after),
                Happens::Reboot => {
                    self.boot += 1;
                    self.since_boot = Duration::ZERO;
                    self.rules = None;
                    self.fuse = None;
                    self.start();
                }
            }
        }

        fn check(&self) {
            let confirmed = self.guard.saved.in_force;
            if self.rules == confirmed {
                return;
            }
            // Other rules are in force in a trial only, which the disk knows, and not longer than its time.
            let trial = self.disk.trial.as_ref().expect("no trial is saved");
            assert_eq!(self.rules, Some(trial.generation));
            assert_eq!(trial.boot, self.boot());
            let left = Duration::from_millis(trial.deadline).saturating_sub(self.since_boot);
            assert!(!left.is_zero(), "the time of the trial is over");
            assert!(matches!(self.guard.phase(), Phase::Trial(_)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn nothing_stays_that_was_not_proved(story in proptest::collection::vec(happens(), 1..60)) {
            let mut world = World::new();
            for what in &story {
                world.happen(what);
                world.check();
            }
        }
    }

    fn head(serial: u64, generation: u64) -> Head {
        Head {
            site: "prod".parse().unwrap(),
            serial,
            generation,
            manifest: Digest::of(&generation.to_be_bytes()),
            created: moment(2_000_000_000),
            expires: moment(2_000_000_000 + 3600),
        }
    }

    #[test]
    fn numbers_do_not_sink_or_leap_unless_a_key_is_gone() {
        let now = moment(2_000_000_001);
        let keys = |names: &[&str]| -> BTreeSet<Digest> {
            names
                .iter()
                .map(|name| Digest::of(name.as_bytes()))
                .collect()
        };
        let both = keys(&["old", "new"]);
        let mut saved = Saved::default();
        assert_eq!(saved.check(&head(20_261_129, 7), &both, now), Ok(Next::Try));
        saved.accept(&head(100, 7), &both);
        let denied = |head: &Head| saved.check(head, &both, now).unwrap_err();
        assert_eq!(denied(&head(99, 7)).state(), "store-behind");
        assert_eq!(denied(&head(101, 6)).state(), "store-behind");
        assert_eq!(denied(&head(1_000_101, 8)), Denied::Leap("serial"));
        assert_eq!(denied(&head(101, 1_000_008)), Denied::Leap("generation"));
        assert_eq!(denied(&head(100, 8)), Denied::SerialTwice(100));
        let other = Head {
            manifest: Digest::of(b"other"),
            ..head(101, 7)
        };
        assert_eq!(denied(&other), Denied::GenerationTwice(7));
        assert_eq!(saved.check(&head(101, 8), &both, now), Ok(Next::Try));
        // Of another key nothing is known, and the one that is gone may have signed anything.
        let more = keys(&["old", "new", "newer"]);
        assert!(saved.check(&head(99, 6), &more, now).is_err());
        assert_eq!(
            saved.check(&head(99, 6), &keys(&["new"]), now),
            Ok(Next::Try)
        );
    }

    #[test]
    fn a_wrong_clock_takes_nothing_and_lets_nothing_expire() {
        let mut saved = Saved::default();
        let keys = BTreeSet::from([Digest::of(b"key")]);
        saved.accept(&head(1, 1), &keys);
        let early = moment(1_000_000_000);
        let check = |now| saved.check(&head(2, 2), &keys, now);
        assert!(matches!(check(early), Err(Denied::Clock { .. })));
        assert!(check(moment(2_000_000_000 - 200)).is_ok());
        assert!(matches!(
            check(moment(2_100_000_000)),
            Err(Denied::Expired(_))
        ));
    }

    #[test]
    fn what_cuts_off_is_not_tried_again_and_what_is_not_decided_is_tried_three_times() {
        let keys = BTreeSet::from([Digest::of(b"key")]);
        let now = moment(2_000_000_001);
        let mut saved = Saved::default();
        let manifest = head(1, 1).manifest;
        for tries in 1..=3 {
            assert_eq!(
                saved.check(&head(1, 1), &keys, now),
                Ok(Next::Try),
                "{tries}"
            );
            saved.undo(manifest, 1, Reason::Undecided);
        }
        assert_eq!(
            saved.check(&head(1, 1), &keys, now),
            Ok(Next::Held(Reason::Undecided))
        );
        assert_eq!(saved.check(&head(2, 1), &keys, now), Ok(Next::Try));
        saved.undo(manifest, 2, Reason::Reverted);
        assert_eq!(
            saved.check(&head(3, 1), &keys, now),
            Ok(Next::Held(Reason::Reverted))
        );
        assert_eq!(saved.check(&head(3, 2), &keys, now), Ok(Next::Try));
    }
}
