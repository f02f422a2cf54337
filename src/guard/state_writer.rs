//! A thread that writes state: a slow disk delays no restore, and a full disk is retried.

use crate::net::HostPorts;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::store::Policies;

use super::due::Backoff;
use super::granted::Saved;
use super::log::{Level, Log};
use super::state::{self, Error};

/// The delay before a write is retried, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// How long a grant waits until it is saved, on a disk that hardly responds.
pub(super) const SLOW_DISK: Duration = Duration::from_secs(1);

/// The thread; dropping it waits for a last attempt to write pending state.
#[derive(Debug)]
pub(super) struct StateWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

/// The pending state: the newest of each kind.
#[derive(Debug, Default)]
struct Pending {
    policies: Option<Arc<Policies>>,
    ports: Option<Vec<HostPorts>>,
    grants: Option<Saved>,
    /// How often grants were given to be written, and which of them were.
    grants_given: u64,
    grants_written: u64,
    /// Whether new state arrived since the last attempt.
    new: bool,
    ended: bool,
}

impl StateWriter {
    /// Starts the thread; the policies come from `path` and are saved in `folder`.
    pub(super) fn new(folder: PathBuf, path: PathBuf, log: Log) -> io::Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let mut writer = Writer {
            folder,
            path,
            log,
            failed: BTreeSet::new(),
        };
        let thread = {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name("state".to_owned());
            thread.spawn(move || writer.run(&shared))?
        };
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(super) fn write_policies(&self, policies: Arc<Policies>) {
        self.shared.put(|pending| pending.policies = Some(policies));
    }

    /// Writes grants, and waits for that, but not longer than a slow disk may delay guard.
    pub(super) fn write_grants(&self, grants: Saved, patience: Duration) {
        let mut given = 0;
        self.shared.put(|pending| {
            pending.grants = Some(grants);
            pending.grants_given += 1;
            given = pending.grants_given;
        });
        let shared = &self.shared;
        let written = shared
            .changed
            .wait_timeout_while(shared.pending(), patience, |pending| {
                pending.grants_written < given
            });
        drop(written);
    }

    pub(super) fn write_ports(&self, ports: Vec<HostPorts>) {
        self.shared.put(|pending| pending.ports = Some(ports));
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.shared.put(|pending| pending.ended = true);
        if let Some(thread) = self.thread.take() {
            // A panic ends the process, so the lock is never poisoned.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, work: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending();
        work(&mut pending);
        pending.new = true;
        self.changed.notify_all();
    }

    /// Waits until new state arrives, or for a delay if there is one.
    fn wait(&self, at_most: Option<Duration>) -> MutexGuard<'_, Pending> {
        let nothing = |pending: &mut Pending| !pending.new;
        let pending = self.pending();
        match at_most {
            None => self
                .changed
                .wait_while(pending, nothing)
                .unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                self.changed
                    .wait_timeout_while(pending, time, nothing)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }
}

struct Writer {
    folder: PathBuf,
    path: PathBuf,
    log: Log,
    /// The kinds whose last write failed.
    failed: BTreeSet<&'static str>,
}

impl Writer {
    fn run(&mut self, shared: &Shared) {
        state::sweep(&self.folder);
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        let mut wait = None;
        loop {
            let mut pending = shared.wait(wait);
            if std::mem::take(&mut pending.new) {
                retry.reset();
            }
            let (policies, ports) = (pending.policies.take(), pending.ports.take());
            let (grants, ended) = (pending.grants.take(), pending.ended);
            let given = pending.grants_given;
            drop(pending);
            // First, as it is short and what was revoked must not come back.
            let grants = grants.filter(|grants| {
                let done = state::write_grants(&self.folder, grants);
                !self.is_done("the grants", done)
            });
            if grants.is_none() {
                shared.pending().grants_written = given;
                shared.changed.notify_all();
            }
            let policies = policies.filter(|policies| {
                let done = state::write(&self.folder, &self.path, policies);
                !self.is_done("the policies", done)
            });
            let ports = ports.filter(|ports| {
                let done = state::write_ports(&self.folder, ports);
                !self.is_done("the published ports", done)
            });
            if ended {
                return;
            }
            let failed = policies.is_some() || ports.is_some() || grants.is_some();
            wait = failed.then(|| retry.next());
            // State that arrived meanwhile is newer.
            let mut pending = shared.pending();
            pending.policies = pending.policies.take().or(policies);
            pending.ports = pending.ports.take().or(ports);
            pending.grants = pending.grants.take().or(grants);
        }
    }

    fn is_done(&mut self, what: &'static str, done: Result<(), Error>) -> bool {
        match done {
            Ok(()) => {
                if self.failed.remove(what) {
                    let text = format!("{what} are saved again");
                    self.log.say(Level::Notice, &text);
                }
                true
            }
            Err(error) => {
                if self.failed.insert(what) {
                    let text = format!("{what} cannot be saved for the next boot: {error}");
                    self.log.say(Level::Warning, &text);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    #[test]
    fn the_newest_is_written_before_the_end() {
        let folder = std::env::temp_dir().join(format!("dfw-state-writer-{}", std::process::id()));
        let writer = StateWriter::new(folder.clone(), PathBuf::from("p"), Log::new()).unwrap();
        let port = |port| HostPorts {
            address: None,
            protocol: Protocol::Tcp,
            first: port,
            last: port,
        };
        for number in 1..=100 {
            writer.write_ports(vec![port(number)]);
        }
        drop(writer);
        assert_eq!(state::read_ports(&folder).unwrap(), [port(100)]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
