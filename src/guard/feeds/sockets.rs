//! Watches for sockets that serve published ports, in a thread of its own: every few milliseconds while an
//! engine may be starting a container, since docker-proxy listens before the engine answers; and
//! periodically, since rootless engines send no events.
//!
//! ```text
//!  a link, or an event ─► every 3 ms ─── the engine has answered about the event ─► at growing intervals
//!                            ▲                                                          │
//!                            └──────────── a link, an event, or a new socket ───────────┘
//! ```
//!
//! An engine makes the link of a container before its sockets, and reports events after them. So nothing is expected
//! any more once the engine has answered about all events behind the last link, unless another container starts as
//! well, which makes another link. Most checks read how many sockets there are; sock_diag, which costs a hundred times
//! as much, is asked if the numbers change, and now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::guard::due::Backoff;
use crate::host::engine::Engine;
use crate::host::listener;
use crate::kernel::{self, Counts, SocketCounts};
use crate::netlink::sock_diag::Socket;

use super::event::Event;
use super::feed::{Feed, Polled, readable};

/// The interval of checks after an event, a new socket or an answer of an engine, and how long they continue.
const EVERY: Duration = Duration::from_millis(3);
const WHILE: Duration = Duration::from_secs(2);
/// The longest series of checks: an engine may never answer.
const AT_MOST: Duration = Duration::from_secs(30);
/// How long sock_diag is not asked while numbers of sockets do not change; or as long as has passed since the last
/// reason, if that is longer. A socket may have taken another one's place.
const SURE: Duration = Duration::from_millis(100);
/// The interval of checks without events.
const SELDOM: Duration = Duration::from_secs(2);
/// The number of attempts to find the holder of a new socket: an engine may create it before its holder
/// starts.
const LOOKS: u8 = 50;
/// The same while nothing happens.
const LOOKS_SELDOM: u8 = 3;
/// The delay before a retry, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Why a new socket may appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Reason {
    /// A link appeared.
    Link,
    /// An engine reported an event, and will be asked about it.
    Event,
}

/// The handle of the thread.
#[derive(Debug)]
pub(in crate::guard) struct Serving {
    orders: Arc<(Mutex<Orders>, Condvar)>,
    reports: Receiver<Result<(), kernel::Error>>,
    wakeup: Arc<OwnedFd>,
}

/// Messages to the thread.
#[derive(Debug, Default)]
struct Orders {
    /// Whether rules depend on these sockets.
    enabled: bool,
    /// Something happened after which a new socket may appear.
    stirred: bool,
    /// What happened last.
    last: Option<Reason>,
    progress: Progress,
    engines: Arc<Vec<Engine>>,
}

/// How far engines are with their answers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Something happened that no engine was asked about.
    #[default]
    Unasked,
    /// An engine has pending events.
    Busy,
    /// All engines have answered about the events behind the last link.
    Answered,
}

impl Serving {
    /// Starts the thread, which waits until [`want`](Self::want) enables it.
    pub(in crate::guard) fn open() -> io::Result<Self> {
        let orders: Arc<(Mutex<Orders>, Condvar)> = Arc::default();
        let wakeup = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        // One that waits says it all.
        let (sender, reports) = sync_channel(1);
        let looker = Looker {
            orders: orders.clone(),
            sender,
            wakeup: wakeup.clone(),
            seen: Seen::default(),
            counts: SocketCounts::open().ok(),
            last: None,
            watch: None,
            retry: Backoff::new(RETRY.0, RETRY.1),
        };
        std::thread::Builder::new()
            .name("sockets".to_owned())
            .spawn(move || looker.run())?;
        Ok(Self {
            orders,
            reports,
            wakeup,
        })
    }

    /// Reports something after which a new socket may appear.
    pub(in crate::guard) fn stir(&self, reason: Reason) {
        let mut orders = locked(&self.orders.0);
        orders.stirred = true;
        orders.last = Some(reason);
        if orders.progress == Progress::Answered {
            orders.progress = Progress::Unasked;
        }
        self.orders.1.notify_one();
    }

    /// Sets whether rules depend on the sockets.
    pub(in crate::guard) fn want(&self, enabled: bool) {
        let mut orders = locked(&self.orders.0);
        if orders.enabled != enabled {
            orders.enabled = enabled;
            self.orders.1.notify_one();
        }
    }

    /// Sets the known engines, and whether one of them has pending events.
    pub(in crate::guard) fn know(&self, engines: Vec<Engine>, busy: bool) {
        let mut orders = locked(&self.orders.0);
        orders.engines = Arc::new(engines);
        orders.progress = match orders.last {
            _ if busy => Progress::Busy,
            Some(Reason::Event) => Progress::Answered,
            // An answer says nothing of a link that appeared after its events.
            Some(Reason::Link) | None => Progress::Unasked,
        };
    }
}

impl Feed for Serving {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        readable([&self.wakeup])
    }

    fn drain(&mut self, _: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        // The counter value does not matter.
        let _ = rustix::io::read(&self.wakeup, &mut [0; 8]);
        events.extend(self.reports.try_iter().map(Event::Serving));
        Ok(())
    }
}

