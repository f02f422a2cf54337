//! The desired ruleset: policies and host facts compiled, or the last good policies if the files have errors.
//!
//! Reading disks and processes happens in threads of their own. The event loop starts due work
//! ([`Desired::begin`]), receives the result as an event, and uses it in a later turn.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::file::{self, Accept, Limit};
use crate::host::HostView;
use crate::host::docker::Ask;
use crate::host::grant::Grant;
use crate::kernel;
use crate::policy::{self, DefaultAction, Fetched, Policy, SourceName};
use crate::ruleset::Ruleset;
use crate::site::{HostFacts, Sockets};
use crate::store::bundle::Pick;
use crate::store::{self, LoadError, Location, Policies};
use crate::text::SourceMap;
use crate::untrusted;

use super::due::{Due, Need};
use super::feeds::engines::Engines;
use super::feeds::event::{Event, Read};
use super::feeds::feed::{Feed, Polled, readable};
use super::feeds::files::{self, Files};
use super::feeds::job::{Job, Outcome, within};
use super::granted::Saved;
use super::log::{self, Level, Log, Mistakes};
use super::options::Options;
use super::published::LastKnownPorts;
use super::record::{Origin, Record};
use super::state;
use super::state_writer::StateWriter;
use super::view::View;

/// The interval at which policies with errors are read again: their cause may be outside the watched
/// directories.
const RECHECK: Duration = Duration::from_secs(30);
/// The interval at which the host is read again while ports are denied that no engine's socket holds: a
/// service of the host may have bound one.
const RETHINK: Duration = Duration::from_mins(1);
/// How long reading the saved state may take before guard starts without it.
pub(super) const STATE: Duration = Duration::from_secs(5);
/// The most immediate re-reads of the policies because new directories had to be watched.
pub(super) const READS: u32 = 3;

/// The desired ruleset and its inputs.
pub(super) struct Desired {
    location: Location,
    state: PathBuf,
    lists: Lists,
    /// Why the fetcher cannot be given what to fetch.
    unasked: Option<String>,
    engines: Ask,
    log: Log,
    files: Arc<Files>,
    reading: Job<Read>,
    /// A result that is not used yet.
    read: Option<Outcome<Read>>,
    policies: Option<Chosen>,
    /// While others are tried, which are not kept.
    trial: Option<Trial>,
    /// Reads the last good policies.
    fallback: Job<Result<Policies, state::Error>>,
    /// Until when they are used, for the log.
    until: &'static str,
    look: Job<Result<HostFacts, kernel::Error>>,
    /// The read of host facts in progress.
    looking: Option<Looking>,
    view: View,
    published: LastKnownPorts,
    /// The ruleset compiled last; the same allocation as before if it is equal.
    ruleset: Option<Rc<Ruleset>>,
    writer: StateWriter,
    /// The digest of the policies that were saved as the last good ones.
    written: Option<u128>,
}

/// The places of fetched lists: the cache, those that were accepted, and what is to be fetched.
#[derive(Clone)]
struct Lists {
    cache: PathBuf,
    accepted: PathBuf,
    requests: PathBuf,
    /// What policies need that may come into force later.
    later: Arc<Vec<(SourceName, Fetched)>>,
}

impl Lists {
    /// Tells the fetcher what to fetch, also for policies that cannot be applied before it is fetched.
    fn ask(&self, location: &Location, policies: &Result<Policies, LoadError>) -> io::Result<()> {
        let later = self.later.iter().map(|(name, fetched)| (name, fetched));
        let text = match policies {
            Ok(policies) => {
                let fetched = policies.policy.fetched();
                let fetched = fetched.map(|(name, _, fetched)| (name, fetched));
                policy::requests(fetched.chain(later))
            }
            Err(_) => match store::requests(SourceMap::strict(), location) {
                Ok(requests) => {
                    let fetched = requests.iter().map(|(name, fetched)| (name, fetched));
                    policy::requests(fetched.chain(later))
                }
                Err(_) if !self.later.is_empty() => policy::requests(later),
                // What was asked for before stays.
                Err(_) => return Ok(()),
            },
        };
        let former = file::read(&self.requests, Accept::Regular, Limit::POLICY);
        if former.is_ok_and(|former| former == text.as_bytes()) {
            return Ok(());
        }
        file::replace(&self.requests, 0o644, text.as_bytes())
    }
}

/// The policies to enforce.
struct Chosen {
    policies: Arc<Policies>,
    origin: Origin,
    digest: u128,
}

impl Chosen {
    fn new(policies: Arc<Policies>, origin: Origin) -> Self {
        let digest = state::digest(&policies);
        Self {
            policies,
            origin,
            digest,
        }
    }
}

/// A trial of policies.
struct Trial {
    /// Those to come back to.
    former: Option<Chosen>,
}

