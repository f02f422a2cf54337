//! A site that is followed: its bundle comes from a web server, and each generation is kept only if the server can be
//! reached through its rules.
//!
//! - `state`: what is remembered, and which heads are taken;
//! - `machine`: what happens when;
//! - `examine`: whether the bundle in the cache passes all checks and tests;
//! - `way`: whether its rules let the replies of the server in;
//! - this file: does what the machine asks for, and says how far it is.
//!
//! The fetcher has the network and no rights, guard has the rights and no network. What the fetcher says counts for
//! one thing: whether the server can be reached, and by which connection.

mod examine;
mod lock;
pub(super) mod machine;
mod report;
pub(super) mod state;
mod way;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bundle::Address;
use crate::clock::since_boot;
use crate::fetch::site::{self, SiteStatus};
use crate::store::bundle::Pick;
use crate::store::{Location, Policies};
use crate::untrusted::clean_to;

use super::due::Backoff;
use super::feeds::engines::Engines;
use super::feeds::event::Event;
use super::feeds::feed::{Feed, Polled, readable};
use super::feeds::files::{Files, Places, name};
use super::feeds::job::{Job, Outcome, within};
use super::log::{LINE, Level, Log};
use super::options::Options;
use super::state as disk;

pub(in crate::guard) use examine::Examined;

use examine::Examination;
use lock::Lock;
use machine::{Action, Candidate, Machine, Phase, Probe};
use state::{Generation, Next, Reason, Saved};
use way::Proof;

pub(in crate::guard) use way::Answer;

pub(in crate::guard) use report::Report;

/// How often the cache is looked at, whether it changed or not.
const EVERY: Duration = Duration::from_mins(1);
/// How long the fetcher may take for the answer to a probe.
const ANSWER: Duration = Duration::from_secs(20);
/// The rest between two probes of a trial.
const REST: Duration = Duration::from_secs(1);
/// The wait before the server is probed again while a generation waits for it.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// The wait before a generation is tried once more through whose rules nothing came from the server.
const ONCE_MORE: Duration = Duration::from_secs(10);
/// The wait before an undecided generation is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(15));
/// How long writing the state may take.
const DISK: Duration = Duration::from_secs(5);
/// The longest reason of the fetcher, in characters.
const REASON: usize = 300;

/// What guard is to do for a site.
#[derive(Debug)]
pub(in crate::guard) enum Order {
    /// Bring these policies into force, until another order.
    Apply(Arc<Policies>),
    /// Keep them.
    Keep,
    /// Bring the policies before them into force.
    RollBack,
}

/// A site that is followed.
#[derive(Debug)]
pub(in crate::guard) struct Site {
    address: Address,
    contents: Option<Address>,
    location: Location,
    cache: PathBuf,
    folder: PathBuf,
    /// The file that tells the fetcher what is wanted.
    wanted: PathBuf,
    /// What the store was told of this host last.
    told: Option<(Value, Instant)>,
    boot: String,
    log: Log,
    files: Arc<Files>,
    examination: Job<Examined>,
    answer: Job<Option<Answer>>,
    machine: Machine,
    candidate: Option<Arc<Policies>>,
    /// The generation that would cut this host off from the server.
    cutting: Option<Generation>,
    /// The probe that is asked for, and until when the fetcher may answer.
    probe: Option<(String, Instant)>,
    /// When the next probe is asked for.
    next_probe: Option<Instant>,
    waits: Backoff,
    undecided: Backoff,
    /// Until when an undecided generation is not tried again.
    held_until: Option<Instant>,
    /// Why the server was not reached in the trial.
    failure: Option<String>,
    status: SiteStatus,
    /// The generation that was examined last, signed or not.
    about: Option<Generation>,
    /// Why the last head was not taken, with the state that it means.
    denied: Option<(&'static str, String)>,
    /// Whether the state on disk is that in memory.
    is_saved: bool,
    _lock: Option<Lock>,
}

impl Site {
    /// Takes up what is known of the site that the options name; `None` if they name none.
    ///
    /// # Errors
    /// If another guard follows a site here, or a descriptor cannot be created.
    pub(in crate::guard) fn open(options: &Options, log: Log) -> io::Result<Option<Self>> {
        let Some(address) = &options.site else {
            return Ok(None);
        };
        let wanted = options.requests.with_file_name(site::WANTED);
        let lock = Lock::take(wanted.parent().unwrap_or(&wanted), log)?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let folder = options.state.clone();
        let saved = match within(DISK, move || disk::read_site(&folder))? {
            Some(Ok(saved)) => saved,
            Some(Err(disk::Error::Missing(_))) => Saved::default(),
            Some(Err(error)) => {
                log.say(Level::Error, &error.to_string());
                Saved::default()
            }
            None => {
                log.say(Level::Error, "the state directory does not answer");
                Saved::default()
            }
        };
        let machine = Machine::start(saved.clone(), boot.trim());
        if machine.phase() == Phase::Recovering {
            let text = "a former guard ended while a generation was tried: rolling back";
            log.say(Level::Warning, text);
        }
        let mut site = Self {
            address: address.clone(),
            contents: options.contents.clone(),
            location: options.location.clone(),
            cache: options.cache.clone(),
            folder: options.state.clone(),
            wanted,
            told: None,
            boot: boot.trim().to_owned(),
            log,
            files: Arc::new(Files::open(|| Event::SiteFiles)?),
            examination: Job::new("site")?,
            answer: Job::new("probe")?,
            machine,
            candidate: None,
            cutting: None,
            probe: None,
            next_probe: None,
            waits: Backoff::new(WAIT.0, WAIT.1),
            undecided: Backoff::new(AGAIN.0, AGAIN.1),
            held_until: None,
            failure: None,
            status: SiteStatus::default(),
            about: None,
            denied: None,
            is_saved: true,
            _lock: lock,
        };
        if site.machine.saved != saved {
            site.save();
        }
        site.ask();
        site.look_at(Instant::now());
        Ok(Some(site))
    }

