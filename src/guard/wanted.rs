//! The policies that are to be in force: read in threads, taken up by the loop.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::host::docker::Ask;
use crate::policy::DefaultAction;
use crate::site::Sockets;
use crate::store::{LoadError, Policies};
use crate::text::SourceMap;
use crate::untrusted;

use super::due::Need;
use super::files::{self, Files};
use super::job::Outcome;
use super::log::{self, Level, Mistakes};
use super::record::Origin;
use super::{Guard, Phase, READS, RECHECK, state};

/// The policies that are to be in force.
pub(super) struct Wanted {
    pub(super) policies: Arc<Policies>,
    pub(super) origin: Origin,
    pub(super) digest: u128,
}

impl Wanted {
    pub(super) fn new(policies: Policies, origin: Origin) -> Self {
        let digest = state::digest(&policies.sources);
        Self {
            policies: Arc::new(policies),
            origin,
            digest,
        }
    }

    /// The sockets of this host that matter to them.
    pub(super) fn sockets(&self, engines: &Ask) -> Sockets {
        match self.policies.policy.default {
            DefaultAction::Allow => Sockets::None,
            DefaultAction::Deny => Sockets::of(engines),
        }
    }
}

/// What was read of the files.
pub(super) struct Read {
    policies: Result<Policies, LoadError>,
    /// Whether all of it was watched before it was read.
    watched: bool,
}

impl Read {
    /// Reads the policies at `path`, and has `files` watch them; where they are wrong, it watches what the
    /// `known` ones were read from.
    fn new(path: &Path, files: &Files, known: Option<&Policies>) -> Self {
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
                return Self { policies, watched };
            }
        }
    }
}

impl Guard {
    /// Begins to read what is to be read, and takes what was.
    pub(super) fn read(&mut self, now: Instant) -> io::Result<()> {
        if let Some(read) = self.reading.outcome(now) {
            self.read = Some(read);
            self.due.at(Need::Policies, now);
        }
        if let Some(kept) = self.fallback.outcome(now) {
            self.take_last_good(kept, now);
        }
        self.reading.begin(now, || {
            let (path, files) = (self.options.path.clone(), self.files.clone());
            let known = self.wanted.as_ref().map(|wanted| wanted.policies.clone());
            Box::new(move || Read::new(&path, &files, known.as_deref()))
        })?;
        self.fallback.begin(now, || {
            let folder = self.options.state.clone();
            Box::new(move || state::read(&folder))
        })
    }

    /// Takes up what was read; wrong policies change nothing.
    pub(super) fn take_up(&mut self, read: Outcome<Read>) {
        let path = untrusted::path(&self.options.path);
        let mistakes = match read {
            Outcome::Late => Mistakes::one(&format!(
                "{path} cannot be read: a disk does not answer, or takes longer than ten seconds"
            )),
            Outcome::Done(Read { policies, watched }) => {
                if !watched {
                    self.reading.at(Instant::now() + RECHECK);
                }
                match policies {
                    Ok(policies) => {
                        self.good(policies);
                        Mistakes::default()
                    }
                    Err(wrong) => log::mistakes(&wrong),
                }
            }
        };
        self.wrong(mistakes);
        if self.wanted.is_none() && self.phase != Phase::Running {
            self.fall_back("until the files are right");
        }
    }

    fn good(&mut self, policies: Policies) {
        let wanted = Wanted::new(policies, Origin::Files);
        let known = self.wanted.as_ref();
        if known.is_none_or(|known| known.digest != wanted.digest) {
            for line in log::warnings(&wanted.policies).lines() {
                self.log.say(Level::Warning, line);
            }
        }
        self.wanted = Some(wanted);
    }

    /// Tells mistakes that were not told before; none if nothing is wrong.
    fn wrong(&mut self, mistakes: Mistakes) {
        let is_right = mistakes.count() == 0;
        if !is_right {
            self.reading.at(Instant::now() + RECHECK);
        }
        if mistakes == self.record.mistakes {
            return;
        }
        for mistake in mistakes.lines() {
            self.log.say(Level::Error, mistake);
        }
        let text = if is_right {
            "the policies are right again"
        } else {
            self.record.rejected += 1;
            "the policies are wrong and change nothing: what is in force stays; `dfw check` shows the lines"
        };
        self.log.say(Level::Notice, text);
        self.record.mistakes = mistakes;
    }

    /// Wants what was kept instead, for a while.
    pub(super) fn fall_back(&mut self, until: &'static str) {
        self.until = until;
        self.fallback.at(Instant::now());
    }

    fn take_last_good(&mut self, kept: Outcome<Result<Policies, state::Error>>, now: Instant) {
        let failed = self.wanted.is_some();
        match kept {
            Outcome::Done(Ok(policies)) => {
                // The files may have become right meanwhile.
                if !failed || self.record.failure.is_some() {
                    self.wanted = Some(Wanted::new(policies, Origin::State));
                    self.ruleset = None;
                    let text = format!("the last good policies are used {}", self.until);
                    self.log.say(Level::Warning, &text);
                }
                self.due.at(Need::Policies, now);
                return;
            }
            Outcome::Done(Err(state::Error::Missing(_))) => {}
            Outcome::Done(Err(error)) => self.log.say(Level::Error, &error.to_string()),
            Outcome::Late => {
                let text = format!("{} does not answer", untrusted::path(&self.options.state));
                self.log.say(Level::Error, &text);
            }
        }
        // Where the kernel refuses what the files say, that is tried again later.
        if !failed {
            self.due.at(Need::Policies, now);
        }
    }
}
