//! The daemon: it keeps dfw's table true, whatever happens to files, engines, links or the table.
//!
//! One loop over a closed enumeration of events. An event never does anything itself; it says what is
//! to be done and when, so that a flood of them is work once.

mod clients;
mod confine;
mod control;
mod due;
mod engines;
mod event;
mod exposition;
mod figures;
mod files;
mod inquiry;
mod job;
mod keeper;
mod log;
mod metrics;
mod monitor;
mod options;
mod published;
mod record;
mod scrapes;
mod service;
mod serving;
mod signals;
mod state;
mod table;
mod view;
mod wanted;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::host::HostView;
use crate::host::follow::Report;
use crate::host::process;
use crate::kernel::{self, Claim};
use crate::nftables::notice::Meddler;
use crate::policies::Policies;
use crate::ruleset::Ruleset;
use crate::site::{Site, Sockets};
use crate::untrusted;

use control::Control;
use due::{Backoff, Due, Need};
use engines::Engines;
use event::{Event, Question};
use exposition::Exposition;
use files::Files;
use job::{Job, Outcome, within};
use keeper::Keeper;
use log::{Level, Log};
use monitor::Links;
use published::Published;
use record::{Origin, Record};
use service::Service;
use serving::Serving;
use signals::Signals;
use table::{Change, Table};
use view::View;
use wanted::{Read, Wanted};

pub use inquiry::{Answer, ask};
pub use options::Options;
pub use scrapes::Listen;

/// How long files are given to settle: editors write them in several steps.
const SETTLE_FILES: Duration = Duration::from_millis(100);
/// How long links are given to settle: an engine makes several at once.
const SETTLE_LINKS: Duration = Duration::from_millis(20);
/// How long engines may take to say what they publish, where rules are in force that know it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon what failed is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often wrong policies are read again: what is wrong may be out of sight.
const RECHECK: Duration = Duration::from_secs(30);
/// How often the host is looked at while ports are refused that no socket of an engine holds now: a service
/// of the host may have taken one.
const RETHINK: Duration = Duration::from_mins(1);
/// How long it takes at least from one reload to the next.
const REST: Duration = Duration::from_secs(1);
/// How long what is kept may take to be read before guard begins without it.
const STATE: Duration = Duration::from_secs(5);
/// How often policies are read again at once because more of them is to be watched.
const READS: u32 = 3;

/// The exit code of a process that has panicked, as Rust has it.
const PANICKED: i32 = 101;

/// Why guard cannot go on. What is in force stays.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Something that it must watch cannot be watched.
    #[error("cannot watch: {0}")]
    Watch(#[from] io::Error),
}

impl Error {
    /// Whether other rules might have been taken.
    fn is_refusal(&self) -> bool {
        use kernel::Error::{Refused, TooLarge, TooLong, Unsound};
        let Self::Kernel(error) = self else {
            return false;
        };
        matches!(error, Refused(_) | TooLarge(_) | TooLong(_) | Unsound(_))
    }
}

/// Guards until it is told to stop.
///
/// # Errors
/// See [`Error`](enum@Error).
pub fn run(options: Options) -> Result<(), Error> {
    let log = Log::new();
    end_with_any_thread(log);
    // Before there is another thread.
    if let Err(error) = confine::confine() {
        log.say(Level::Warning, &error.to_string());
    }
    give_up_files(&options, log);
    let done = Guard::new(options, log).and_then(Guard::run);
    service::stopping();
    if let Err(error) = &done {
        log.say(Level::Error, &format!("{error}; what is in force stays"));
    }
    done
}

/// Has whatever panics end the process: without the thread that follows engines, or looks at processes,
/// guard would go on and know nothing. The service manager starts another.
fn end_with_any_thread(log: Log) {
    std::panic::set_hook(Box::new(move |panic| {
        log.say(Level::Error, &format!("{panic}; what is in force stays"));
        std::process::exit(PANICKED);
    }));
}

