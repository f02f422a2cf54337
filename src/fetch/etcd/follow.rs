//! Follows the head of a site in etcd.
//!
//! The head is read and then watched from the next revision on. What ends a watch, such as an error, a compaction or a
//! store that was restored from an older copy, leads back to the beginning, and the head is read every few minutes
//! anyway: no event that is lost is lost for long.

use std::path::Path;
use std::time::{Duration, Instant};

use etcd_client::WatchStream;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use crate::bundle::Address;
use crate::etcd::{Error, Identity};
use crate::fetch::site::{REPORT, Site, WANTED, Wanted, jitter};
use crate::fetch::watch::Watch;
use crate::fetch::web::{NotFetched, Web};

use super::presence::Presence;
use super::{Reading, Store, contents};

/// How often the head is read whatever the watch says: at least so often, and at most so much later.
const READ: (Duration, Duration) = (Duration::from_mins(4), Duration::from_mins(2));
/// The shortest time from a read to one because of a change: who may write to the store changes the head at will, for
/// all hosts.
const REST: Duration = Duration::from_secs(1);
/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// After how many failures in a row the members are looked up again.
const LOOK_UP: u32 = 4;

/// What follows a site in a store, until guard follows another one.
pub(in crate::fetch) struct Follower<'a> {
    pub(in crate::fetch) cache: &'a Path,
    /// The file that says what is wanted.
    pub(in crate::fetch) wanted: &'a Path,
    pub(in crate::fetch) identity: Identity,
    /// Reports a new generation.
    pub(in crate::fetch) news: &'a dyn Fn(u64),
    pub(in crate::fetch) warn: &'a dyn Fn(&str),
}

/// Fetches a bundle once.
///
/// # Errors
/// Why it was not fetched.
pub(in crate::fetch) fn fetch(site: &Site<'_>, identity: Identity) -> Result<(u64, bool), String> {
    let mut state = State::new(Store::new(&site.wanted.address, identity)?, site.wanted);
    site.note(state.read(site)).0
}

/// The state of the loop.
struct State {
    store: Store,
    presence: Option<Presence>,
    stream: Option<WatchStream>,
    /// When the head is read next.
    due: Instant,
    /// Until when it is not, whatever changes.
    rest: Instant,
    /// The revision of the store when the head was read last.
    revision: i64,
    failures: u32,
    failure: Option<String>,
    probe: Option<String>,
}

impl Follower<'_> {
    /// Follows a site until another one is wanted.
    ///
    /// # Errors
    /// What the system denies.
    pub(in crate::fetch) fn follow(&self, address: &Address) -> Result<(), String> {
        let mut watch = Watch::new(self.wanted).map_err(|error| error.to_string())?;
        let mut state = None;
        loop {
            watch.begin();
            let wanted = match Wanted::read(self.wanted) {
                Ok(Some(wanted)) if wanted.address == *address => wanted,
                Ok(_) => return Ok(()),
                Err(error) => {
                    (self.warn)(&format!("{WANTED}: {error}"));
                    watch.wait(RETRY.1).map_err(|error| error.to_string())?;
                    continue;
                }
            };
            let site = Site {
                cache: self.cache,
                wanted: &wanted,
            };
            let state = match &mut state {
                Some(state) => state,
                none => match Store::new(address, self.identity.clone()) {
                    Ok(store) => none.insert(State::new(store, &wanted)),
                    Err(error) => {
                        // The names of the members have no addresses: a probe is answered by that.
                        if let Some(probe) = &wanted.probe {
                            site.answer(probe, Err(error.clone().into()))?;
                        }
                        (self.warn)(&format!("{address}: {error}"));
                        // What became of it stands in the cache.
                        let _ = site.note(Err(error.into()));
                        watch.wait(RETRY.1).map_err(|error| error.to_string())?;
                        continue;
                    }
                },
            };
            if wanted.probe != state.probe {
                state.probe.clone_from(&wanted.probe);
                if let Some(probe) = &wanted.probe {
                    let reached = state.store.probe(&wanted);
                    if reached.is_ok() && state.stream.is_none() {
                        state.read_soon();
                    }
                    site.answer(probe, reached)?;
                }
            }
            self.step(state, &site);
            state.wait(&mut watch)?;
        }
    }

    /// Does what is due.
    fn step(&self, state: &mut State, site: &Site<'_>) {
        if state.due <= Instant::now() {
            let (done, _) = site.note(state.read(site));
            state.rest = Instant::now() + REST;
            match done {
                Ok((generation, is_new)) => {
                    state.failures = 0;
                    state.failure = None;
                    state.due = Instant::now() + READ.0 + jitter(READ.1);
                    if is_new {
                        (self.news)(generation);
                    }
                }
                // The store answers, and what it has is wrong: the next head may be right.
                Err(error) if state.stream.is_some() => {
                    state.due = Instant::now() + RETRY.1 + jitter(RETRY.1);
                    self.warn_once(state, site, &error);
                }
                Err(error) => self.fail(state, site, &error),
            }
        }
        if state.stream.is_some()
            && let Err(error) = state.keep(&self.wanted.with_file_name(REPORT))
        {
            self.fail(state, site, &error.to_string());
        }
    }

    fn fail(&self, state: &mut State, site: &Site<'_>, error: &str) {
        state.disconnect();
        state.failures = state.failures.saturating_add(1);
        if state.failures.is_multiple_of(LOOK_UP) {
            // Members may have moved.
            state.store.look_up(&site.wanted.address);
        }
        let longest = RETRY
            .0
            .saturating_mul(1 << state.failures.saturating_sub(1).min(5));
        let wait = longest.min(RETRY.1);
        state.due = Instant::now() + wait / 2 + jitter(wait);
        self.warn_once(state, site, error);
    }

    fn warn_once(&self, state: &mut State, site: &Site<'_>, error: &str) {
        let text = format!("{}: {error}", site.wanted.address);
        if state.failure.as_ref() != Some(&text) {
            (self.warn)(&text);
        }
        state.failure = Some(text);
    }
}