/// Locks the shared state. A panic ends the process, so a poisoned lock is never seen.
fn locked(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread.
struct Looker {
    orders: Arc<(Mutex<Orders>, Condvar)>,
    sender: SyncSender<Result<(), kernel::Error>>,
    wakeup: Arc<OwnedFd>,
    seen: Seen,
    /// `None` if the numbers of sockets cannot be read.
    counts: Option<SocketCounts>,
    /// The numbers of sockets when sock_diag was asked last, and when that was.
    last: Option<(Counts, Instant)>,
    watch: Option<Watch>,
    retry: Backoff,
}

impl Looker {
    fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let Wake {
                stirred,
                progress,
                engines,
            } = self.wait(next);
            let now = Instant::now();
            if stirred {
                self.watch = Some(Watch::begin(now));
            }
            let looks = if self.watch.is_some() {
                LOOKS
            } else {
                LOOKS_SELDOM
            };
            let found = if self.may_differ(looks, now) {
                kernel::listeners().and_then(|sockets| {
                    let of = |sockets: &[Socket]| listener::served(sockets, &engines);
                    self.seen
                        .find(&sockets, looks, of)
                        .map_err(kernel::Error::Processes)
                })
            } else {
                Ok(false)
            };
            match found {
                Ok(found) => {
                    self.retry.reset();
                    let reason = found || progress == Progress::Busy;
                    let answered = progress == Progress::Answered;
                    self.watch = self
                        .watch
                        .and_then(|watch| watch.go_on(now, reason, answered));
                    next = self.watch.map_or(now + SELDOM, |watch| watch.next);
                    if found && !self.report(Ok(())) {
                        return;
                    }
                }
                Err(error) => {
                    self.last = None;
                    next = now + self.retry.next();
                    self.watch = self.watch.map(|watch| watch.put_off(next));
                    if !self.report(Err(error)) {
                        return;
                    }
                }
            }
        }
    }

    /// Returns whether sock_diag may show other sockets than it did last.
    fn may_differ(&mut self, looks: u8, now: Instant) -> bool {
        // Read before sock_diag is asked: what changes meanwhile is seen the next time.
        let counts = self.counts.as_ref().and_then(|counts| counts.read().ok());
        let is_same = match (&counts, &self.last) {
            (Some(counts), Some((last, when))) => {
                let sure = self.watch.map_or(Duration::ZERO, |watch| watch.sure(now));
                counts == last && now < *when + sure && self.seen.is_settled(looks)
            }
            _ => false,
        };
        if !is_same {
            self.last = counts.map(|counts| (counts, now));
        }
        !is_same
    }

    /// Waits until the next check is due or an event occurs.
    fn wait(&self, next: Instant) -> Wake {
        let (orders, changed) = &*self.orders;
        let mut orders = locked(orders);
        loop {
            let left = next.saturating_duration_since(Instant::now());
            // At the shortest interval it is soon anyway.
            if orders.enabled && (left.is_zero() || orders.stirred && left > EVERY) {
                break;
            }
            orders = if orders.enabled {
                let woken = changed.wait_timeout(orders, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            } else {
                changed.wait(orders).unwrap_or_else(PoisonError::into_inner)
            };
        }
        Wake {
            stirred: std::mem::take(&mut orders.stirred),
            progress: orders.progress,
            engines: orders.engines.clone(),
        }
    }

    /// Reports to the loop; `false` if the loop has ended.
    fn report(&self, found: Result<(), kernel::Error>) -> bool {
        // A queued report causes a read of the whole host; a second one would add nothing.
        let sent = self.sender.try_send(found);
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
        !matches!(sent, Err(TrySendError::Disconnected(_)))
    }
}

/// Why the thread goes on.
struct Wake {
    stirred: bool,
    progress: Progress,
    engines: Arc<Vec<Engine>>,
}

/// The schedule of checks.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// The last reason for it.
    since: Instant,
    next: Instant,
    until: Instant,
    at_most: Instant,
}

impl Watch {
    fn begin(now: Instant) -> Self {
        Self {
            since: now,
            next: now,
            until: now + WHILE,
            at_most: now + AT_MOST,
        }
    }

    /// Returns the remaining series after a check; `reason` extends it. Intervals grow if engines have `answered`.
    fn go_on(self, now: Instant, reason: bool, answered: bool) -> Option<Self> {
        let (since, until) = if reason {
            (now, now + WHILE)
        } else {
            (self.since, self.until)
        };
        let rest = if answered {
            EVERY.max(now.saturating_duration_since(since))
        } else {
            EVERY
        };
        let (next, until) = (now + rest, until.min(self.at_most));
        (next < until).then_some(Self {
            since,
            next,
            until,
            ..self
        })
    }

    /// Returns how long sock_diag need not be asked while nothing seems to change.
    fn sure(&self, now: Instant) -> Duration {
        SURE.max(now.saturating_duration_since(self.since))
    }

