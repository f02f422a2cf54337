//! What a roll-out does next.
//!
//! A stage is done when each of its hosts has confirmed the generation and stayed healthy for a while. It stops when
//! one refuses or reverts the generation, cannot decide, or falls silent. Hosts that were silent before do not count.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bundle::word::Word;
use crate::bundle::{Digest, Manifest, Rollout, Stage};

use super::host::Host;
use super::record::Record;

/// How long a roll-out waits.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// How long all hosts of a stage must have been healthy.
    pub settle: Duration,
    /// How long a host may take.
    pub patience: Duration,
}

/// What is known of a roll-out at one moment.
#[derive(Debug)]
pub struct View<'a> {
    /// The manifest that is rolled out.
    pub manifest: &'a Manifest,
    /// Its digest.
    pub digest: &'a Digest,
    /// The roll-out.
    pub rollout: &'a Rollout,
    /// What is remembered.
    pub record: &'a Record,
    /// What the hosts say.
    pub hosts: &'a BTreeMap<Word, Host>,
    /// The time in seconds since 1970.
    pub now: u64,
    /// For how long this view has said that all hosts of the stage are healthy.
    pub healthy: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes: so many hosts have it, of so many.
    Wait {
        /// How many hosts of the open stages have confirmed it.
        done: usize,
        /// How many hosts of the open stages count.
        of: usize,
    },
    /// All hosts have it; wait until they are healthy for long enough.
    Settle,
    /// Open so many stages.
    Open(u32),
    /// Stop, for this reason.
    Stop(String),
    /// All hosts that count have it.
    Done,
}

/// How far a host is with a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is in force and confirmed.
    Done,
    /// Not yet.
    Pending,
    /// It does not take it, for this reason.
    Failed(String),
}

/// Returns how far a host is with a generation.
#[must_use]
pub fn of(host: &Host, digest: &Digest) -> Progress {
    if host.about.as_ref() != Some(digest) && host.manifest.as_ref() != Some(digest) {
        return Progress::Pending;
    }
    let because = host
        .reason
        .as_deref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    match host.state.as_str() {
        "refused" | "reverted" | "unsupported" | "undecided" => {
            Progress::Failed(format!("{} {}{because}", host.name, host.state))
        }
        _ if host.is_failing => {
            Progress::Failed(format!("{} cannot bring its rules into force", host.name))
        }
        _ if host.has(digest) => Progress::Done,
        _ => Progress::Pending,
    }
}

