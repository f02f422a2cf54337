//! What is to be done, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Work to do; each kind includes those before it, and takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Compare the table with the desired ruleset.
    Table,
    /// Read the host again if links or addresses have changed.
    Links,
    /// Look at the host again.
    Host,
    /// Read the policies again.
    Policies,
}

/// A schedule of needs, each at most once.
#[derive(Debug, Default)]
pub(super) struct Due(BTreeMap<Need, Instant>);

impl Due {
    /// Schedules a need for `when`, unless it is due earlier: repeated changes do not postpone it.
    pub(super) fn at(&mut self, need: Need, when: Instant) {
        let planned = self.0.entry(need).or_insert(when);
        *planned = when.min(*planned);
    }

    /// Returns when the next need is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// Returns when a check of the table is due.
    pub(super) fn next_of_table(&self) -> Option<Instant> {
        self.0.get(&Need::Table).copied()
    }

    /// Takes a due check of the table; see [`take`](Self::take).
    pub(super) fn take_of_table(&mut self, now: Instant) -> Option<Need> {
        let come = self.0.get(&Need::Table).is_some_and(|when| *when <= now);
        come.then(|| {
            self.0.remove(&Need::Table);
            Need::Table
        })
    }

    /// Takes the next due need: a modified table first, then the most comprehensive need, and removes
    /// those that it includes.
    pub(super) fn take(&mut self, now: Instant) -> Option<Need> {
        let mut come = self.0.iter().filter(|(_, when)| **when <= now);
        let need = match *come.next()?.0 {
            Need::Table => Need::Table,
            least => come.next_back().map_or(least, |(greatest, _)| *greatest),
        };
        self.0.retain(|other, _| match need {
            Need::Table => *other != need,
            _ => *other > need || *other == Need::Table,
        });
        Some(need)
    }
}

/// Delays that double from one failure to the next.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the delay after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        wait.min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_includes_the_lesser_ones() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut due = Due::default();
        assert_eq!((due.next(), due.take(now)), (None, None));
        due.at(Need::Table, now);
        due.at(Need::Policies, later);
        due.at(Need::Policies, later + Duration::from_secs(1));
        assert_eq!(due.take(now), Some(Need::Table));
        assert_eq!((due.take(now), due.next()), (None, Some(later)));
        due.at(Need::Host, now);
        assert_eq!(due.take(later), Some(Need::Policies));
        assert_eq!(due.next(), None);
        due.at(Need::Links, now);
        due.at(Need::Policies, now);
        due.at(Need::Table, later);
        assert_eq!(due.take(now), Some(Need::Policies));
        due.at(Need::Policies, now);
        assert_eq!(due.take(later), Some(Need::Table));
        assert_eq!(due.take(later), Some(Need::Policies));
        assert_eq!(due.next(), None);
    }

    #[test]
    fn waits_grow_and_end() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
    }
}
