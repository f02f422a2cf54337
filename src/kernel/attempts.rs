//! Retries: a commit of any other program between a read and a transaction makes the kernel reject the
//! transaction (`ERESTART`).

use std::time::{Duration, Instant};

/// How often something is read, or a transaction of a message or two is sent, at least while others keep changing
/// rulesets.
pub(super) const READS: u32 = 32;
/// For how long it is read more often than that: who writes all the time leaves few moments, and a short table needs
/// no longer one.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// The most attempts to commit while other programs keep changing rulesets.
pub const COMMITS: u32 = 8;

/// One attempt of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Whether this is the last attempt.
    pub is_last: bool,
}

/// Yields attempts to read while others keep changing rulesets: [`READS`], and more until [`PATIENCE`] is over.
pub(super) fn reads() -> impl Iterator<Item = u32> {
    let began = Instant::now();
    (1..).take_while(move |number| *number <= READS || began.elapsed() < PATIENCE)
}

/// Yields so many attempts.
pub fn attempts(most: u32) -> impl Iterator<Item = Attempt> {
    (1..=most).map(move |number| Attempt {
        is_last: number == most,
    })
}