/// A read of host facts in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looking {
    pub(super) need: Need,
    sockets: Sockets,
    /// Whether all engines had answered when it began.
    answered: bool,
    /// Whether it began in a trial: it may be about too little for other policies.
    is_in_trial: bool,
}

/// Reads the policies and watches their files; if they have errors, it watches the files of the
/// `known` policies, too.
fn read(location: &Location, lists: &Lists, files: &Files, known: Option<&Policies>) -> Read {
    let mut tries = 0;
    loop {
        let texts =
            || SourceMap::strict().with_fetched(lists.cache.clone(), Some(lists.accepted.clone()));
        let read = Policies::read_tested(&texts, location, None);
        let mut policies = read.map(|(policies, _)| policies);
        if let Ok(policies) = &mut policies {
            let warnings = policies.accept(&lists.accepted);
            policies.warnings.extend(warnings);
        }
        let unasked = lists.ask(location, &policies).err();
        let sources = match (&policies, known) {
            (Ok(policies), _) | (Err(_), Some(policies)) => Some(&policies.sources),
            (Err(wrong), None) => wrong.sources(),
        };
        // Changes before the watch began were not reported.
        let watched = !files.watch(&files::policy_places(&location.path, sources));
        tries += 1;
        if watched || tries == READS {
            return Read {
                policies,
                watched,
                unasked: unasked.map(|error| error.to_string()),
            };
        }
    }
}

impl Desired {
    pub(super) fn open(options: &Options, log: Log) -> io::Result<Self> {
        let state = options.state.clone();
        let published = match within(STATE, move || LastKnownPorts::open(&state))? {
            Some(Ok(published)) => published,
            Some(Err(error)) => {
                log.say(Level::Warning, &error.to_string());
                LastKnownPorts::default()
            }
            None => {
                let text = format!("{} does not answer", untrusted::path(&options.state));
                log.say(Level::Warning, &text);
                LastKnownPorts::default()
            }
        };
        Ok(Self {
            location: options.location.clone(),
            state: options.state.clone(),
            lists: Lists {
                cache: options.cache.clone(),
                accepted: options.state.clone(),
                requests: options.requests.clone(),
                later: Arc::default(),
            },
            unasked: None,
            engines: options.engines.clone(),
            log,
            files: Arc::new(Files::open(|| Event::Files)?),
            reading: Job::new("policies")?,
            read: None,
            policies: None,
            trial: None,
            fallback: Job::new("last-good")?,
            until: "",
            look: Job::new("host")?,
            looking: None,
            view: View::new(log),
            published,
            ruleset: None,
            writer: StateWriter::new(options.state.clone(), options.location.path.clone(), log)?,
            written: None,
        })
    }

    /// Returns the origin of the policies to enforce.
    pub(super) fn origin(&self) -> Option<Origin> {
        self.policies.as_ref().map(|chosen| chosen.origin)
    }