    /// Returns the same with a minimum delay of the next check.
    fn put_off(self, when: Instant) -> Self {
        Self {
            next: when,
            until: self.until.max(when + WHILE).min(self.at_most),
            ..self
        }
    }
}

/// The listening sockets, by inode, and the number of checks of each.
#[derive(Debug, Default)]
struct Seen(BTreeMap<u64, u8>);

impl Seen {
    /// Returns whether the holder of every socket was searched for so often.
    fn is_settled(&self, most: u8) -> bool {
        self.0.values().all(|looks| *looks >= most)
    }

    /// Returns whether a new socket serves a published port. `of` selects such sockets.
    fn find(
        &mut self,
        sockets: &[Socket],
        most: u8,
        of: impl FnOnce(&[Socket]) -> io::Result<BTreeSet<u64>>,
    ) -> io::Result<bool> {
        let inodes: BTreeSet<u64> = sockets.iter().map(|s| u64::from(s.inode)).collect();
        self.0.retain(|inode, _| inodes.contains(inode));
        let mut open = Vec::new();
        for socket in sockets {
            let looks = self.0.entry(socket.inode.into()).or_default();
            if *looks < most {
                *looks += 1;
                open.push(*socket);
            }
        }
        if open.is_empty() {
            return Ok(false);
        }
        let served = of(&open)?;
        for inode in &served {
            self.0.insert(*inode, LOOKS);
        }
        Ok(!served.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how long a series that starts now lasts if the reason persists.
    fn lasts(reason: Duration, answered: bool) -> Duration {
        let began = Instant::now();
        let mut watch = Some(Watch::begin(began));
        let mut last = began;
        while let Some(now) = watch {
            last = now.next;
            watch = now.go_on(last, last < began + reason, answered);
        }
        last - began
    }

    #[test]
    fn a_watch_goes_on_while_an_engine_is_busy() {
        let near = |lasts: Duration, expected: Duration| expected.abs_diff(lasts) <= 2 * EVERY;
        assert!(near(lasts(Duration::ZERO, false), WHILE));
        let long = Duration::from_secs(7);
        assert!(near(lasts(long, false), long + WHILE));
        assert!(near(lasts(10 * AT_MOST, false), AT_MOST));
    }

    /// Returns the checks of a series, as times after its beginning.
    fn checks(answered: bool) -> Vec<Duration> {
        let began = Instant::now();
        let mut watch = Some(Watch::begin(began));
        let mut checks = Vec::new();
        while let Some(now) = watch {
            checks.push(now.next - began);
            watch = now.go_on(now.next, false, answered);
        }
        checks
    }

    #[test]
    fn an_answer_lets_the_intervals_grow() {
        let intervals = |checks: &[Duration]| -> Vec<Duration> {
            checks
                .windows(2)
                .map(|pair| pair[1].saturating_sub(pair[0]))
                .collect()
        };
        let open = checks(false);
        assert!(intervals(&open).iter().all(|interval| *interval == EVERY));
        let answered = checks(true);
        assert!(answered.len() < 20, "{}", answered.len());
        for (at, interval) in answered.iter().zip(intervals(&answered)) {
            assert_eq!(interval, EVERY.max(*at));
        }
        assert!(*answered.last().unwrap() >= WHILE / 2);
    }

    #[test]
    fn an_answer_covers_the_events_behind_the_last_link() {
        let serving = Serving::open().unwrap();
        let answered = |serving: &Serving| locked(&serving.orders.0).progress == Progress::Answered;
        serving.stir(Reason::Link);
        serving.know(Vec::new(), false);
        assert!(!answered(&serving));
        serving.stir(Reason::Event);
        serving.know(Vec::new(), true);
        assert!(!answered(&serving));
        serving.know(Vec::new(), false);
        assert!(answered(&serving));
        serving.stir(Reason::Link);
        assert!(!answered(&serving));
    }

    /// The number of searches for the holder of each socket is bounded.
    #[test]
    fn a_socket_is_looked_at_so_often() {
        let socket = |inode| Socket {
            protocol: 6,
            address: [0, 0, 0, 0].into(),
            port: 80,
            both_families: false,
            device: None,
            user: 0,
            inode,
        };
        let mut seen = Seen::default();
        let none = |_: &[Socket]| Ok(BTreeSet::new());
        for _ in 0..LOOKS_SELDOM {
            assert!(!seen.find(&[socket(1)], LOOKS_SELDOM, none).unwrap());
        }
        let never = |_: &[Socket]| panic!("looked at too often");
        assert!(!seen.find(&[socket(1)], LOOKS_SELDOM, never).unwrap());
        // Check more often after events, and a new socket at once.
        let found = |sockets: &[Socket]| {
            assert_eq!(sockets.len(), 2);
            Ok(BTreeSet::from([2]))
        };
        assert!(seen.find(&[socket(1), socket(2)], LOOKS, found).unwrap());
        let only_one = |sockets: &[Socket]| {
            assert_eq!(sockets.len(), 1);
            Ok(BTreeSet::new())
        };
        assert!(!seen.find(&[socket(1), socket(2)], LOOKS, only_one).unwrap());
    }
}
