//! The state machine against a host whose disk, kernel, clocks and guard fail as they like.

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
    /// The fetcher says what became of a probe, or nothing for so long.
    Answer(Probe),
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
        8 => prop_oneof![
            6 => Just(Probe::Reached),
            5 => Just(Probe::Silent),
            1 => Just(Probe::Answered),
            1 => Just(Probe::Unknown),
        ]
        .prop_map(Happens::Answer),
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
    /// Of the same: whether a probe was silent, and whether nothing but that was seen.
    silent: Option<bool>,
    /// In how many trials in a row a generation was silent, and the server reached before and after.
    cut: Option<(Digest, u32)>,
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
            silent: None,
            cut: None,
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
                    self.silent = None;
                    if self.is_open {
                        self.rules = Some(trial.generation);
                    }
                    actions.extend(self.guard.applied(self.is_open));
                }
                Action::Keep => {
                    assert!(self.proved, "kept without a proof");
                    self.cut = None;
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
        if !self.guard.is_free() {
            self.cut = None;
        }
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
            Happens::Answer(probe) => {
                let is_reached = probe == Probe::Reached;
                let is_trial = matches!(self.guard.phase(), Phase::Trial(_));
                let left = self.guard.left(self.since_boot).unwrap_or_default();
                self.proved |= is_trial && is_reached && !left.is_zero();
                if is_trial {
                    self.silent = match probe {
                        Probe::Silent => self.silent.or(Some(true)),
                        Probe::Reached | Probe::Answered => Some(false),
                        Probe::Unknown => self.silent,
                    };
                }
                let back = match self.guard.phase() {
                    Phase::Back(candidate) => Some(candidate.generation.manifest),
                    _ => None,
                };
                let actions = self.guard.probed(probe, self.since_boot, &self.boot());
                if let Some(manifest) = back {
                    self.judge(manifest, is_reached);
                }
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
                if !self.guard.is_free() {
                    self.cut = None;
                }
                self.boot += 1;
                self.since_boot = Duration::ZERO;
                self.rules = None;
                self.fuse = None;
                self.start();
            }
        }
    }

    /// Judges a trial that is over, and compares that with the machine.
    fn judge(&mut self, manifest: Digest, is_reached: bool) {
        let before = self.cut.filter(|(known, _)| *known == manifest);
        let times = before.map_or(0, |(_, times)| times) + 1;
        self.cut = (is_reached && self.silent == Some(true)).then_some((manifest, times));
        let is_cut_off = self.cut.is_some_and(|(_, times)| times >= 2);
        let undone = self.guard.saved.undone.as_ref().expect("it was undone");
        let is_reverted = undone.reason == Reason::Reverted;
        assert!(is_cut_off || !is_reverted, "reverted without a proof");
        // A guard that was killed may have forgotten the first trial.
        assert!(is_reverted || !is_cut_off || self.starts > 0);
        self.reverted.extend(is_reverted.then_some(manifest));
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
    // What may cut off is tried once more, however often it was undecided.
    for _ in 0..4 {
        saved.undo(manifest, 2, Reason::Undecided);
    }
    saved.undo(manifest, 2, Reason::Suspected);
    assert_eq!(saved.check(&head(2, 1), &keys, now), Ok(Next::Try));
    saved.undo(manifest, 2, Reason::Reverted);
    assert_eq!(
        saved.check(&head(3, 1), &keys, now),
        Ok(Next::Held(Reason::Reverted))
    );
    assert_eq!(saved.check(&head(3, 2), &keys, now), Ok(Next::Try));
}

/// Goes through a trial of a generation whose probes are these, and one after it.
fn try_out(machine: &mut Machine, probes: &[Probe], after: Probe) -> Option<Reason> {
    let generation = Generation::of(&head(1, 1));
    let candidate = Candidate {
        generation,
        serial: 1,
    };
    let mut now = Duration::ZERO;
    assert_eq!(machine.offer(candidate), [Action::Probe]);
    machine.probed(Probe::Reached, now, "0");
    machine.applied(true);
    for probe in probes {
        machine.probed(*probe, now, "0");
    }
    now += TRIAL;
    assert_eq!(machine.tick(now), [Action::RollBack]);
    machine.restored();
    assert_eq!(machine.probed(after, now, "0"), [Action::Save]);
    machine.saved.undone.as_ref().map(|undone| undone.reason)
}

#[test]
fn only_silence_twice_in_a_row_is_cutting_off() {
    use Probe::{Answered, Reached, Silent, Unknown};
    let verdicts = |trials: &[(&[Probe], Probe)]| -> Vec<Option<Reason>> {
        let mut machine = Machine::start(Saved::default(), "0");
        let trials = trials.iter();
        trials
            .map(|(probes, after)| try_out(&mut machine, probes, *after))
            .collect()
    };
    let (suspected, reverted) = (Some(Reason::Suspected), Some(Reason::Reverted));
    let undecided = Some(Reason::Undecided);
    let silence: (&[Probe], Probe) = (&[Silent, Silent], Reached);
    assert_eq!(verdicts(&[silence, silence]), [suspected, reverted]);
    for other in [
        (&[Silent, Answered, Silent][..], Reached),
        (&[Silent], Silent),
        (&[Silent], Unknown),
        (&[Unknown], Reached),
        (&[], Reached),
    ] {
        assert_eq!(verdicts(&[other, silence]), [undecided, suspected]);
        assert_eq!(
            verdicts(&[silence, other, silence]),
            [suspected, undecided, suspected]
        );
    }
}
