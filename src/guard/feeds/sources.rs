//! What the fetcher says of the sources that it fetches: ages and failures, for people.
//!
//! They are read in a thread of its own, at most once in a while: the fetcher may write as often as it likes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::fetch::cache::{self, REASON, Status};
use crate::guard::log::one_line;
use crate::policy::Policy;
use crate::untrusted::clean_to;

use super::event::Event;
use super::feed::{Feed, Polled, readable};
use super::files::{Files, Places, name};
use super::job::{Job, Outcome};

/// The shortest time between two reads.
const REST: Duration = Duration::from_millis(500);

/// A source that is fetched, as the policies in force have it.
#[derive(Debug, Clone)]
pub(in crate::guard) struct Source {
    pub(in crate::guard) name: String,
    /// What is fetched.
    pub(in crate::guard) what: String,
    key: String,
    /// How many entries are in force.
    pub(in crate::guard) entries: usize,
    /// From which age on it counts as stale.
    stale_after: Duration,
    /// Why the list in the cache is not the one in force.
    pub(in crate::guard) unused: Option<String>,
    status: Arc<Status>,
}

impl Source {
    /// Returns the age of the list, as the fetcher says; `None` if it was never fetched.
    pub(in crate::guard) fn age(&self) -> Option<Duration> {
        self.status.age(SystemTime::now())
    }

    /// Returns whether it is older than the policy says it may be, or was never fetched.
    pub(in crate::guard) fn is_stale(&self) -> bool {
        self.age().is_none_or(|age| age > self.stale_after)
    }

    /// Returns how often it could not be fetched.
    pub(in crate::guard) fn failures(&self) -> u64 {
        self.status.failures
    }

    /// Returns why it could not be fetched the last time.
    pub(in crate::guard) fn failure(&self) -> Option<&str> {
        self.status.failure.as_deref()
    }

    /// Returns the age from which on it counts as stale.
    pub(in crate::guard) fn stale_after(&self) -> Duration {
        self.stale_after
    }
}

/// The sources of the policies in force.
#[derive(Debug)]
pub(in crate::guard) struct Sources {
    cache: PathBuf,
    files: Arc<Files>,
    job: Job<Vec<Arc<Status>>>,
    followed: Vec<Source>,
    /// When they were read last.
    read: Option<Instant>,
}

impl Sources {
    pub(in crate::guard) fn new(cache: PathBuf) -> io::Result<Self> {
        Ok(Self {
            cache,
            files: Arc::new(Files::open(|| Event::Sources)?),
            job: Job::new("sources")?,
            followed: Vec::new(),
            read: None,
        })
    }

    /// Follows the sources of policies, and no others.
    pub(in crate::guard) fn follow(&mut self, policy: &Policy, now: Instant) {
        let known = std::mem::take(&mut self.followed);
        let fetched = policy.fetched();
        let sources = fetched.map(|(name, source, fetched)| {
            let key = fetched.request.key();
            let status = known.iter().find(|known| known.key == key);
            Source {
                name: name.as_str().to_owned(),
                what: one_line(&fetched.request.describe()),
                entries: source.addresses.len(),
                stale_after: fetched.stale_after,
                unused: fetched.list.unused().map(|reason| clean_to(reason, REASON)),
                status: status.map_or_else(Arc::default, |known| known.status.clone()),
                key,
            }
        });
        self.followed = sources.collect();
        let mut places = Places::new();
        for source in &self.followed {
            name(&mut places, &self.cache.join(cache::name(&source.key)));
        }
        self.files.watch(&places);
        self.read_soon(now);
    }

    /// Returns the sources, with what was read of them last.
    pub(in crate::guard) fn sources(&self) -> &[Source] {
        &self.followed
    }

    /// Schedules a read.
    pub(in crate::guard) fn read_soon(&mut self, now: Instant) {
        if !self.followed.is_empty() {
            self.job
                .at(self.read.map_or(now, |read| now.max(read + REST)));
        }
    }

    /// Starts a read that is due.
    ///
    /// # Errors
    /// If a thread cannot be created.
    pub(in crate::guard) fn begin(&mut self, now: Instant) -> io::Result<()> {
        let (cache, sources) = (&self.cache, &self.followed);
        self.job.begin(now, || {
            let cache = cache.clone();
            let keys: Vec<String> = sources.iter().map(|source| source.key.clone()).collect();
            Box::new(move || {
                let read = keys.iter().map(|key| Arc::new(Status::read(&cache, key)));
                read.collect()
            })
        })
    }
}

impl Feed for Sources {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        let mut descriptors = self.files.descriptors();
        descriptors.extend(readable([&self.job]));
        descriptors
    }

    fn deadline(&self) -> Option<Instant> {
        self.job.next()
    }

    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        self.files.drain(now, events)?;
        if let Some(Outcome::Done(read)) = self.job.outcome(now) {
            self.read = Some(now);
            // Others may be followed since; a read of these is scheduled.
            if read.len() == self.followed.len() {
                for (source, status) in self.followed.iter_mut().zip(read) {
                    source.status = status;
                }
            }
            events.push(Event::SourcesRead);
        }
        Ok(())
    }
}