    /// Returns which manifest the policies in force are read from.
    pub(in crate::guard) fn pick(&self) -> Pick {
        let in_force = self.machine.saved.in_force;
        Pick::Accepted(in_force.map(|generation| generation.manifest))
    }

    /// Returns whether rules that are not confirmed are, or come, into force.
    pub(in crate::guard) fn is_trial(&self) -> bool {
        matches!(self.machine.phase(), Phase::Applying(_) | Phase::Trial(_))
    }

    /// Returns whether the rules of a trial that is over may be in force still.
    pub(in crate::guard) fn is_restoring(&self) -> bool {
        matches!(
            self.machine.phase(),
            Phase::RollingBack(_) | Phase::Recovering
        )
    }

    /// Reads again what the fetcher has written.
    pub(in crate::guard) fn look_at(&mut self, now: Instant) {
        // The folder of the bundle may be new.
        let mut places = Places::new();
        let bundle = self.location.path.join("head");
        for file in [
            bundle,
            self.cache.join(site::STATUS),
            self.cache.join(site::PROBED),
            self.location.path.join(site::ROLLOUT),
        ] {
            name(&mut places, &file);
        }
        self.files.watch(&places);
        if self.probe.is_some() {
            self.answer.at(now);
        }
        if self.machine.is_free() {
            self.examination.after_rest(now);
        }
    }

    /// Starts the work that is due; `is_ready` says whether the rules that were in force before are.
    ///
    /// # Errors
    /// If a thread cannot be created.
    pub(in crate::guard) fn begin(
        &mut self,
        now: Instant,
        engines: &Engines,
        is_ready: bool,
    ) -> io::Result<Option<Order>> {
        let actions = self.machine.tick(since_boot());
        let mut order = self.act(actions, now);
        if let Some((_, until)) = &self.probe
            && *until <= now
        {
            self.probe = None;
            let answer = (Probe::Unknown, Some("the fetcher does not answer"));
            order = order.or(self.take_answer(answer, now));
        }
        if self.next_probe.is_some_and(|next| next <= now) {
            self.next_probe = None;
            self.ask_probe(now);
        }
        self.answer.begin(now, || {
            let (cache, asked) = (self.cache.clone(), self.probe.clone());
            // Where no rules are in force, nothing may be tracked yet.
            let is_judged = self.machine.saved.in_force.is_some()
                && matches!(self.machine.phase(), Phase::Waiting(_));
            let proof = self.candidate.as_ref().filter(|_| is_judged);
            let proof = proof.map(|policies| Proof {
                policies: Arc::clone(policies),
                engines: engines.engines(),
                unanswered: engines.unanswered(),
            });
            Box::new(move || Answer::read(&cache, asked.map(|(asked, _)| asked), proof))
        })?;
        if is_ready && self.machine.is_free() {
            let (location, saved) = (self.location.clone(), self.machine.saved.clone());
            let (cache, accepted) = (self.cache.clone(), self.folder.clone());
            let is_staged = self.address.is_etcd();
            self.examination.begin(now, || {
                let (engines, unanswered) = (engines.engines(), engines.unanswered());
                let examination = Examination {
                    location,
                    saved,
                    cache,
                    accepted,
                    engines,
                    unanswered,
                    is_staged,
                };
                Box::new(move || examination.run())
            })?;
        }
        Ok(order)
    }

