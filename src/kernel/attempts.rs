//! Retries: a commit of any other program between a read and a transaction makes the kernel reject the
//! transaction (`ERESTART`).

/// How often something is read, or a transaction of a message or two is sent, while others keep changing
/// rulesets.
pub(super) const READS: u32 = 32;
/// The most attempts to commit while other programs keep changing rulesets.
pub const COMMITS: u32 = 8;

/// One attempt of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Whether this is the last attempt.
    pub is_last: bool,
}

/// Yields so many attempts.
pub fn attempts(most: u32) -> impl Iterator<Item = Attempt> {
    (1..=most).map(move |number| Attempt {
        is_last: number == most,
    })
}
