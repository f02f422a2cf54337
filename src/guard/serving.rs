//! docker-proxy's sockets, looked at every few milliseconds while an engine may be starting a
//! container: it answers no question about one until that is done, and docker-proxy listens before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::host::listener;
use crate::kernel;

/// How often they are looked at, and for how long after something has happened or was found, or an engine
/// has answered.
const EVERY: Duration = Duration::from_millis(3);
const WHILE: Duration = Duration::from_secs(2);
/// For how long at most: an engine may never answer.
const AT_MOST: Duration = Duration::from_secs(30);
/// How often it is asked whose a new socket is: an engine may make one before it starts who is to
/// have it.
const LOOKS: u8 = 50;

/// The watch.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    watch: Option<Watch>,
    /// The sockets that wait for clients, by inode, and how often each was looked at.
    seen: BTreeMap<u64, u8>,
}

/// When they are looked at.
#[derive(Debug, Clone, Copy)]
struct Watch {
    next: Instant,
    until: Instant,
    at_most: Instant,
}

impl Watch {
    /// What is left of it after a look; there may be a reason to go on.
    fn go_on(self, now: Instant, reason: bool) -> Option<Self> {
        let until = if reason { now + WHILE } else { self.until };
        let (next, until) = (now + EVERY, until.min(self.at_most));
        (next < until).then_some(Self {
            next,
            until,
            ..self
        })
    }
}

impl Proxies {
    /// Something has happened that a new socket may follow.
    pub(super) fn stir(&mut self, now: Instant) {
        self.watch = Some(Watch {
            next: self.next().unwrap_or(now),
            until: now + WHILE,
            at_most: now + AT_MOST,
        });
    }

    /// When to look.
    pub(super) fn next(&self) -> Option<Instant> {
        self.watch.map(|watch| watch.next)
    }

    /// Looks no sooner than that.
    pub(super) fn put_off(&mut self, when: Instant) {
        let watch = self.watch.filter(|watch| when < watch.at_most);
        self.watch = watch.map(|watch| Watch {
            next: when,
            until: watch.until.max(when + WHILE).min(watch.at_most),
            ..watch
        });
    }

    /// Looks if it is time to, and goes on while an engine is busy; says whether docker-proxy has a
    /// socket that it had not before.
    pub(super) fn look(&mut self, now: Instant, busy: bool) -> Result<bool, kernel::Error> {
        let Some(watch) = self.watch.filter(|watch| watch.next <= now) else {
            return Ok(false);
        };
        let found = self.find()?;
        self.watch = watch.go_on(now, busy || found);
        Ok(found)
    }

    fn find(&mut self) -> Result<bool, kernel::Error> {
        let sockets = kernel::listeners()?;
        let inodes: BTreeSet<u64> = sockets.iter().map(|s| u64::from(s.inode)).collect();
        self.seen.retain(|inode, _| inodes.contains(inode));
        let mut open = Vec::new();
        for inode in inodes {
            let looks = self.seen.entry(inode).or_default();
            if *looks < LOOKS {
                *looks += 1;
                open.push(inode);
            }
        }
        if open.is_empty() {
            return Ok(false);
        }
        let proxied = listener::proxied().map_err(kernel::Error::Processes)?;
        open.retain(|inode| proxied.contains(inode));
        for inode in &open {
            self.seen.insert(*inode, LOOKS);
        }
        Ok(!open.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a watch that began now goes on if there is a reason for so long.
    fn lasts(reason: Duration) -> Duration {
        let began = Instant::now();
        let mut proxies = Proxies::default();
        proxies.stir(began);
        let mut last = began;
        while let Some(watch) = proxies.watch {
            last = watch.next;
            proxies.watch = watch.go_on(last, last < began + reason);
        }
        last - began
    }

    #[test]
    fn a_watch_goes_on_while_an_engine_is_busy() {
        let near = |lasts: Duration, expected: Duration| expected.abs_diff(lasts) <= 2 * EVERY;
        assert!(near(lasts(Duration::ZERO), WHILE));
        let long = Duration::from_secs(7);
        assert!(near(lasts(long), long + WHILE));
        assert!(near(lasts(10 * AT_MOST), AT_MOST));
    }
}
