//! Files of others: opened where only their owner can have led to them, read up to a bound, and
//! written whole.

mod open;
mod read;
mod replace;

pub use open::{Accept, Opened, folder, open};
pub use read::{Limit, read, read_all};
pub use replace::{create, replace, sweep};

use std::io;

/// An error of dfw's own about a file.
fn refused(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}