impl View<'_> {
    /// Returns how many stages there are, the last one with all others included.
    #[must_use]
    pub fn stages(&self) -> u32 {
        u32::try_from(self.manifest.stages.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    /// Returns the hosts that count: those of the open stages that were alive when the last one was opened.
    fn counted(&self) -> impl Iterator<Item = &Word> {
        self.record.live.iter().filter(|host| {
            u32::try_from(self.manifest.stage_of(host)).is_ok_and(|stage| stage < self.rollout.open)
        })
    }

    /// Returns the group that was opened last, if none of its hosts counts.
    fn empty_group(&self) -> Option<&Word> {
        let last = self.rollout.open.checked_sub(1)?;
        let stage = usize::try_from(last).ok()?;
        let Stage::Group(group) = self.manifest.stages.get(stage)? else {
            return None;
        };
        let mut counted = self.counted();
        counted
            .all(|host| self.manifest.stage_of(host) != stage)
            .then_some(group)
    }

    /// Returns whether the stage that is to be opened has a host that is alive.
    fn has_hosts(&self, stage: u32) -> bool {
        let mut live = self.hosts.values().filter(|host| host.is_live(self.now));
        live.any(|host| u32::try_from(self.manifest.stage_of(&host.name)) == Ok(stage))
    }

    /// Returns the next step.
    #[must_use]
    pub fn step(&self, waits: Waits) -> Step {
        if let Some(reason) = self.refusal() {
            return Step::Stop(reason);
        }
        if let Some(group) = self.empty_group() {
            return Step::Stop(format!("no host of the group {group} is alive"));
        }
        let (mut done, mut of, mut late) = (0, 0, None);
        for name in self.counted() {
            of += 1;
            let Some(host) = self.hosts.get(name).filter(|host| host.is_live(self.now)) else {
                return Step::Stop(format!("{name} fell silent"));
            };
            if self::of(host, self.digest) == Progress::Done {
                done += 1;
            } else {
                late = Some(host);
            }
        }
        if let Some(host) = late {
            let time = Duration::from_secs(self.now.saturating_sub(self.record.since));
            if time <= waits.patience {
                return Step::Wait { done, of };
            }
            let reason = host.reason.as_deref().unwrap_or(&host.state);
            let seconds = waits.patience.as_secs();
            return Step::Stop(format!(
                "{} has not taken it within {seconds} s: {reason}",
                host.name
            ));
        }
        if of > 0 && self.healthy < waits.settle {
            return Step::Settle;
        }
        self.next()
    }

    /// Returns why the roll-out stops, if a host refuses the generation: also one whose turn it is not yet. What a host
    /// says that cannot be read may be that.
    fn refusal(&self) -> Option<String> {
        let unreadable = self.hosts.values().find(|host| host.is_unreadable());
        if let Some(host) = unreadable {
            let reason = host.reason.as_deref().unwrap_or_default();
            return Some(format!(
                "the status of {} cannot be read: {reason}",
                host.name
            ));
        }
        let mut live = self.hosts.values().filter(|host| host.is_live(self.now));
        live.find_map(|host| match of(host, self.digest) {
            Progress::Failed(reason) => Some(reason),
            _ => None,
        })
    }

    /// Returns what follows when the open stages are done.
    fn next(&self) -> Step {
        let all = self.stages();
        let mut open = self.rollout.open;
        while open < all {
            let stage = usize::try_from(open).ok();
            let stage = stage.and_then(|open| self.manifest.stages.get(open));
            // A small share of few hosts may have none.
            if !matches!(stage, Some(Stage::Percent(_))) || self.has_hosts(open) {
                return Step::Open(open + 1);
            }
            open += 1;
        }
        Step::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::moment::Moment;
    use crate::bundle::version::Version;

    const WAITS: Waits = Waits {
        settle: Duration::from_secs(30),
        patience: Duration::from_mins(10),
    };

    fn word(text: &str) -> Word {
        text.parse().unwrap()
    }

    struct World {
        manifest: Manifest,
        rollout: Rollout,
        record: Record,
        hosts: BTreeMap<Word, Host>,
        healthy: Duration,
    }

    fn digest() -> Digest {
        Digest::of(b"new")
    }

    impl World {
        /// A canary, and hosts web-1 to web-3.
        fn new(open: u32) -> Self {
            let names = ["canary-1", "web-1", "web-2", "web-3"].map(word);
            let manifest = Manifest {
                site: word("prod"),
                generation: 2,
                created: Moment::default(),
                requires: Version::own(),
                groups: [(word("canary"), vec!["canary-*".parse().unwrap()])].into(),
                stages: vec!["canary".parse().unwrap()],
                files: Vec::new(),
            };
            let rollout = Rollout {
                site: word("prod"),
                serial: 1,
                generation: 2,
                manifest: digest(),
                open,
                stopped: None,
                created: Moment::default(),
            };
            let hosts = names.iter().map(|name| {
                let host = Host {
                    name: name.clone(),
                    version: "0.1.0".to_owned(),
                    at: 1000,
                    state: "in-force".to_owned(),
                    reason: None,
                    about: Some(Digest::of(b"old")),
                    generation: Some(1),
                    manifest: Some(Digest::of(b"old")),
                    accepted: Some(1),
                    serial: Some(1),
                    is_stale: false,
                    restored: 0,
                    is_failing: false,
                };
                (name.clone(), host)
            });
            let record = Record {
                manifest: Some(digest()),
                open,
                since: 1000,
                live: names.iter().cloned().collect(),
                ..Record::default()
            };
            Self {
                manifest,
                rollout,
                record,
                hosts: hosts.collect(),
                healthy: Duration::ZERO,
            }
        }

        fn host(&mut self, name: &str) -> &mut Host {
            self.hosts.get_mut(&word(name)).unwrap()
        }

        fn takes(&mut self, name: &str) {
            let host = self.host(name);
            host.about = Some(digest());
            host.manifest = Some(digest());
        }

        fn says(&mut self, name: &str, state: &str) {
            let host = self.host(name);
            host.about = Some(digest());
            host.state = state.to_owned();
        }

        fn step(&self, now: u64) -> Step {
            let view = View {
                manifest: &self.manifest,
                digest: &digest(),
                rollout: &self.rollout,
                record: &self.record,
                hosts: &self.hosts,
                now,
                healthy: self.healthy,
            };
            view.step(WAITS)
        }
    }

    fn stopped(step: &Step, because: &str) {
        let Step::Stop(reason) = step else {
            panic!("{step:?}");
        };
        assert!(reason.contains(because), "{reason}");
    }

    #[test]
    fn stages_follow_each_other() {
        let mut world = World::new(0);
        assert_eq!(world.step(1000), Step::Open(1));
        world = World::new(1);
        assert_eq!(world.step(1001), Step::Wait { done: 0, of: 1 });
        world.takes("canary-1");
        assert_eq!(world.step(1002), Step::Settle);
        world.healthy = WAITS.settle;
        assert_eq!(world.step(1032), Step::Open(2));
        world.rollout.open = 2;
        world.healthy = Duration::ZERO;
        assert_eq!(world.step(1033), Step::Wait { done: 1, of: 4 });
        for name in ["web-1", "web-2", "web-3"] {
            world.takes(name);
        }
        world.healthy = WAITS.settle;
        assert_eq!(world.step(1063), Step::Done);
    }

    #[test]
    fn what_a_host_refuses_stops_all() {
        for state in ["refused", "reverted", "undecided", "unsupported"] {
            let mut world = World::new(1);
            world.says("canary-1", state);
            stopped(&world.step(1001), state);
            // Also before its turn.
            let mut world = World::new(1);
            world.says("web-3", state);
            stopped(&world.step(1001), state);
        }
        // The state of another generation says nothing about this one.
        let mut world = World::new(1);
        world.host("web-1").state = "reverted".to_owned();
        assert_eq!(world.step(1001), Step::Wait { done: 0, of: 1 });
        world.host("canary-1").is_failing = true;
        world.takes("canary-1");
        stopped(&world.step(1001), "cannot bring");
    }

    #[test]
    fn what_cannot_be_read_stops_all() {
        let unreadable = |name: &str| {
            let found = crate::etcd::Found {
                key: format!("{name}/status"),
                value: vec![b'1'; 5000],
                changed: 1,
                is_leased: false,
            };
            Host::read(&found, "").unwrap()
        };
        // One whose turn it is, one whose turn it is not yet, and one that is not known.
        for name in ["canary-1", "web-1", "new"] {
            let mut world = World::new(1);
            world.takes("canary-1");
            world.healthy = WAITS.settle;
            assert_eq!(world.step(1001), Step::Open(2));
            world.hosts.insert(word(name), unreadable(name));
            let reason = format!("the status of {name} cannot be read: it has more than 4 KiB");
            stopped(&world.step(1001), &reason);
        }
    }

    #[test]
    fn silence_stops_and_silence_before_does_not() {
        let mut world = World::new(1);
        world.hosts.remove(&word("canary-1"));
        stopped(&world.step(1001), "canary-1 fell silent");
        // Its lease is renewed, and it says nothing.
        let world = World::new(1);
        stopped(&world.step(1000 + 721), "canary-1 fell silent");
        let mut world = World::new(1);
        world.hosts.remove(&word("web-2"));
        world.record.live.remove(&word("web-2"));
        world.takes("canary-1");
        world.healthy = WAITS.settle;
        assert_eq!(world.step(1001), Step::Open(2));
        world.rollout.open = 2;
        world.takes("web-1");
        world.takes("web-3");
        assert_eq!(world.step(1001), Step::Done);
    }

    #[test]
    fn a_host_that_takes_too_long_stops_all() {
        let world = World::new(1);
        assert_eq!(world.step(1600), Step::Wait { done: 0, of: 1 });
        stopped(&world.step(1601), "has not taken it within 600 s");
    }

    #[test]
    fn a_group_without_hosts_stops_and_a_small_share_does_not() {
        let mut world = World::new(1);
        world.hosts.remove(&word("canary-1"));
        world.record.live.remove(&word("canary-1"));
        stopped(&world.step(1000), "canary");
        let mut world = World::new(0);
        world.manifest.stages = vec!["1%".parse().unwrap()];
        let first = world.step(1000);
        assert!(
            first == Step::Open(1) || first == Step::Open(2),
            "{first:?}"
        );
    }
}
