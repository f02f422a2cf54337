//! docker-proxy's sockets, looked at every few milliseconds while an engine may be starting a
//! container: it answers no question about one until that is done, and docker-proxy listens before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::host::listener;
use crate::kernel;

/// How often they are looked at, and for how long after something has happened.
const EVERY: Duration = Duration::from_millis(3);
const WHILE: Duration = Duration::from_secs(2);
/// How often it is asked whose a new socket is: an engine may make one before it starts who is to
/// have it.
const LOOKS: u8 = 50;

/// The watch.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    next: Option<Instant>,
    until: Option<Instant>,
    /// The sockets that wait for clients, by inode, and how often each was looked at.
    seen: BTreeMap<u64, u8>,
}

impl Proxies {
    /// Something has happened that a new socket may follow.
    pub(super) fn stir(&mut self, now: Instant) {
        self.next = Some(now);
        self.until = Some(now + WHILE);
    }

    /// When to look.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks if it is time to; says whether docker-proxy has a socket that it had not before.
    pub(super) fn look(&mut self, now: Instant) -> Result<bool, kernel::Error> {
        if self.next.is_none_or(|next| next > now) {
            return Ok(false);
        }
        let next = now + EVERY;
        self.next = self.until.filter(|until| next < *until).map(|_| next);
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
        let proxied = listener::proxied();
        open.retain(|inode| proxied.contains(inode));
        for inode in &open {
            self.seen.insert(*inode, LOOKS);
        }
        Ok(!open.is_empty())
    }
}