/// From here on only guard's own folders can be written to. Who holds a socket is seen by a thread that
/// has not given that up.
fn give_up_files(options: &Options, log: Log) {
    let state = options.state.clone();
    let prepared = within(STATE, move || state::prepare(&state));
    let answers = !matches!(prepared, Ok(None));
    let silent = || Err(io::Error::from(io::ErrorKind::TimedOut));
    if let Err(error) = prepared.and_then(|prepared| prepared.unwrap_or_else(silent)) {
        let text = format!("{}: {error}", untrusted::path(&options.state));
        log.say(Level::Warning, &text);
    }
    // To look at one that does not answer would take for ever.
    let mut folders = options.folders();
    folders.retain(|folder| answers || *folder != options.state);
    let port = match options.listen {
        Some(Listen::Tcp(address)) => Some(address.port()),
        _ => None,
    };
    let given_up = process::look_apart()
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let given_up = confine::give_up_files(&folders, port);
            given_up.map_err(|error| error.to_string())
        });
    match given_up {
        Ok(true) => {}
        Ok(false) => log.say(
            Level::Info,
            "this kernel has no Landlock: files are left to their modes",
        ),
        Err(error) => log.say(Level::Warning, &error),
    }
}

/// How far guard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Engines are still to report before anything is changed.
    Waiting,
    /// It has yet to do its first work.
    Starting,
    /// It was told to read everything again, and has yet to do so.
    Reloading,
    /// It has done what the service manager waits for.
    Running,
}

/// A look at the host that has begun.
#[derive(Debug, Clone, Copy)]
struct Looking {
    need: Need,
    sockets: Sockets,
    /// Whether all engines had answered when it began.
    answered: bool,
}

struct Guard {
    options: Options,
    log: Log,
    table: Table,
    signals: Signals,
    files: Arc<Files>,
    sockets: Files,
    reading: Job<Read>,
    /// What was read and is yet to be taken up.
    read: Option<Outcome<Read>>,
    /// Reads the policies that were kept.
    fallback: Job<Result<Policies, state::Error>>,
    /// How long they are to be used.
    until: &'static str,
    links: Links,
    engines: Engines,
    /// None where no engine is asked.
    serving: Option<Serving>,
    look: Job<Result<Site, kernel::Error>>,
    /// The look at the host that is being taken.
    looking: Option<Looking>,
    view: View,
    published: Published,
    control: Option<Control>,
    /// None where nobody is given figures.
    exposition: Option<Exposition>,
    service: Service,
    due: Due,
    retry: Backoff,
    wanted: Option<Wanted>,
    /// What was made of it last.
    ruleset: Option<Ruleset>,
    keeper: Keeper,
    /// The digest of the policies that the keeper was given last.
    kept: Option<u128>,
    phase: Phase,
    /// When it was last told to read everything again, or will do so.
    reload: Option<Instant>,
    record: Record,
}

