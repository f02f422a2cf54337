//! The event loop: one thread, a closed enumeration of events, and the needs that they cause.
//!
//! Each turn polls all feeds, drains their events, starts due work in other threads, and handles the most
//! comprehensive due need. An event only schedules a need, so a flood of events causes the work once.
//!
//! | phase     | `Table` (others changed it)             | `Links`, `Host`        | `Policies` are read              | a need is done        |
//! |-----------|-----------------------------------------|------------------------|----------------------------------|-----------------------|
//! | waiting   | has policies read now: rules that know less are better than those of others | – (all is looked at soon) | when engines have answered, or after 10 s; then starting | – |
//! | starting  | restored once there is a ruleset        | looked at              | at once                          | `READY=1`; then running |
//! | reloading | restored                                | looked at              | at once                          | `READY=1`; then running |
//! | running   | restored                                | looked at              | when files change; every 30 s while wrong | status line  |
//!
//! While a read of the host is in progress, only the table is handled. A need that fails is due again after a
//! growing delay.

mod answers;
mod site;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::follow::Report;
use crate::kernel::{self, Claim};
use crate::nftables::notice::Modifier;
use crate::site::HostFacts;
use crate::untrusted;
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use super::desired::{Desired, READS};
use super::due::{Backoff, Due, Need};
use super::enforce::{Change, Enforcement, stamp};
use super::error::Error;
use super::feeds::control::Control;
use super::feeds::engines::Engines;
use super::feeds::event::Event;
use super::feeds::feed::Feed;
use super::feeds::files::{self, Files};
use super::feeds::job::Outcome;
use super::feeds::links::Links;
use super::feeds::signals::Signals;
use super::feeds::sockets::{Reason, Serving};
use super::feeds::sources::Sources;
use super::grants::Grants;
use super::log::{self, Level, Log};
use super::metrics::Exposition;
use super::options::Options;
use super::record::{self, Origin, Record};
use super::service::{self, Service};
use super::site::Site;

/// The settling time of files: editors write them in several steps.
const SETTLE_FILES: Duration = Duration::from_millis(100);
/// The settling time of links: an engine creates several at once.
const SETTLE_LINKS: Duration = Duration::from_millis(20);
/// How long guard waits at startup for answers of engines, if a table of dfw is in force.
const PATIENCE: Duration = Duration::from_secs(10);
/// The delay before a retry, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The shortest time between two reloads.
const REST: Duration = Duration::from_secs(1);

/// How far guard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for the first answers of engines; nothing is changed.
    Waiting,
    /// The first ruleset is not in force yet.
    Starting,
    /// A reload is in progress.
    Reloading,
    /// Ready, as reported to the service manager.
    Running,
}

pub(super) struct Guard {
    path: String,
    log: Log,
    phase: Phase,
    due: Due,
    retry: Backoff,
    /// The time of the last or next reload.
    reload: Option<Instant>,
    desired: Desired,
    /// What the fetcher says of lists and names.
    sources: Sources,
    enforcement: Enforcement,
    grants: Grants,
    /// `None` if the policies are on this host.
    site: Option<Site>,
    signals: Signals,
    /// Watches the directories of the engines' sockets.
    sockets: Arc<Files>,
    links: Links,
    engines: Engines,
    /// `None` if no engine is asked.
    serving: Option<Serving>,
    control: Option<Control>,
    /// `None` if metrics are disabled.
    exposition: Option<Exposition>,
    service: Service,
    record: Record,
}

impl Guard {
    pub(super) fn new(options: &Options, log: Log) -> Result<Self, Error> {
        let site = Site::open(options, log).map_err(Error::Site)?;
        let (enforcement, claim) = Enforcement::open(options.own)?;
        // Signals first: from here on none of them interrupts a transaction.
        let signals = Signals::open()?;
        let control = Control::open(&options.socket);
        let control = control.map_err(|error| {
            let at = untrusted::path(&options.socket);
            log.say(Level::Warning, &format!("cannot listen on {at}: {error}"));
        });
        let exposition = Exposition::open(options, log)?;
        let asks_nobody = options.engines.is_nobody();
        let mut guard = Self {
            path: options.shown(),
            log,
            phase: Phase::Starting,
            due: Due::default(),
            retry: Backoff::new(RETRY.0, RETRY.1),
            reload: None,
            desired: Desired::open(options, log)?,
            sources: Sources::new(options.cache.clone())?,
            enforcement,
            grants: Grants::open(options.state.clone(), log)?,
            site,
            signals,
            sockets: Arc::new(Files::open(|| Event::EngineSocket)?),
            links: Links::open()?,
            engines: Engines::follow(&options.engines)?,
            serving: (!asks_nobody).then(Serving::open).transpose()?,
            control: control.ok(),
            exposition,
            service: Service::new(),
            record: Record {
                since: Some(record::now()),
                owned: claim != Claim::Unknown,
                ..Record::default()
            },
        };
        let text = match claim {
            Claim::Unknown if options.own => {
                "this kernel has no table ownership (Linux 6.9): other programs can modify the table; guard restores it"
            }
            Claim::Unknown => {
                "the table has no owner: other programs can modify it; guard restores it"
            }
            Claim::Nothing => "the table will be owned: only this process can modify it",
            Claim::Ours => "took ownership of the table in force: only this process can modify it",
            Claim::Plain => "the table in force has no owner: it will be replaced by an owned one",
        };
        log.say(Level::Info, text);
        guard.pick();
        let now = Instant::now();
        // The rules in force know published ports; do not replace them before engines have answered.
        if guard.enforcement.is_there()? && !guard.engines.complete() {
            guard.phase = Phase::Waiting;
            guard.desired.read_at(now + PATIENCE);
            let text = "waiting for container engines: the rules in force stay";
            log.say(Level::Info, text);
        } else {
            guard.desired.read_at(now);
        }
        guard.watch_engines();
        Ok(guard)
    }