    /// Returns the policies to enforce.
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.policies.as_ref().map(|chosen| &chosen.policies.policy)
    }

    /// Returns the desired ruleset, once it is known.
    pub(super) fn ruleset(&self) -> Option<&Rc<Ruleset>> {
        self.ruleset.as_ref()
    }

    /// Sets which manifest of a bundle is read from now on.
    pub(super) fn pick(&mut self, pick: Pick) {
        self.location.trust.pick = pick;
    }

    /// Has the fetcher fetch what other policies need, too.
    pub(super) fn fetch_later(&mut self, later: Vec<(SourceName, Fetched)>) {
        if *self.lists.later != later {
            self.lists.later = Arc::new(later);
            self.reading.at(Instant::now());
        }
    }

    /// Takes policies in place of the present ones, until [`end_trial`](Self::end_trial).
    pub(super) fn try_out(&mut self, policies: Arc<Policies>) {
        let chosen = Chosen::new(policies, Origin::Files);
        let former = self.policies.replace(chosen);
        self.trial = Some(Trial { former });
        self.ruleset = None;
    }

    /// Keeps the policies that were tried, or takes the former ones again.
    pub(super) fn end_trial(&mut self, keep: bool) {
        let Some(Trial { former }) = self.trial.take() else {
            return;
        };
        if !keep {
            self.policies = former;
            let both = self.policies.as_ref().zip(self.view.host());
            self.ruleset = both.map(|(chosen, host)| Rc::new(chosen.policies.compile(host)));
        }
    }

    /// Schedules a read of files that have changed; those that take long are not read all the time.
    pub(super) fn read_changed_at(&mut self, when: Instant) {
        self.reading.after_rest(when);
    }

    /// Schedules a read of the policies for `when`, unless an earlier one is scheduled.
    pub(super) fn read_at(&mut self, when: Instant) {
        self.reading.at(when);
    }

    /// Returns whether a read of the last good policies is scheduled or in progress.
    pub(super) fn awaits_last_good(&self) -> bool {
        self.fallback.is_expected()
    }

    /// Returns whether there is nothing to enforce before a read of the files ends.
    pub(super) fn awaits_files(&self) -> bool {
        self.policies.is_none() && self.reading.is_running()
    }

    /// Returns whether a read of host facts is in progress.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Returns whether links and addresses are unchanged since the last read.
    pub(super) fn is_current(&self) -> bool {
        self.view.is_current()
    }

    /// Starts the reads that are due.
    ///
    /// # Errors
    /// If a thread cannot be created.
    pub(super) fn begin(&mut self, now: Instant, engines: &Engines) -> io::Result<()> {
        self.reading.begin(now, || {
            let (location, files) = (self.location.clone(), self.files.clone());
            let known = self.policies.as_ref().map(|chosen| chosen.policies.clone());
            let lists = self.lists.clone();
            Box::new(move || read(&location, &lists, &files, known.as_deref()))
        })?;
        self.fallback.begin(now, || {
            let folder = self.state.clone();
            Box::new(move || state::read(&folder))
        })?;
        let Some(looking) = self.looking else {
            return Ok(());
        };
        let published = &mut self.published;
        self.look.begin(now, || {
            let (engines, unanswered) = (engines.engines(), engines.unanswered());
            let former = match looking.sockets {
                Sockets::Served => published.former(looking.answered).to_vec(),
                _ => Vec::new(),
            };
            Box::new(move || HostFacts::with(engines, unanswered, looking.sockets, &former))
        })
    }

    /// Keeps a read of the files until [`take_up`](Self::take_up).
    pub(super) fn put_aside(&mut self, read: Outcome<Read>) {
        self.read = Some(read);
    }

    /// Uses the policies read last; policies with errors change nothing. If there are none yet and the
    /// service manager waits for rules, it falls back to the last good policies.
    pub(super) fn take_up(&mut self, record: &mut Record, waited_for: bool) {
        let Some(read) = self.read.take() else { return };
        let path = untrusted::path(&self.location.path);
        let mistakes = match read {
            Outcome::Late => Mistakes::one(&format!(
                "{path} cannot be read within 10 s: the disk or network file system does not respond"
            )),
            Outcome::Done(Read {
                policies,
                watched,
                unasked,
            }) => {
                if let Some(error) = &unasked
                    && self.unasked != unasked
                {
                    let at = untrusted::path(&self.lists.requests);
                    let text = format!("cannot tell `dfw fetch` what to fetch: {at}: {error}");
                    self.log.say(Level::Warning, &text);
                }
                self.unasked = unasked;
                if !watched {
                    self.reading.at(Instant::now() + RECHECK);
                }
                match policies {
                    Ok(policies) => {
                        self.choose(policies);
                        Mistakes::default()
                    }
                    Err(wrong) => log::mistakes(&wrong),
                }
            }
        };
        self.tell(mistakes, record);
        if self.policies.is_none() && waited_for {
            self.fall_back("until the files are valid");
        }
    }

    fn choose(&mut self, policies: Policies) {
        let chosen = Chosen::new(Arc::new(policies), Origin::Files);
        if let Some(trial) = &mut self.trial {
            trial.former = Some(chosen);
            return;
        }
        let warnings = log::warnings(&chosen.policies);
        let former = self.policies.as_ref();
        let known = former.map(|former| log::warnings(&former.policies));
        let known = known.unwrap_or_default();
        for line in warnings.lines() {
            if !known.lines().contains(line) {
                self.log.say(Level::Warning, line);
            }
        }
        self.policies = Some(chosen);
    }

    /// Logs errors of the policies that were not logged before, and their end.
    fn tell(&mut self, mistakes: Mistakes, record: &mut Record) {
        let is_right = mistakes.count() == 0;
        if !is_right {
            self.reading.at(Instant::now() + RECHECK);
        }
        if mistakes == record.mistakes {
            return;
        }
        let level = if mistakes.is_pending() {
            Level::Notice
        } else {
            Level::Error
        };
        for mistake in mistakes.lines() {
            self.log.say(level, mistake);
        }
        let text = if is_right {
            "the policies are valid again"
        } else if mistakes.is_pending() {
            "the rules in force stay; is dfw-fetch.service running?"
        } else {
            record.rejected += 1;
            "the policies have errors and are not applied: the rules in force stay; run `dfw check`"
        };
        self.log.say(Level::Notice, text);
        record.mistakes = mistakes;
    }

    /// Schedules a read of the last good policies.
    pub(super) fn fall_back(&mut self, until: &'static str) {
        self.until = until;
        self.fallback.at(Instant::now());
    }

    /// Uses the last good policies; returns whether they are to be enforced now.
    pub(super) fn take_last_good(
        &mut self,
        kept: Outcome<Result<Policies, state::Error>>,
        record: &Record,
    ) -> bool {
        let failed = self.policies.is_some();
        match kept {
            Outcome::Done(Ok(policies)) => {
                // The files may be valid by now.
                if !failed || record.failure.is_some() {
                    self.policies = Some(Chosen::new(Arc::new(policies), Origin::State));
                    self.ruleset = None;
                    let text = format!("using the last good policies {}", self.until);
                    self.log.say(Level::Warning, &text);
                }
                return true;
            }
            Outcome::Done(Err(state::Error::Missing(_))) => {}
            Outcome::Done(Err(error)) => self.log.say(Level::Error, &error.to_string()),
            Outcome::Late => {
                let text = format!("{} does not answer", untrusted::path(&self.state));
                self.log.say(Level::Error, &text);
            }
        }
        // If the kernel rejects the rules of the files, they are retried later.
        !failed
    }

    /// Starts a read of host facts for the current policies; returns whether they depend on sockets.
    pub(super) fn look(&mut self, need: Need, answered: bool) -> bool {
        let Some(chosen) = &self.policies else {
            return false;
        };
        let sockets = match chosen.policies.policy.default {
            DefaultAction::Allow => Sockets::None,
            DefaultAction::Deny => Sockets::of(&self.engines),
        };
        self.looking = Some(Looking {
            need,
            sockets,
            answered,
            is_in_trial: self.trial.is_some(),
        });
        self.look.at(Instant::now());
        sockets != Sockets::None
    }

    /// Ends the read of host facts in progress and returns it, and whether it is about the present policies.
    pub(super) fn end_look(&mut self) -> Option<(Looking, bool)> {
        let looking = self.looking.take()?;
        Some((looking, looking.is_in_trial == self.trial.is_some()))
    }

    /// Compiles the policies for the host; if reading it failed, the last known facts are used.
    ///
    /// # Errors
    /// The error of reading the host, if no earlier facts are known.
    pub(super) fn compile(
        &mut self,
        facts: Result<HostFacts, kernel::Error>,
        grants: Vec<Grant>,
        due: &mut Due,
    ) -> Result<(), kernel::Error> {
        let Some(chosen) = &self.policies else {
            return Ok(());
        };
        if let Some(wait) = self.view.take(facts)? {
            due.at(Need::Host, Instant::now() + wait);
        }
        self.view.grant(grants);
        let host = self.view.host();
        if host.is_some_and(HostView::expects_more) {
            due.at(Need::Host, Instant::now() + RETHINK);
        }
        let ruleset = host.map(|host| chosen.policies.compile(host));
        if self.ruleset.as_deref() != ruleset.as_ref() {
            self.ruleset = ruleset.map(Rc::new);
        }
        Ok(())
    }

    /// Compiles the policies for the host as it was seen last, with other grants.
    pub(super) fn grant(&mut self, grants: Vec<Grant>) {
        self.view.grant(grants);
        if let (Some(chosen), Some(host), Some(_)) =
            (&self.policies, self.view.host(), &self.ruleset)
        {
            self.ruleset = Some(Rc::new(chosen.policies.compile(host)));
        }
    }

    /// Saves grants for the next start, and waits for that for some time.
    pub(super) fn keep_grants(&self, grants: Saved, patience: Duration) {
        self.writer.write_grants(grants, patience);
    }

    /// Logs that sockets could not be watched; returns the delay before the next attempt.
    pub(super) fn fail_to_see(&mut self, error: &kernel::Error) -> Duration {
        self.view.fail(error)
    }

    /// Saves the policies and ports in force for the next boot, if they changed.
    pub(super) fn keep(&mut self, looking: Looking) {
        if let Some(ruleset) = &self.ruleset
            && looking.answered
            && let Some(ports) = self.published.others(ruleset)
        {
            self.writer.write_ports(ports);
        }
        if let Some(chosen) = &self.policies
            && chosen.origin == Origin::Files
            && self.trial.is_none()
            && self.written.replace(chosen.digest) != Some(chosen.digest)
        {
            self.writer.write_policies(chosen.policies.clone());
        }
    }
}

impl Feed for Desired {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        let mut descriptors = self.files.descriptors();
        descriptors.extend(readable([&self.reading, &self.fallback, &self.look]));
        descriptors
    }

    fn deadline(&self) -> Option<Instant> {
        [self.reading.next(), self.fallback.next(), self.look.next()]
            .into_iter()
            .flatten()
            .min()
    }

    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        self.files.drain(now, events)?;
        events.extend(self.reading.outcome(now).map(Event::Read));
        events.extend(self.fallback.outcome(now).map(Event::LastGood));
        events.extend(self.look.outcome(now).map(Event::Host));
        Ok(())
    }
}