impl Guard {
    fn new(options: Options, log: Log) -> Result<Self, Error> {
        let (table, claim) = Table::open(options.own)?;
        // Signals first: from here on none of them ends guard in the middle of something.
        let signals = Signals::open()?;
        let unheard = |at: &dyn std::fmt::Display, error: io::Error| {
            let text = format!("cannot listen at {at}: {error}");
            log.say(Level::Warning, &text);
        };
        let control = Control::open(&options.socket);
        let control = control.map_err(|error| unheard(&untrusted::path(&options.socket), error));
        let exposition = Exposition::open(&options, log)?;
        let state = options.state.clone();
        let published = match within(STATE, move || Published::open(&state))? {
            Some(Ok(published)) => published,
            Some(Err(error)) => {
                log.say(Level::Warning, &error.to_string());
                Published::default()
            }
            None => {
                let text = format!("{} does not answer", untrusted::path(&options.state));
                log.say(Level::Warning, &text);
                Published::default()
            }
        };
        let mut guard = Self {
            table,
            signals,
            files: Arc::new(Files::open()?),
            sockets: Files::open()?,
            reading: Job::new("policies")?,
            read: None,
            fallback: Job::new("last-good")?,
            until: "",
            links: Links::open()?,
            engines: Engines::follow(&options.engines)?,
            serving: if options.engines.is_nobody() {
                None
            } else {
                Some(Serving::open()?)
            },
            look: Job::new("host")?,
            looking: None,
            view: View::new(log),
            published,
            control: control.ok(),
            exposition,
            service: Service::new(),
            due: Due::default(),
            retry: Backoff::new(RETRY.0, RETRY.1),
            wanted: None,
            ruleset: None,
            keeper: Keeper::new(options.state.clone(), options.path.clone(), log)?,
            kept: None,
            phase: Phase::Starting,
            reload: None,
            record: Record {
                since: Some(record::now()),
                owned: claim != Claim::Unknown,
                ..Record::default()
            },
            options,
            log,
        };
        let text = match claim {
            Claim::Unknown if guard.options.own => {
                "this kernel knows no owners of tables: others can change ours, and it is put back"
            }
            Claim::Unknown => "others can change the table, and it is put back",
            Claim::Nothing => "the table will be ours alone",
            Claim::Ours => "the table that is in force is ours alone",
            Claim::Plain => "the table that is in force will be replaced by one of our own",
        };
        log.say(Level::Info, text);
        let now = Instant::now();
        let in_force = guard.table.is_there()?;
        // Rules that know what engines publish are better than those made without asking.
        if in_force && !guard.engines.complete() {
            guard.phase = Phase::Waiting;
            guard.reading.at(now + PATIENCE);
            let text = "waiting until engines have answered: what is in force stays";
            log.say(Level::Info, text);
        } else {
            guard.reading.at(now);
        }
        guard.watch_engines();
        Ok(guard)
    }

    fn run(mut self) -> Result<(), Error> {
        loop {
            self.wait()?;
            let mut events = Vec::new();
            self.signals.drain(&mut events);
            if self.files.drain()? {
                events.push(Event::Files);
            }
            if self.sockets.drain()? {
                events.push(Event::EngineSocket);
            }
            self.links.drain(&mut events)?;
            if let Some(monitor) = &mut self.table.monitor {
                monitor.drain(&mut events)?;
            }
            self.engines.drain(&mut events);
            if let Some(serving) = &self.serving {
                serving.drain(&mut events);
            }
            let now = Instant::now();
            if let Some(control) = &mut self.control {
                control.drain(now, &mut events);
            }
            if let Some(exposition) = &mut self.exposition {
                exposition.drain(now, &mut events);
            }
            for event in events {
                if matches!(event, Event::Stop) {
                    let text = "told to stop: the rules in force stay";
                    self.log.say(Level::Notice, text);
                    return Ok(());
                }
                self.take(event, now);
            }
            self.read(now)?;
            self.take_look(now)?;
            self.service.alive(now);
            let need = match self.looking {
                None => self.due.take(now),
                Some(_) if self.ruleset.is_some() => self.due.take_of_table(now),
                Some(_) => None,
            };
            match need {
                Some(Need::Links) if self.view.is_current() => {}
                Some(need) => self.work(need),
                None => {}
            }
            if let Some(exposition) = &mut self.exposition {
                exposition.work(now, &self.record)?;
            }
        }
    }

