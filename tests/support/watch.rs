//! Questions around the end of a permission for a time: it must neither be early nor late.

use std::ops::Range;
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::probe::Conversation;

/// How exact an end is.
const EXACT: Duration = Duration::from_secs(1);
/// How long it is watched behind the latest moment at which all access must have ended.
const BEHIND: Duration = Duration::from_secs(1);
/// How long a question waits for an answer that must not come: a few of them fit behind an end.
const SHORT: Duration = Duration::from_millis(300);

/// Questions of a client: when each was asked, and whether it was answered.
pub(crate) struct Watch<'scope> {
    what: String,
    end: Range<Instant>,
    asked: ScopedJoinHandle<'scope, Result<Vec<(Instant, bool)>>>,
}

impl<'scope> Watch<'scope> {
    /// Asks, with pauses, until a while after the end, which lies between two moments. `ask` gets the time that it
    /// may wait for an answer.
    pub(crate) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        what: String,
        end: &Range<Instant>,
        pause: Duration,
        mut ask: impl FnMut(Duration) -> Result<bool> + Send + 'scope,
    ) -> Self {
        let Range { start, end: latest } = end.clone();
        let asked = scope.spawn(move || {
            let mut asked = Vec::new();
            loop {
                let now = Instant::now();
                // Before the end, only the end may be why there is no answer.
                let patience = start.saturating_duration_since(now).max(SHORT);
                asked.push((now, ask(patience)?));
                if now > latest + EXACT + BEHIND {
                    return Ok(asked);
                }
                sleep(pause);
            }
        });
        Self {
            what,
            end: end.clone(),
            asked,
        }
    }

    /// Fails if a question was not answered a second before the end, or was a second after it.
    pub(crate) fn ended_in_time(self) -> Result<()> {
        let Self { what, end, asked } = self;
        let asked = asked.join().map_err(|_| anyhow!("{what}: panicked"))?;
        let asked = asked.with_context(|| what.clone())?;
        let of = |answered: bool| {
            let of = asked.iter().filter(move |(_, it)| *it == answered);
            of.map(|(at, _)| *at)
        };
        let last = of(true).max().context("never answered");
        let last = last.with_context(|| what.clone())?;
        let first = of(false).min().context("always answered");
        let first = first.with_context(|| what.clone())?;
        eprintln!(
            "{what}: answered until {:+.3} s, not from {:+.3} s on",
            seconds(end.start, last),
            seconds(end.start, first)
        );
        ensure!(
            first + EXACT >= end.start,
            "{what}: ended {:.3} s early",
            seconds(first, end.start)
        );
        ensure!(
            last <= end.end + EXACT,
            "{what}: ended {:.3} s late",
            seconds(end.end, last)
        );
        Ok(())
    }
}

/// The seconds from one moment to another.
fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
        - from.saturating_duration_since(to).as_secs_f64()
}

/// Returns a question on a connection that is opened with the first, and held.
pub(crate) fn on_one_connection(
    mut open: impl FnMut() -> Result<Conversation>,
) -> impl FnMut(Duration) -> Result<bool> {
    let mut held = None;
    move |patience| {
        let conversation = match &mut held {
            Some(conversation) => conversation,
            None => held.insert(open()?),
        };
        // A connection that was reset takes no words.
        Ok(conversation.echoes(patience).unwrap_or(false))
    }
}
