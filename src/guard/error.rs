//! Why guard cannot go on.

use std::io;

use thiserror::Error;

use crate::kernel;

/// Why guard cannot go on. What is in force stays.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Something that it must watch cannot be watched.
    #[error("cannot watch: {0}")]
    Watch(#[from] io::Error),
}

impl Error {
    /// Returns whether other rules might have been taken.
    pub(super) fn is_rejection(&self) -> bool {
        use kernel::Error::{Rejected, TooLarge, TooLong, Unsound};
        let Self::Kernel(error) = self else {
            return false;
        };
        matches!(error, Rejected(_) | TooLarge(_) | TooLong(_) | Unsound(_))
    }
}