    /// Waits until something has happened or is due.
    fn wait(&self) -> io::Result<()> {
        let mut descriptors = self.signals.pipes().to_vec();
        descriptors.extend([self.files.as_fd(), self.sockets.as_fd(), self.links.as_fd()]);
        descriptors.extend([
            self.engines.as_fd(),
            self.reading.as_fd(),
            self.fallback.as_fd(),
            self.look.as_fd(),
        ]);
        descriptors.extend(self.serving.as_ref().map(AsFd::as_fd));
        descriptors.extend(self.table.monitor.as_ref().map(AsFd::as_fd));
        let descriptors = descriptors.into_iter().map(|fd| (fd, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = descriptors
            .chain(self.control.iter().flat_map(Control::sockets))
            .chain(self.exposition.iter().flat_map(Exposition::sockets))
            .map(|(descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        let control = self.control.as_ref().and_then(Control::next);
        let exposition = self.exposition.as_ref().and_then(Exposition::next);
        let due = match self.looking {
            None => self.due.next(),
            Some(_) if self.ruleset.is_some() => self.due.next_of_table(),
            Some(_) => None,
        };
        let next = [
            due,
            self.reading.next(),
            self.fallback.next(),
            self.look.next(),
            self.service.next(),
            control,
            exposition,
        ];
        let next = next.into_iter().flatten().min();
        let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes what is to be done about an event.
    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Files => self.reading.at(now + SETTLE_FILES),
            Event::EngineSocket => {
                self.engines.wake();
                self.watch_engines();
            }
            Event::Links { new } => {
                self.host_changed(Need::Links, now + SETTLE_LINKS);
                // A container's link comes before its ports are open.
                if new {
                    self.stir();
                }
            }
            Event::Serving(Ok(())) => self.host_changed(Need::Host, now),
            Event::Serving(Err(error)) => {
                let when = now + self.view.fail(&error);
                self.host_changed(Need::Host, when);
            }
            Event::Table(meddler) => self.meddled(meddler, now),
            Event::Lost => {
                self.log.say(
                    Level::Warning,
                    "notices of the kernel were lost: looking at everything again",
                );
                self.host_changed(Need::Host, now);
            }
            Event::Engine { address, report } => {
                if matches!(report, Report::Stir) {
                    self.stir();
                }
                let (text, changed) = self.engines.take(&address, report);
                if let Some(serving) = &self.serving {
                    serving.know(self.engines.engines(), self.engines.are_busy());
                }
                if let Some(text) = text {
                    self.log.say(Level::Notice, &text);
                }
                if self.phase == Phase::Waiting && self.engines.complete() {
                    self.reading.at(now);
                } else if changed {
                    self.host_changed(Need::Host, now);
                }
            }
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
        // What ends the waiting looks at the whole host.
        if self.phase != Phase::Waiting {
            self.due.at(need, when);
        }
    }

    fn stir(&self) {
        if let Some(serving) = &self.serving {
            serving.stir();
        }
    }

    fn reload(&mut self, now: Instant) {
        // Many requests are one reading, and soon.
        if self.reload.is_some_and(|planned| planned > now) {
            return;
        }
        let when = self.reload.map_or(now, |last| now.max(last + REST));
        self.reload = Some(when);
        if self.phase == Phase::Reloading {
            // What is being read may have changed since.
            return self.reading.at(when);
        }
        self.log.say(Level::Info, "reading everything again");
        self.phase = match self.phase {
            Phase::Waiting | Phase::Starting => Phase::Starting,
            Phase::Running | Phase::Reloading => {
                service::reloading();
                Phase::Reloading
            }
        };
        self.engines.wake();
        self.reading.at(when);
    }

    fn meddled(&mut self, meddler: Option<Meddler>, now: Instant) {
        let wait = self.table.meddled(meddler, now);
        if self.ruleset.is_some() {
            self.due.at(Need::Table, now + wait);
        } else if self.phase == Phase::Waiting {
            // Rules that know less are better than those that others have made.
            self.reading.at(now + wait);
        }
    }

    fn answer(&mut self, number: usize, question: Question, now: Instant) {
        let answer = match question {
            Question::Status => {
                let unanswered = self.engines.unanswered();
                let unanswered: Vec<String> = unanswered.iter().map(ToString::to_string).collect();
                let path = untrusted::path(&self.options.path);
                self.record.document(&path, &unanswered).to_string()
            }
            Question::Reload => {
                self.reload(now);
                "{\"reload\":true}".to_owned()
            }
            Question::Refused(why) => serde_json::json!({ "error": why }).to_string(),
        };
        if let Some(control) = &mut self.control {
            control.answer(number, answer + "\n");
        }
    }

    /// Does what is due, which takes a look at the host if it concerns more than the table.
    fn work(&mut self, need: Need) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Starting;
        }
        if need == Need::Policies
            && let Some(read) = self.read.take()
        {
            self.take_up(read);
        }
        if self.wanted.is_none() || need == Need::Table && self.ruleset.is_some() {
            let done = self.install(need);
            self.done(need, done);
        } else {
            self.look(need);
        }
    }

    /// Has the host looked at for the policies that are wanted.
    fn look(&mut self, need: Need) {
        if let Some(wanted) = &self.wanted {
            let sockets = wanted.sockets(&self.options.engines);
            if let Some(serving) = &self.serving {
                serving.want(sockets != Sockets::None);
            }
            let answered = self.engines.have_answered();
            self.looking = Some(Looking {
                need,
                sockets,
                answered,
            });
            self.look.at(Instant::now());
        }
    }

    /// Begins to look at the host if it is to be looked at, and takes what was found.
    fn take_look(&mut self, now: Instant) -> io::Result<()> {
        match self.look.outcome(now) {
            Some(Outcome::Done(found)) => {
                if let Some(Looking { need, answered, .. }) = self.looking.take() {
                    let done = self.settle(need, found, answered);
                    self.done(need, done);
                }
            }
            Some(Outcome::Late) => {
                let text = "the look at this host takes longer than ten seconds: what is known of it stays";
                self.log.say(Level::Warning, text);
            }
            None => {}
        }
        let Some(Looking {
            sockets, answered, ..
        }) = self.looking
        else {
            return Ok(());
        };
        let (engines, published) = (&self.engines, &mut self.published);
        self.look.begin(now, || {
            let (engines, unanswered) = (engines.engines(), engines.unanswered());
            let former = match sockets {
                Sockets::Served => published.former(answered).to_vec(),
                _ => Vec::new(),
            };
            Box::new(move || Site::with(engines, unanswered, sockets, &former))
        })
    }

    /// Tells how it went; what has failed is due again later.
    fn done(&mut self, need: Need, done: Result<(), Error>) {
        let failed = done.is_err();
        if let Err(error) = done {
            self.fail(need, &error);
        }
        if !failed && !self.is_refused() {
            self.retry.reset();
            if self.record.failure.take().is_some() {
                self.log.say(Level::Notice, "it works again");
            }
        }
        if let Some(exposition) = &mut self.exposition {
            exposition.begin();
        }
        let line = self.record.line();
        match self.phase {
            Phase::Running => service::status(&line),
            // Whoever waits for rules must not start without them.
            Phase::Starting | Phase::Waiting if failed => service::status(&line),
            // What it was told to do is yet to be done, or what is kept is yet to be read.
            _ if need != Need::Policies || self.fallback.is_expected() => service::status(&line),
            Phase::Starting | Phase::Waiting | Phase::Reloading => {
                self.phase = Phase::Running;
                self.service.ready(&line);
            }
        }
    }

    /// Tells of a failure. If nothing at all is in force because the kernel refuses what the files say,
    /// it may take what it took before.
    fn fail(&mut self, need: Need, error: &Error) {
        let wait = self.retry.next();
        let open = self.table.is_there().is_ok_and(|there| !there);
        let from_files = self.origin() == Some(Origin::Files);
        let other = open && from_files && error.is_refusal();
        let stays = match (open, from_files) {
            (true, true) => "no rules are in force",
            (true, false) => "not even the last good policies are in force",
            (false, _) => "what is in force stays",
        };
        let text = format!("{error}; {stays}, next try in {wait:?}");
        self.log.say(Level::Error, &text);
        self.record.failure = Some(log::one_line(&error.to_string()));
        let again = Instant::now() + wait;
        if other {
            self.reading.at(again);
            self.fall_back("until the kernel takes the files");
        } else {
            self.due.at(need, again);
        }
    }

    fn origin(&self) -> Option<Origin> {
        self.wanted.as_ref().map(|wanted| wanted.origin)
    }

    /// Whether the files are right, and the kernel took older policies only.
    fn is_refused(&self) -> bool {
        self.origin() == Some(Origin::State) && self.record.mistakes.count() == 0
    }

    /// Makes rules of the policies and what was found of the host, and brings them into force.
    fn settle(
        &mut self,
        need: Need,
        found: Result<Site, kernel::Error>,
        answered: bool,
    ) -> Result<(), Error> {
        let Some(wanted) = &self.wanted else {
            return Ok(());
        };
        if let Some(wait) = self.view.take(found)? {
            self.due.at(Need::Host, Instant::now() + wait);
        }
        let host = self.view.host();
        if host.is_some_and(HostView::expects_more) {
            self.due.at(Need::Host, Instant::now() + RETHINK);
        }
        self.ruleset = host.map(|host| wanted.policies.compile(host));
        self.install(need)?;
        self.keep(answered);
        Ok(())
    }

    /// Brings the wanted ruleset into force if it is not.
    fn install(&mut self, need: Need) -> Result<(), Error> {
        let Some(ruleset) = &self.ruleset else {
            return Ok(());
        };
        let path = untrusted::path(&self.options.path);
        let stamp = || stamp(&path);
        let (change, again) = self.table.install(ruleset, stamp, need == Need::Table)?;
        if let Some(wait) = again {
            self.due.at(Need::Table, Instant::now() + wait);
        }
        self.record.origin = self.origin();
        let (level, text) = match change {
            Change::Nothing => return Ok(()),
            Change::Made => {
                let rules: usize = ruleset.chains.values().map(|chain| chain.rules.len()).sum();
                let chains = ruleset.chains.len();
                let what = match self.origin() {
                    Some(Origin::State) => "the last good policies of ",
                    _ => "",
                };
                let text = format!("in force: {what}{path} ({rules} rules in {chains} chains)");
                (Level::Notice, text)
            }
            Change::PutBack(repair) => {
                let by_whom = record::who(repair.by.as_ref());
                let took = repair.took;
                self.record.repairs += 1;
                self.record.repair = Some(repair);
                let text = format!("put back: {by_whom} had changed the table, for {took:.1?}");
                (Level::Warning, text)
            }
        };
        self.log.say(level, &text);
        self.record.applied = Some(record::now());
        self.record.changes += 1;
        Ok(())
    }

    /// Has the policies that are in force now kept, if others are.
    fn keep(&mut self, answered: bool) {
        if let Some(ruleset) = &self.ruleset
            && answered
            && let Some(ports) = self.published.others(ruleset)
        {
            self.keeper.keep_ports(ports);
        }
        if let Some(wanted) = &self.wanted
            && wanted.origin == Origin::Files
            && self.kept.replace(wanted.digest) != Some(wanted.digest)
        {
            self.keeper.keep_policies(wanted.policies.clone());
        }
    }

    /// Watches where the engines' sockets are, or would be.
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

/// Who put the table there, kept as its comment.
fn stamp(path: &str) -> String {
    let path = path.replace(
        |c: char| matches!(c, '"' | '\\') || untrusted::is_deceptive(c),
        "?",
    );
    let now = record::now();
    let mut stamp = format!(
        "dfw {} at {now} from {path} (guard)",
        env!("CARGO_PKG_VERSION")
    );
    stamp.truncate(stamp.floor_char_boundary(crate::ruleset::check::COMMENT_MAX));
    stamp
}