    /// Takes the result of an examination.
    pub(in crate::guard) fn take_examined(
        &mut self,
        examined: Examined,
        is_mine: bool,
        now: Instant,
    ) -> Option<Order> {
        self.examination.at(now + EVERY);
        if !self.machine.is_free() {
            return None;
        }
        if examined.saved != self.machine.saved {
            // Something was tried since it began.
            self.examination.at(now);
            return None;
        }
        if !self.is_saved {
            self.save();
        }
        self.status = examined.status;
        self.about = examined.about;
        let (head, next, policies) = match examined.head {
            None => return None,
            Some(Err((state, reason))) => {
                self.machine.withdraw();
                self.deny(state, &reason);
                return None;
            }
            Some(Ok(passed)) => passed,
        };
        let keys = self.keys();
        let is_new = self.machine.saved.accept(&head, &keys);
        let rollout = examined.rollout.unwrap_or_default();
        let has_moved = self.machine.saved.rollout < rollout;
        if has_moved {
            self.machine.saved.rollout = rollout;
        }
        if is_new || has_moved {
            self.save();
        }
        let policies = match (next, policies) {
            (Next::Try, Some(Ok(policies))) => policies,
            (Next::Try, Some(Err((state, reason)))) => {
                self.machine.withdraw();
                self.deny(state, &reason);
                return None;
            }
            (Next::Held(_), _) => {
                self.machine.withdraw();
                // Why it was rolled back is known until guard ends.
                let is_reason =
                    |(state, _): &mut (&str, String)| *state == "reverted" || *state == "undecided";
                self.denied = self.denied.take_if(is_reason);
                return None;
            }
            (Next::Nothing, _) | (Next::Try, None) => {
                self.machine.withdraw();
                self.denied = None;
                return None;
            }
        };
        if !is_mine {
            let reason = "the rules in force are those of another program or policy, to which guard could not roll \
                          back: run `dfw guard` with their policies, or `dfw remove`";
            self.machine.withdraw();
            self.deny("waiting", reason);
            return None;
        }
        if let Some(until) = self.held_until.filter(|until| now < *until) {
            self.examination.at(until);
            return None;
        }
        let generation = Generation::of(&head);
        let serial = head.serial;
        let candidate = Candidate { generation, serial };
        if self.machine.phase() != Phase::Waiting(candidate) {
            self.candidate = Some(Arc::new(policies));
            self.waits.reset();
            // One that would cut this host off is judged again: what excludes connections from tracking may be gone.
            if self.cutting != Some(generation) {
                self.denied = None;
                let number = generation.number;
                let text = format!("generation {number} passed all checks: probing the server");
                self.log.say(Level::Notice, &text);
            }
        }
        let actions = self.machine.offer(candidate);
        self.act(actions, now)
    }

    /// Takes what the fetcher has answered, if that is about the last probe.
    pub(in crate::guard) fn take_probed(
        &mut self,
        answer: Option<&Answer>,
        now: Instant,
    ) -> Option<Order> {
        let Answer { probed, objection } = answer?;
        let is_asked = self
            .probe
            .as_ref()
            .is_some_and(|(probe, _)| *probe == probed.probe);
        if !is_asked {
            return None;
        }
        self.probe = None;
        if let (Some(objection), Phase::Waiting(candidate)) = (objection, self.machine.phase()) {
            self.machine.withdraw();
            self.candidate = None;
            self.cutting = Some(candidate.generation);
            self.deny("refused", objection);
            return None;
        }
        let failure = probed.failure.as_deref();
        let probe = match failure {
            None => Probe::Reached,
            Some(_) if probed.answered => Probe::Answered,
            Some(_) => Probe::Silent,
        };
        self.take_answer((probe, failure), now)
    }

    fn take_answer(
        &mut self,
        (probe, failure): (Probe, Option<&str>),
        now: Instant,
    ) -> Option<Order> {
        let failure = failure.map(|failure| clean_to(failure, REASON));
        let before = self.machine.phase();
        let actions = self.machine.probed(probe, since_boot(), &self.boot);
        match (before, failure) {
            (Phase::Waiting(_), Some(failure)) => {
                let reason = format!("the server cannot be reached: {failure}");
                self.deny("waiting", &reason);
                self.next_probe = Some(now + self.waits.next());
            }
            (Phase::Trial(_), Some(failure)) => {
                let text = format!("the server is not reached through the new rules: {failure}");
                self.log.say(Level::Warning, &text);
                self.failure = Some(failure);
                if actions == [Action::Probe] {
                    self.next_probe = Some(now + REST);
                    return None;
                }
            }
            (Phase::Back(candidate), failure) => self.close(candidate, failure, now),
            _ => {}
        }
        self.act(actions, now)
    }

