//! Assembles trace messages to paths of packets through all tables. Memory is bounded.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::netlink::header::Headers;
use crate::netlink::trace::{Event, Outcome, Traced};
use crate::nftables::tracer::PREFIX;

/// The most packets followed at once; another one evicts the one silent longest.
const FOLLOWED: usize = 256;
/// The most steps kept of a packet.
const STEPS: usize = 256;
/// After this long without a message a packet is complete.
const QUIET: Duration = Duration::from_millis(300);

/// One packet and its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// Its headers at arrival; `None` if they cannot be parsed.
    pub headers: Option<Headers>,
    /// Its last headers, if they changed.
    pub changed: Option<Headers>,
    /// The index of the interface that it came in through.
    pub incoming: Option<u32>,
    /// The index of the interface that it leaves through.
    pub outgoing: Option<u32>,
    /// Its steps, in order, without those in tables of traces.
    pub steps: Vec<Step>,
    /// Whether steps were discarded.
    pub cut: bool,
    heard: Instant,
}

/// A rule that matched, or the end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The protocol family of the table (`NFPROTO_*`).
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// The event.
    pub event: Event,
    /// The verdict.
    pub verdict: Outcome,
}

/// The result of a traced packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate<'a> {
    /// This dropped it.
    Dropped(&'a Step),
    /// This verdict passed it to another part of the kernel.
    Taken(&'a Step),
    /// Every base chain accepted it.
    Accepted,
}

impl Journey {
    /// Returns the final verdict.
    #[must_use]
    pub fn fate(&self) -> Fate<'_> {
        match self.steps.last() {
            Some(step) => match step.verdict {
                Outcome::Drop => Fate::Dropped(step),
                Outcome::Queue | Outcome::Stolen => Fate::Taken(step),
                Outcome::Accept
                | Outcome::Continue
                | Outcome::Jump(_)
                | Outcome::Goto(_)
                | Outcome::Return
                | Outcome::Unknown(_) => Fate::Accepted,
            },
            None => Fate::Accepted,
        }
    }
}

/// The packets that are followed.
#[derive(Debug)]
pub struct Journeys {
    /// The table that chooses them.
    table: String,
    /// How many more may begin.
    more: u32,
    open: BTreeMap<u32, Journey>,
}

impl Journeys {
    /// Follows `count` packets that the tracer's `table` selects.
    #[must_use]
    pub fn new(table: String, count: u32) -> Self {
        Self {
            table,
            more: count,
            open: BTreeMap::new(),
        }
    }

    /// Returns whether all packets are complete.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.more == 0 && self.open.is_empty()
    }

    /// Returns whether any packet is incomplete.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// Adds a message; returns the packets that it completes, two at most.
    pub fn take(&mut self, traced: Traced, now: Instant) -> Vec<Journey> {
        let mut done = Vec::new();
        if traced.table == self.table && matches!(traced.event, Event::Rule(_)) {
            // The ID is that of an earlier packet, which is complete.
            done.extend(self.open.remove(&traced.id));
            if self.more == 0 {
                return done;
            }
            self.more -= 1;
            if self.open.len() >= FOLLOWED {
                done.extend(self.push_out());
            }
            let journey = Journey {
                headers: traced.headers,
                changed: None,
                incoming: traced.incoming,
                outgoing: traced.outgoing,
                steps: Vec::new(),
                cut: false,
                heard: now,
            };
            self.open.insert(traced.id, journey);
            return done;
        }
        let Some(journey) = self.open.get_mut(&traced.id) else {
            return done;
        };
        journey.heard = now;
        if traced.table.starts_with(PREFIX) {
            return done;
        }
        journey.outgoing = traced.outgoing.or(journey.outgoing);
        if traced.headers.is_some() && traced.headers != journey.headers {
            journey.changed = traced.headers;
        }
        if journey.steps.len() == STEPS {
            // The last slot is for the last step.
            journey.steps.pop();
            journey.cut = true;
        }
        let last = matches!(
            traced.verdict,
            Outcome::Drop | Outcome::Queue | Outcome::Stolen
        );
        journey.steps.push(Step {
            family: traced.family,
            table: traced.table,
            chain: traced.chain,
            event: traced.event,
            verdict: traced.verdict,
        });
        if last {
            done.extend(self.open.remove(&traced.id));
        }
        done
    }

    fn push_out(&mut self) -> Option<Journey> {
        let silent = self.open.iter().min_by_key(|(_, journey)| journey.heard);
        let id = *silent?.0;
        self.open.remove(&id)
    }

    /// Returns the packets without a message for a while.
    pub fn quiet(&mut self, now: Instant) -> Vec<Journey> {
        let quiet = |journey: &Journey| now.duration_since(journey.heard) >= QUIET;
        self.open
            .extract_if(.., |_, journey| quiet(journey))
            .map(|(_, journey)| journey)
            .collect()
    }

    /// Returns the incomplete packets.
    pub fn rest(self) -> impl Iterator<Item = Journey> {
        self.open.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "dfw-trace-1";

    fn traced(id: u32, table: &str, verdict: Outcome) -> Traced {
        Traced {
            id,
            family: 1,
            table: table.to_owned(),
            chain: "forward".to_owned(),
            event: Event::Rule(7),
            verdict,
            headers: None,
            incoming: Some(2),
            outgoing: None,
        }
    }

    #[test]
    fn a_drop_ends_a_way_and_silence_another() {
        let (mut journeys, now) = (Journeys::new(OWN.to_owned(), 2), Instant::now());
        for id in [5, 6] {
            assert!(
                journeys
                    .take(traced(id, OWN, Outcome::Continue), now)
                    .is_empty()
            );
            assert!(
                journeys
                    .take(traced(id, "a", Outcome::Accept), now)
                    .is_empty()
            );
        }
        // Nobody's, or another trace's.
        assert!(journeys.take(traced(9, "a", Outcome::Drop), now).is_empty());
        let done = journeys.take(traced(5, "b", Outcome::Drop), now);
        assert_eq!(done.len(), 1);
        assert!(matches!(done[0].fate(), Fate::Dropped(step) if step.table == "b"));
        assert!(journeys.quiet(now).is_empty());
        let done = journeys.quiet(now + QUIET);
        assert_eq!((done.len(), done[0].fate()), (1, Fate::Accepted));
        assert!(journeys.is_over());
    }

    #[test]
    fn a_number_that_comes_again_is_another_packet() {
        let (mut journeys, now) = (Journeys::new(OWN.to_owned(), 9), Instant::now());
        journeys.take(traced(5, OWN, Outcome::Continue), now);
        journeys.take(traced(5, "a", Outcome::Accept), now);
        let done = journeys.take(traced(5, OWN, Outcome::Continue), now);
        assert_eq!(done[0].steps.len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut journeys, now) = (Journeys::new(OWN.to_owned(), u32::MAX), Instant::now());
        let mut gone = 0;
        for id in 0..2000 {
            gone += journeys.take(traced(id, OWN, Outcome::Continue), now).len();
        }
        assert_eq!((gone, journeys.open.len()), (2000 - FOLLOWED, FOLLOWED));
        for _ in 0..2000 {
            journeys.take(traced(1999, "a", Outcome::Continue), now);
        }
        let done = journeys.take(traced(1999, "a", Outcome::Drop), now);
        assert_eq!(done[0].steps.len(), STEPS);
        assert!(done[0].cut && matches!(done[0].fate(), Fate::Dropped(_)));
    }
}
