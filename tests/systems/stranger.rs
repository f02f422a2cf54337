//! An untrusted client that connects to a published port continuously, over IPv4 and IPv6, and its successes.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::lan::{FRIEND, GUEST, Lan, STRANGER};
use crate::support::command::wait_for;

/// The port that the guest publishes.
pub(crate) const PORT: u16 = 8080;
/// The names of the two paths: the first is forwarded to the container, the other one goes through
/// docker-proxy. Docker 20.10.5 has the first only.
pub(crate) const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// How often the client tries each path, unless the network is slower.
pub(crate) const PACE: Duration = Duration::from_millis(5);
/// How long the client waits for a reply: less than the first retransmission takes.
const ANSWER: Duration = Duration::from_millis(400);
/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// Attempts on one path.
#[derive(Default)]
struct Attempts {
    tries: AtomicU64,
    /// The times of successful connections.
    entries: Mutex<Vec<Instant>>,
}

/// A running client.
pub(crate) struct Stranger {
    attempts: [Arc<Attempts>; 2],
    /// The number of address families that the network has.
    families: usize,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// A moment, and the number of attempts before it.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    tries: [u64; 2],
}

impl Stranger {
    /// Starts the client, whether a server listens or not.
    pub(crate) fn at(port: u16, lan: &Lan) -> Self {
        let attempts: [Arc<Attempts>; 2] = Default::default();
        let stop = Arc::new(AtomicBool::new(false));
        let pace = lan.pace;
        let threads = (0..2).map(|family| {
            let (namespace, made, stop) = (
                lan.stranger().clone(),
                attempts[family].clone(),
                stop.clone(),
            );
            std::thread::spawn(move || {
                namespace.enter()?;
                let to = (GUEST[family], port);
                try_all_the_time(STRANGER[family], to, pace, &made, &stop)
            })
        });
        let threads = threads.collect();
        Self {
            attempts,
            families: lan.families.len(),
            stop,
            threads,
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        let tries = [0, 1].map(|family: usize| self.attempts[family].tries.load(Ordering::Relaxed));
        Mark {
            at: Instant::now(),
            tries,
        }
    }

    /// Returns the successful connections since a moment, by path.
    pub(crate) fn entries(&self, since: Mark) -> [Vec<Instant>; 2] {
        [0, 1].map(|family: usize| {
            let entries = &self.attempts[family].entries;
            let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries
                .iter()
                .copied()
                .filter(|at| *at > since.at)
                .collect()
        })
    }

    /// Waits until the client connects on every path: a client that never can proves nothing.
    pub(crate) fn gets_in(&self) -> Result<()> {
        let mark = self.mark();
        wait_for("the stranger to get in", PATIENCE, || {
            let entries = self.entries(mark);
            entries[..self.families]
                .iter()
                .all(|entries| !entries.is_empty())
                .then_some(())
        })
        .with_context(|| format!("he got in {:?} times", self.entries(mark).map(|e| e.len())))
    }

    /// Waits until the client has tried some more on both paths, and knows the results.
    pub(crate) fn tries_more(&self) -> Result<()> {
        let mark = self.mark();
        wait_for("the stranger to try", PATIENCE, || {
            let now = self.mark();
            let enough = |family: usize| now.tries[family] > mark.tries[family] + 20;
            (enough(0) && enough(1) && mark.at.elapsed() > ANSWER).then_some(())
        })
    }

    /// Fails if the client connected since a moment.
    pub(crate) fn never_got_in(&self, since: Mark) -> Result<()> {
        self.tries_more()?;
        for (family, entries) in FAMILIES.iter().zip(self.entries(since)) {
            ensure!(
                entries.is_empty(),
                "he got in {} times over {family}, from {:?} to {:?}",
                entries.len(),
                entries[0] - since.at,
                entries[entries.len() - 1] - since.at,
            );
        }
        Ok(())
    }

    /// Returns how long the client had access since a moment: from the first success to the last.
    pub(crate) fn gap(&self, since: Mark) -> Duration {
        let entries = self.entries(since).concat();
        let first = entries.iter().min();
        let last = entries.iter().max();
        first
            .zip(last)
            .map_or(Duration::ZERO, |(first, last)| *last - *first)
    }

    /// Stops the client; returns the number of attempts.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("he panicked"))??;
        }
        Ok(self.mark().tries.iter().sum())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Checks that the allowed client connects on every path.
pub(crate) fn friend_gets_in(lan: &Lan) -> Result<()> {
    for family in 0..lan.families.len() {
        let attempts = Attempts::default();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let trying = scope.spawn(|| {
                lan.stranger().enter()?;
                let to = (GUEST[family], PORT);
                try_all_the_time(FRIEND[family], to, lan.pace, &attempts, &stop)
            });
            let entries = || {
                attempts
                    .entries
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
            };
            let found = wait_for("a friend to get in", PATIENCE, || {
                (!entries().is_empty()).then_some(())
            });
            stop.store(true, Ordering::Relaxed);
            trying.join().map_err(|_| anyhow!("he panicked"))??;
            found.context(lan.families[family])
        })?;
    }
    Ok(())
}

fn try_all_the_time(
    from: &str,
    (to, port): (&str, u16),
    pace: Duration,
    attempts: &Attempts,
    stop: &AtomicBool,
) -> Result<()> {
    let from: IpAddr = from.parse()?;
    let to = SocketAddr::new(to.parse()?, port);
    let mut open: VecDeque<(Instant, OwnedFd)> = VecDeque::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            next = now + pace;
            open.extend(attempt(from, to)?.map(|socket| (now, socket)));
            attempts.tries.fetch_add(1, Ordering::Relaxed);
        }
        let mut polled: Vec<_> = open
            .iter()
            .map(|(_, socket)| PollFd::new(socket, PollFlags::OUT))
            .collect();
        let wait = Timespec::try_from(next.saturating_duration_since(now))?;
        match poll(&mut polled, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let answered: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        let mut answered = answered.into_iter();
        let now = Instant::now();
        open.retain(|(since, socket)| {
            if answered.next() == Some(true) {
                // A refusal is an answer, too, and nobody got in.
                if matches!(socket_error(socket), Ok(Ok(()))) {
                    let mut entries = attempts
                        .entries
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    entries.push(now);
                }
                return false;
            }
            now - *since < ANSWER
        });
    }
    Ok(())
}

/// Knocks once; nothing where that fails at once, as without a way to the guest.
fn attempt(from: IpAddr, to: SocketAddr) -> Result<Option<OwnedFd>> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // No half-closed connections that would use up all ports.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(socket)),
        Err(_) => Ok(None),
    }
}
