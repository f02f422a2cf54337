//! What is to be in force: policies → this host → ruleset, and the last good policies where the files are wrong.
//!
//! Whatever reads a disk or looks at processes does so in a thread of its own. The loop begins what is due
//! ([`Desired::begin`]), hears of the outcome as of any other event, and takes it up when its turn comes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::HostView;
use crate::host::docker::Ask;
use crate::kernel;
use crate::policy::DefaultAction;
use crate::ruleset::Ruleset;
use crate::site::{HostFacts, Sockets};
use crate::store::Policies;
use crate::text::SourceMap;
use crate::untrusted;

use super::due::{Due, Need};
use super::feeds::engines::Engines;
use super::feeds::event::{Event, Read};
use super::feeds::feed::{Feed, Polled, readable};
use super::feeds::files::{self, Files};
use super::feeds::job::{Job, Outcome, within};
use super::log::{self, Level, Log, Mistakes};
use super::options::Options;
use super::published::LastKnownPorts;
use super::record::{Origin, Record};
use super::state;
use super::state_writer::StateWriter;
use super::view::View;

/// How often wrong policies are read again: what is wrong may be out of sight.
const RECHECK: Duration = Duration::from_secs(30);
/// How often the host is looked at while ports are rejected that no socket of an engine holds now: a service
/// of the host may have taken one.
const RETHINK: Duration = Duration::from_mins(1);
/// How long what is kept may take to be read before guard begins without it.
pub(super) const STATE: Duration = Duration::from_secs(5);
/// How often policies are read again at once because more of them is to be watched.
pub(super) const READS: u32 = 3;

/// What is to be in force, as far as it is known.
pub(super) struct Desired {
    path: PathBuf,
    state: PathBuf,
    engines: Ask,
    log: Log,
    files: Arc<Files>,
    reading: Job<Read>,
    /// What was read and is yet to be taken up.
    read: Option<Outcome<Read>>,
    policies: Option<Chosen>,
    /// Reads the policies that were kept.
    fallback: Job<Result<Policies, state::Error>>,
    /// How long they are to be used.
    until: &'static str,
    look: Job<Result<HostFacts, kernel::Error>>,
    /// The look at the host that is being taken.
    looking: Option<Looking>,
    view: View,
    published: LastKnownPorts,
    /// What was made of policies and host last.
    ruleset: Option<Ruleset>,
    writer: StateWriter,
    /// The digest of the policies that were written as the last good ones.
    written: Option<u128>,
}

/// The policies that are to be in force.
struct Chosen {
    policies: Arc<Policies>,
    origin: Origin,
    digest: u128,
}

impl Chosen {
    fn new(policies: Policies, origin: Origin) -> Self {
        let digest = state::digest(&policies.sources);
        Self {
            policies: Arc::new(policies),
            origin,
            digest,
        }
    }
}

/// A look at the host that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looking {
    pub(super) need: Need,
    sockets: Sockets,
    /// Whether all engines had answered when it began.
    answered: bool,
}

