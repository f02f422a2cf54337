//! Errors that end guard.

use std::io;

use thiserror::Error;

use crate::kernel;

/// An error that ends guard. The rules in force stay.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A required notification source failed.
    #[error("cannot watch: {0}")]
    Watch(#[from] io::Error),
    /// The site that is followed.
    #[error("cannot follow the site: {0}")]
    Site(#[source] io::Error),
}

impl Error {
    /// Returns whether the kernel might accept another ruleset.
    pub(super) fn is_rejection(&self) -> bool {
        use kernel::Error::{Rejected, TooLarge, TooLong, Unsound};
        let Self::Kernel(error) = self else {
            return false;
        };
        matches!(error, Rejected(_) | TooLarge(_) | TooLong(_) | Unsound(_))
    }
}