    /// Notes whether the rules of the policies that guard was ordered to bring into force are.
    pub(in crate::guard) fn enforced(&mut self, is_done: bool, now: Instant) -> Option<Order> {
        let actions = match self.machine.phase() {
            Phase::Applying(_) => self.machine.applied(is_done),
            Phase::RollingBack(_) | Phase::Recovering if is_done => self.machine.restored(),
            _ => Vec::new(),
        };
        self.act(actions, now)
    }

    /// Does what is possible without the rules; returns what guard is to do.
    fn act(&mut self, actions: Vec<Action>, now: Instant) -> Option<Order> {
        let mut order = None;
        for action in actions {
            match action {
                Action::Save => {
                    if !self.save() {
                        self.machine.unsaved();
                        if matches!(self.machine.phase(), Phase::Waiting(_)) {
                            self.next_probe = Some(now + self.waits.next());
                        }
                        return order;
                    }
                }
                Action::Probe => self.ask_probe(now),
                Action::Apply => {
                    self.failure = None;
                    self.cutting = None;
                    let policies = self.candidate.take()?;
                    let text =
                        "the new rules come into force until the server is reached through them";
                    self.log.say(Level::Notice, text);
                    order = Some(Order::Apply(policies));
                }
                Action::Keep => {
                    self.undecided.reset();
                    self.held_until = None;
                    self.denied = None;
                    self.log.say(
                        Level::Notice,
                        "confirmed: the server is reached through the new rules",
                    );
                    order = Some(Order::Keep);
                }
                Action::RollBack => {
                    self.probe = None;
                    self.next_probe = None;
                    self.log.say(Level::Error, "not confirmed: rolling back");
                    order = Some(Order::RollBack);
                }
            }
        }
        if matches!(order, Some(Order::Keep)) {
            self.ask();
        }
        if self.machine.is_free() && !self.examination.is_expected() {
            self.examination.at(now);
        }
        order
    }

    fn deny(&mut self, state: &'static str, reason: &str) {
        let denied = Some((state, clean_to(reason, LINE)));
        if self.denied != denied
            && let Some((state, reason)) = &denied
        {
            let text = format!("{state}: {reason}; the rules in force stay");
            self.log.say(Level::Error, &text);
        }
        self.denied = denied;
    }

    fn ask_probe(&mut self, now: Instant) {
        let mut random = [0; 16];
        // Never a former one: the kernel's random numbers do not fail after boot.
        if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).is_err() {
            self.next_probe = Some(now + REST);
            return;
        }
        let probe = format!("{:032x}", u128::from_ne_bytes(random));
        self.probe = Some((probe, now + ANSWER));
        self.ask();
    }

    /// Writes the state; returns whether it is written.
    fn save(&mut self) -> bool {
        let (folder, saved) = (self.folder.clone(), self.machine.saved.clone());
        let written = within(DISK, move || disk::write_site(&folder, &saved));
        let failure = match written {
            Ok(Some(Ok(()))) => None,
            Ok(Some(Err(error))) => Some(error.to_string()),
            Ok(None) => Some("the disk does not respond".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(failure) = &failure
            && self.is_saved
        {
            let text = format!("the state of the site cannot be saved: {failure}");
            self.log.say(Level::Error, &text);
        }
        self.is_saved = failure.is_none();
        self.is_saved
    }

    fn keys(&self) -> std::collections::BTreeSet<crate::bundle::Digest> {
        let keys = self.location.trust.keys.as_ref();
        keys.map(|keys| keys.names().clone()).unwrap_or_default()
    }
}

impl Feed for Site {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        let mut descriptors = self.files.descriptors();
        descriptors.extend(readable([&self.examination, &self.answer]));
        descriptors
    }

    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        // The time since boot goes on while the machine is suspended, and the time of the loop does not.
        let is_in_trial = self.is_trial() || self.is_restoring();
        let trial = is_in_trial.then(|| {
            let left = self.machine.left(since_boot());
            now + left
                .filter(|left| !left.is_zero())
                .map_or(REST, |left| left.min(REST))
        });
        let examination = self.examination.next();
        let examination = examination.filter(|_| self.machine.is_free());
        let answered = self.probe.as_ref().map(|(_, until)| *until);
        [
            examination,
            self.answer.next(),
            answered,
            self.next_probe,
            trial,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        self.files.drain(now, events)?;
        if let Some(Outcome::Done(examined)) = self.examination.outcome(now) {
            events.push(Event::Examined(Box::new(examined)));
        }
        if let Some(Outcome::Done(probed)) = self.answer.outcome(now) {
            events.push(Event::Probed(probed));
        }
        Ok(())
    }
}