/// Reads the policies at `path`, and has `files` watch them; where they are wrong, it watches what the
/// `known` ones were read from.
fn read(path: &Path, files: &Files, known: Option<&Policies>) -> Read {
    let mut tries = 0;
    loop {
        let read = Policies::read(SourceMap::strict(), path);
        let policies = read.and_then(Policies::test).map(|(policies, _)| policies);
        let sources = policies.as_ref().ok().or(known);
        let sources = sources.map(|policies| &policies.sources);
        // What was changed before it was watched nobody has told.
        let watched = !files.watch(&files::policy_places(path, sources));
        tries += 1;
        if watched || tries == READS {
            return Read { policies, watched };
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
            path: options.path.clone(),
            state: options.state.clone(),
            engines: options.engines.clone(),
            log,
            files: Arc::new(Files::open(|| Event::Files)?),
            reading: Job::new("policies")?,
            read: None,
            policies: None,
            fallback: Job::new("last-good")?,
            until: "",
            look: Job::new("host")?,
            looking: None,
            view: View::new(log),
            published,
            ruleset: None,
            writer: StateWriter::new(options.state.clone(), options.path.clone(), log)?,
            written: None,
        })
    }

    /// Returns where the policies come from that are to be in force.
    pub(super) fn origin(&self) -> Option<Origin> {
        self.policies.as_ref().map(|chosen| chosen.origin)
    }

    /// Returns what is to be in force, if that is known.
    pub(super) fn ruleset(&self) -> Option<&Ruleset> {
        self.ruleset.as_ref()
    }

    /// The policies are to be read then, or earlier if that was planned already.
    pub(super) fn read_at(&mut self, when: Instant) {
        self.reading.at(when);
    }

    /// Returns whether the last good policies are to be read, or being read.
    pub(super) fn awaits_last_good(&self) -> bool {
        self.fallback.is_expected()
    }

    /// Returns whether the host is being looked at.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// Returns whether the host has the same links and addresses as when it was looked at last.
    pub(super) fn is_current(&self) -> bool {
        self.view.is_current()
    }

    /// Begins whatever is due.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub(super) fn begin(&mut self, now: Instant, engines: &Engines) -> io::Result<()> {
        self.reading.begin(now, || {
            let (path, files) = (self.path.clone(), self.files.clone());
            let known = self.policies.as_ref().map(|chosen| chosen.policies.clone());
            Box::new(move || read(&path, &files, known.as_deref()))
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

    /// Keeps what was read of the files until it is taken up.
    pub(super) fn put_aside(&mut self, read: Outcome<Read>) {
        self.read = Some(read);
    }

    /// Takes up what was read of the files; wrong policies change nothing. Where there are none yet and somebody
    /// waits for rules, the last good ones are read.
    pub(super) fn take_up(&mut self, record: &mut Record, waited_for: bool) {
        let Some(read) = self.read.take() else { return };
        let path = untrusted::path(&self.path);
        let mistakes = match read {
            Outcome::Late => Mistakes::one(&format!(
                "{path} cannot be read within 10 s: the disk or network file system does not respond"
            )),
            Outcome::Done(Read { policies, watched }) => {
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
        let chosen = Chosen::new(policies, Origin::Files);
        let former = self.policies.as_ref();
        if former.is_none_or(|former| former.digest != chosen.digest) {
            for line in log::warnings(&chosen.policies).lines() {
                self.log.say(Level::Warning, line);
            }
        }
        self.policies = Some(chosen);
    }

    /// Tells mistakes that were not told before; none if nothing is wrong.
    fn tell(&mut self, mistakes: Mistakes, record: &mut Record) {
        let is_right = mistakes.count() == 0;
        if !is_right {
            self.reading.at(Instant::now() + RECHECK);
        }
        if mistakes == record.mistakes {
            return;
        }
        for mistake in mistakes.lines() {
            self.log.say(Level::Error, mistake);
        }
        let text = if is_right {
            "the policies are valid again"
        } else {
            record.rejected += 1;
            "the policies have errors and are not applied: the rules in force stay; run `dfw check`"
        };
        self.log.say(Level::Notice, text);
        record.mistakes = mistakes;
    }

    /// Has the last good policies read, to be used for a while.
    pub(super) fn fall_back(&mut self, until: &'static str) {
        self.until = until;
        self.fallback.at(Instant::now());
    }

    /// Takes the last good policies; says whether the policies are to be taken up now.
    pub(super) fn take_last_good(
        &mut self,
        kept: Outcome<Result<Policies, state::Error>>,
        record: &Record,
    ) -> bool {
        let failed = self.policies.is_some();
        match kept {
            Outcome::Done(Ok(policies)) => {
                // The files may have become right meanwhile.
                if !failed || record.failure.is_some() {
                    self.policies = Some(Chosen::new(policies, Origin::State));
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
        // Where the kernel rejects what the files say, that is tried again later.
        !failed
    }

    /// Has the host looked at for the policies that are to be in force; says whether its sockets matter to
    /// them.
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
        });
        self.look.at(Instant::now());
        sockets != Sockets::None
    }

    /// Returns the look at the host is over.
    pub(super) fn looked(&mut self) -> Option<Looking> {
        self.looking.take()
    }

    /// Makes rules of the policies and what was found of the host; where nothing was found, what is known of
    /// it stays.
    ///
    /// # Errors
    /// Why nothing is known of the host at all.
    pub(super) fn compile(
        &mut self,
        found: Result<HostFacts, kernel::Error>,
        due: &mut Due,
    ) -> Result<(), kernel::Error> {
        let Some(chosen) = &self.policies else {
            return Ok(());
        };
        if let Some(wait) = self.view.take(found)? {
            due.at(Need::Host, Instant::now() + wait);
        }
        let host = self.view.host();
        if host.is_some_and(HostView::expects_more) {
            due.at(Need::Host, Instant::now() + RETHINK);
        }
        self.ruleset = host.map(|host| chosen.policies.compile(host));
        Ok(())
    }

    /// Tells that sockets could not be watched; says how soon to look again.
    pub(super) fn fail_to_see(&mut self, error: &kernel::Error) -> Duration {
        self.view.fail(error)
    }

    /// Has what is in force now written for the next boot, if that is not what was written last.
    pub(super) fn keep(&mut self, looking: Looking) {
        if let Some(ruleset) = &self.ruleset
            && looking.answered
            && let Some(ports) = self.published.others(ruleset)
        {
            self.writer.write_ports(ports);
        }
        if let Some(chosen) = &self.policies
            && chosen.origin == Origin::Files
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