impl State {
    fn new(store: Store, wanted: &Wanted) -> Self {
        Self {
            store,
            presence: wanted.host.clone().map(Presence::new),
            stream: None,
            due: Instant::now(),
            rest: Instant::now(),
            revision: 0,
            failures: 0,
            failure: None,
            probe: None,
        }
    }

    /// Schedules a read.
    fn read_soon(&mut self) {
        self.due = self.rest.max(Instant::now());
    }

    fn disconnect(&mut self) {
        self.stream = None;
        self.store.disconnect();
        if let Some(presence) = &mut self.presence {
            presence.disconnect();
        }
    }

    /// Reads the head and what it needs, and watches it from then on.
    fn read(&mut self, site: &Site<'_>) -> Result<(u64, bool), NotFetched> {
        let failed = |error: Error| NotFetched::from(error.to_string());
        self.store.connect().map_err(failed)?;
        let web = site.wanted.contents.is_some().then(Web::of_host);
        let web = web.and_then(Result::ok);
        let Store {
            runtime,
            layout,
            connection,
            ..
        } = &mut self.store;
        let connection = connection.as_mut().ok_or("not connected")?;
        let reading = Reading {
            runtime,
            layout,
            connection: connection.into(),
            rollout: None.into(),
            revision: 0.into(),
            contents: contents(web.as_ref(), site.wanted.contents.as_ref()),
        };
        let done = site.fetch_from(&reading);
        let revision = *reading.revision.borrow();
        if revision == 0 {
            return done;
        }
        if revision < self.revision {
            // It was restored from an older copy: a watch from before would hear nothing for long.
            self.stream = None;
        }
        self.revision = revision;
        // Also if the files are not complete: the next head may be right.
        if self.stream.is_none() {
            let key = layout.head();
            let connection = reading.connection.into_inner();
            let watched = runtime.block_on(connection.watch(&key, false, revision + 1));
            self.stream = watched.map_err(failed)?;
            if self.stream.is_none() {
                return Err("the store went back: it was restored from an older copy".into());
            }
        }
        done
    }

    fn keep(&mut self, report: &Path) -> Result<(), Error> {
        let Some(presence) = &mut self.presence else {
            return Ok(());
        };
        self.store.connect()?;
        let Store {
            runtime,
            layout,
            connection,
            ..
        } = &mut self.store;
        match connection {
            Some(connection) => presence.keep(runtime, connection, (layout, report)),
            None => Ok(()),
        }
    }

    /// Waits until something may be due: guard wrote something, the head changed, or time is over.
    fn wait(&mut self, watch: &mut Watch<'_>) -> Result<(), String> {
        let failed = |error: std::io::Error| error.to_string();
        let now = Instant::now();
        let mut next = self.due;
        if let Some(presence) = &self.presence
            && self.stream.is_some()
        {
            next = next.min(presence.next());
        }
        let wait = watch.longest(next.saturating_duration_since(now));
        let descriptor = watch.descriptor().map_err(failed)?;
        // Until a read that is due anyway, changes are left in the stream; those that it has seen count no more.
        let (revision, is_resting) = (self.revision, self.due <= self.rest);
        let stream = self.stream.as_mut().filter(|_| !is_resting);
        let event = self.store.runtime.block_on(async {
            #[expect(
                deprecated,
                reason = "an owned descriptor stays open for as long as it is registered"
            )]
            let changed = AsyncFd::new(descriptor)?;
            tokio::select! {
                ready = changed.readable() => ready.map(|_| Event::Files),
                event = head(stream, revision) => Ok(event),
                () = sleep(wait) => Ok(Event::Time),
            }
        });
        match event.map_err(failed)? {
            Event::Files => {
                watch.drain().map_err(failed)?;
            }
            Event::Head => self.read_soon(),
            // The connection or the watch is lost.
            Event::Lost => {
                self.disconnect();
                self.due = Instant::now() + jitter(RETRY.0);
            }
            Event::Time => {}
        }
        Ok(())
    }
}

/// What ended a wait.
enum Event {
    Files,
    Head,
    Lost,
    Time,
}

/// Waits for a change of the head after a revision.
async fn head(stream: Option<&mut WatchStream>, revision: i64) -> Event {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    let is_later = |event: &etcd_client::Event| {
        let changed = event.kv().map(etcd_client::KeyValue::mod_revision);
        changed.is_none_or(|changed| changed > revision)
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) if message.canceled() => return Event::Lost,
            Ok(Some(message)) if !message.events().iter().any(is_later) => {}
            Ok(Some(_)) => return Event::Head,
            Ok(None) | Err(_) => return Event::Lost,
        }
    }
}