    /// Runs until a signal stops it.
    pub(super) fn run(mut self) -> Result<(), Error> {
        loop {
            self.wait()?;
            let now = Instant::now();
            let mut events = Vec::new();
            for feed in self.feeds_mut() {
                feed.drain(now, &mut events)?;
            }
            for event in events {
                if matches!(event, Event::Stop) {
                    let text = "stopping: the rules in force stay";
                    self.log.say(Level::Notice, text);
                    return Ok(());
                }
                self.take(event, now);
            }
            self.desired.begin(now, &self.engines)?;
            self.sources.begin(now)?;
            self.begin_site(now)?;
            if self.grants.is_save_due(now) {
                self.desired
                    .keep_grants(self.grants.saved(), Duration::ZERO);
            }
            self.service.alive(now);
            if let Some(need) = self.take_need(now) {
                self.work(need);
            }
            if let Some(exposition) = &mut self.exposition {
                exposition.work(now, &self.record)?;
            }
        }
    }

    /// Returns all feeds, signals first, so that a stop is handled first.
    fn feeds(&self) -> [&dyn Feed; 12] {
        [
            &self.signals,
            &self.sockets,
            &self.links,
            &self.enforcement,
            &self.grants,
            &self.engines,
            &self.serving,
            &self.control,
            &self.exposition,
            &self.sources,
            &self.site,
            &self.desired,
        ]
    }

    fn feeds_mut(&mut self) -> [&mut dyn Feed; 12] {
        [
            &mut self.signals,
            &mut self.sockets,
            &mut self.links,
            &mut self.enforcement,
            &mut self.grants,
            &mut self.engines,
            &mut self.serving,
            &mut self.control,
            &mut self.exposition,
            &mut self.sources,
            &mut self.site,
            &mut self.desired,
        ]
    }

