//! Files of others: opened where only their owner can have led to them, read up to a bound, and
//! written whole.

mod open;
mod read;
mod replace;

pub use open::{Accept, Opened, folder, make_folder, open, open_protected, owned_folder};
pub use read::{Limit, holds, read, read_all, read_protected};
pub use replace::{create, replace, replace_with, sweep};

use std::io;

/// Returns the help about an error of [`open`] that the file's owner causes.
#[must_use]
pub fn advice(error: &io::Error) -> Option<&'static str> {
    // The system's own have a number.
    let is_ours = error.raw_os_error().is_none();
    (is_ours && error.kind() == io::ErrorKind::PermissionDenied).then_some(
        "give the file to the user who owns what leads to it (`chown USER FILE`), or keep both in \
         a folder of root's that nobody else can write to",
    )
}

/// Somebody else than the owner of the file could have chosen it.
fn foreign(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text.into())
}

/// Returns an error of dfw's own about a file.
fn rejected(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}
