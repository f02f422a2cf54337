//! The interface of event sources.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::PollFlags;

use super::event::Event;

/// A descriptor and its poll flags.
pub(in crate::guard) type Polled<'a> = (BorrowedFd<'a>, PollFlags);

/// Something that can wake the event loop.
pub(in crate::guard) trait Feed {
    /// Returns the descriptors to poll.
    fn descriptors(&self) -> Vec<Polled<'_>>;

    /// Returns when the feed has something to do even if no descriptor is ready.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Appends the events since the last call, without blocking.
    ///
    /// # Errors
    /// If the source failed, which ends guard.
    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()>;
}

/// Returns descriptors that are polled for input.
pub(in crate::guard) fn readable<const N: usize>(feeds: [&dyn AsFd; N]) -> Vec<Polled<'_>> {
    feeds
        .into_iter()
        .map(|feed| (feed.as_fd(), PollFlags::IN))
        .collect()
}

/// A disabled feed has no descriptors and no events.
impl<F: Feed> Feed for Option<F> {
    fn descriptors(&self) -> Vec<Polled<'_>> {
        self.as_ref().map_or_else(Vec::new, Feed::descriptors)
    }

    fn deadline(&self) -> Option<Instant> {
        self.as_ref().and_then(Feed::deadline)
    }

    fn drain(&mut self, now: Instant, events: &mut Vec<Event>) -> io::Result<()> {
        self.as_mut().map_or(Ok(()), |feed| feed.drain(now, events))
    }
}