    /// Waits for an event or the next deadline.
    fn wait(&self) -> io::Result<()> {
        let feeds = self.feeds();
        let mut polled: Vec<PollFd<'_>> = feeds
            .iter()
            .flat_map(|feed| feed.descriptors())
            .map(|(descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        let deadlines = feeds.iter().filter_map(|feed| feed.deadline());
        let next = deadlines
            .chain(self.next_need())
            .chain(self.service.next())
            .min();
        let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Schedules the needs that an event causes.
    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Files => self.desired.read_changed_at(now + SETTLE_FILES),
            Event::Sources => self.sources.read_soon(now),
            Event::SourcesRead => self.record.sources = self.sources.sources().to_vec(),
            event @ (Event::SiteFiles | Event::Examined(_) | Event::Probed(_)) => {
                self.take_from_site(event, now);
            }
            Event::Read(read) => {
                self.desired.put_aside(read);
                self.due.at(Need::Policies, now);
            }
            Event::LastGood(kept) => {
                if self.desired.take_last_good(kept, &self.record) {
                    self.due.at(Need::Policies, now);
                }
            }
            Event::Host(Outcome::Done(facts)) => self.host_read(facts),
            Event::Host(Outcome::Late) => {
                let text = "reading interfaces, addresses and sockets takes longer than 10 s: keeping the last known state";
                self.log.say(Level::Warning, text);
            }
            Event::EngineSocket => {
                self.engines.wake();
                self.watch_engines();
            }
            Event::Links { new } => {
                self.host_changed(Need::Links, now + SETTLE_LINKS);
                // A container's link appears before its ports are open.
                if new {
                    self.stir(Reason::Link);
                }
            }
            Event::Serving(Ok(())) => self.host_changed(Need::Host, now),
            Event::Serving(Err(error)) => {
                let when = now + self.desired.fail_to_see(&error);
                self.host_changed(Need::Host, when);
            }
            Event::Table(modifier) => self.note_modifier(modifier, now),
            Event::Lost => {
                self.log.say(
                    Level::Warning,
                    "netlink notifications lost (ENOBUFS): resynchronising",
                );
                self.host_changed(Need::Host, now);
            }
            Event::Engine { address, report } => self.engine_reported(&address, report, now),
            // The kernel has ended access, unless the machine was suspended.
            Event::GrantsEnd => _ = self.grants.end() && self.regrant(Duration::ZERO).is_ok(),
            Event::Reload => self.reload(now),
            Event::Question(number, question) => self.answer(number, question, now),
            Event::Scrape(number, request) => {
                if let Some(exposition) = &mut self.exposition {
                    exposition.take(number, request, now, &self.record);
                }
            }
            Event::Stop => {}
        }
    }

    fn host_changed(&mut self, need: Need, when: Instant) {
        // The end of the waiting phase reads the whole host anyway.
        if self.phase != Phase::Waiting {
            self.due.at(need, when);
        }
    }

    fn stir(&self, reason: Reason) {
        if let Some(serving) = &self.serving {
            serving.stir(reason);
        }
    }

    fn engine_reported(&mut self, address: &str, report: Report, now: Instant) {
        if matches!(report, Report::Changing) {
            self.stir(Reason::Event);
        }
        let (text, changed) = self.engines.take(address, report);
        if let Some(serving) = &self.serving {
            serving.know(self.engines.engines(), self.engines.are_busy());
        }
        if let Some(text) = text {
            self.log.say(Level::Notice, &text);
        }
        if self.phase == Phase::Waiting && self.engines.complete() {
            self.desired.read_at(now);
        } else if changed {
            self.host_changed(Need::Host, now);
        }
    }

    fn reload(&mut self, now: Instant) {
        // Merge requests into one reload.
        if self.reload.is_some_and(|planned| planned > now) {
            return;
        }
        let when = self.reload.map_or(now, |last| now.max(last + REST));
        self.reload = Some(when);
        if self.phase == Phase::Reloading {
            // Files may have changed since the read began.
            return self.desired.read_at(when);
        }
        self.log
            .say(Level::Info, "reloading policies, engines and interfaces");
        self.phase = match self.phase {
            Phase::Waiting | Phase::Starting => Phase::Starting,
            Phase::Running | Phase::Reloading => {
                service::reloading();
                Phase::Reloading
            }
        };
        self.engines.wake();
        self.desired.read_at(when);
    }

    fn note_modifier(&mut self, modifier: Option<Modifier>, now: Instant) {
        let wait = self.enforcement.note_modifier(modifier, now);
        if self.desired.ruleset().is_some() {
            self.due.at(Need::Table, now + wait);
        } else if self.phase == Phase::Waiting {
            // Rules without published ports are better than a modified table.
            self.desired.read_at(now + wait);
        }
    }

    /// Returns when the next need is due that can be handled now.
    fn next_need(&self) -> Option<Instant> {
        if !self.desired.is_looking() {
            return self.due.next();
        }
        self.desired.ruleset()?;
        self.due.next_of_table()
    }

    /// Takes the most comprehensive due need that can be handled now.
    fn take_need(&mut self, now: Instant) -> Option<Need> {
        if self.desired.is_looking() {
            self.desired.ruleset()?;
            return self.due.take_of_table(now);
        }
        let need = self.due.take(now)?;
        (need != Need::Links || !self.desired.is_current()).then_some(need)
    }

    /// Handles a need; needs beyond the table start a read of the host.
    fn work(&mut self, need: Need) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Starting;
        }
        if need == Need::Policies {
            let waited_for = self.phase != Phase::Running;
            self.desired.take_up(&mut self.record, waited_for);
            if let Some(policy) = self.desired.policy() {
                self.sources.follow(policy, Instant::now());
                self.record.sources = self.sources.sources().to_vec();
                // What a trial ends would not come back with the rules.
                if !self.is_trial() && self.grants.follow(policy) {
                    self.desired
                        .keep_grants(self.grants.saved(), Duration::ZERO);
                }
                self.record.grants = self.grants.count();
            }
        }
        let is_enough = need == Need::Table && self.desired.ruleset().is_some();
        if self.desired.origin().is_none() || is_enough {
            let done = self.enforce(need);
            self.done(need, done);
            return;
        }
        let answered = self.engines.have_answered();
        let watches = self.desired.look(need, answered);
        if let Some(serving) = &self.serving {
            serving.want(watches);
        }
    }

    /// Continues a need after the read of the host.
    fn host_read(&mut self, facts: Result<HostFacts, kernel::Error>) {
        let Some((looking, is_of_these)) = self.desired.end_look() else {
            return;
        };
        if !is_of_these {
            return self.due.at(looking.need, Instant::now());
        }
        let grants = self.grants.in_force();
        let compiled = self.desired.compile(facts, grants, &mut self.due);
        let done = compiled.map_err(Error::from).and_then(|()| {
            self.enforce(looking.need)?;
            self.desired.keep(looking);
            Ok(())
        });
        self.enforced_for_site(done.is_ok());
        self.done(looking.need, done);
    }

    /// Brings the desired ruleset into force if it is not.
    fn enforce(&mut self, need: Need) -> Result<(), Error> {
        let Some(ruleset) = self.desired.ruleset() else {
            return Ok(());
        };
        let (path, mark) = (&self.path, self.mark());
        let stamp = || stamp(path, &mark);
        let (change, again) = self
            .enforcement
            .enforce(ruleset, stamp, need == Need::Table)?;
        if let Some(wait) = again {
            self.due.at(Need::Table, Instant::now() + wait);
        }
        self.record.origin = self.desired.origin();
        let (level, text) = match change {
            Change::Nothing => return Ok(()),
            Change::Made => {
                let rules: usize = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
                let chains = ruleset.chains.len();
                let what = match self.record.origin {
                    Some(Origin::State) => "the last good policies of ",
                    _ => "",
                };
                let text = format!("in force: {what}{path} ({rules} rules in {chains} chains)");
                (Level::Notice, text)
            }
            Change::PutBack(repair) => {
                let took = repair.milliseconds();
                let by = record::process(repair.by.as_ref());
                self.record.repairs += 1;
                self.record.repair = Some(repair);
                let text = format!("restored after {took} ms: the table was modified by {by}");
                (Level::Warning, text)
            }
        };
        self.log.say(level, &text);
        self.record.applied = Some(record::now());
        self.record.changes += 1;
        Ok(())
    }

    /// Reports the result to log and service manager; schedules a retry after a failure.
    fn done(&mut self, need: Need, done: Result<(), Error>) {
        let failed = done.is_err();
        if let Err(error) = done {
            self.fail(need, &error);
        }
        if !failed && !self.is_rejected() {
            self.retry.reset();
            if self.record.failure.take().is_some() {
                self.log.say(Level::Notice, "recovered from the last error");
            }
        }
        if let Some(exposition) = &mut self.exposition {
            exposition.begin();
        }
        let line = self.record.line();
        match self.phase {
            Phase::Running => service::status(&line),
            // Not ready: units ordered after guard must not start without rules.
            Phase::Starting | Phase::Waiting if failed || self.desired.awaits_files() => {
                service::status(&line);
            }
            // The reload is not done, or the last good policies are not read yet.
            _ if need != Need::Policies || self.desired.awaits_last_good() => {
                service::status(&line);
            }
            Phase::Starting | Phase::Waiting | Phase::Reloading => {
                self.phase = Phase::Running;
                self.service.ready(&line);
            }
        }
    }

    /// Logs a failure and schedules a retry. If no rules are in force because the kernel rejects those
    /// of the files, falls back to the last good policies.
    fn fail(&mut self, need: Need, error: &Error) {
        let wait = self.retry.next();
        let open = self.enforcement.is_there().is_ok_and(|there| !there);
        let from_files = self.desired.origin() == Some(Origin::Files);
        let other = open && from_files && error.is_rejection();
        let stays = match (open, from_files) {
            (true, true) => "no rules are in force",
            (true, false) => "the last good policies are not in force either",
            (false, _) => "the rules in force stay",
        };
        let text = format!("{error}; {stays}, retrying in {wait:?}");
        self.log.say(Level::Error, &text);
        self.record.failure = Some(log::one_line(&error.to_string()));
        let again = Instant::now() + wait;
        if other {
            self.desired.read_at(again);
            self.desired
                .fall_back("until the kernel accepts the rules of the files");
        } else {
            self.due.at(need, again);
        }
    }

    /// Returns whether the files are valid but the kernel accepted only the last good policies.
    fn is_rejected(&self) -> bool {
        self.desired.origin() == Some(Origin::State) && self.record.mistakes.count() == 0
    }

    /// Watches the directories of the engines' sockets.
    fn watch_engines(&self) {
        for _ in 0..READS {
            let mut places = files::Places::new();
            for address in self.engines.addresses() {
                files::add_engine(&mut places, address);
            }
            if !self.sockets.watch(&places) {
                break;
            }
        }
    }
}
