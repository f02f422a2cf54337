//! Lists that were accepted, of fetched sources and of files with `max-loss`, one file each: what the next one is compared with, and what stays where the
//! next one is not accepted.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::file;
use crate::net::AddressSet;
use crate::policy::{List, NamedSource};
use crate::text::ACCEPTED;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::Policies;

impl Policies {
    /// Keeps the lists that are new in a folder, in place of those that were accepted before. The
    /// policies are, or are about to be, in force. Returns a warning for each that cannot be kept.
    #[must_use]
    pub fn accept(&self, folder: &Path) -> Vec<Diagnostic> {
        let sources = self.policy.sources.values();
        let new = sources.filter(|source| match (&source.fetched, &source.compared) {
            (Some(fetched), _) => fetched.list == List::New,
            (None, Some(compared)) => compared.is_new,
            (None, None) => false,
        });
        new.filter_map(|source| {
            let error = self.keep(folder, source)?.err()?;
            let folder = untrusted::path(folder);
            let message = format!("cannot keep this list in {folder}: {error}");
            Some(Diagnostic::warning("fetched-list", message).at(
                source.origin.clone(),
                "the next one is not compared with it",
            ))
        })
        .collect()
    }

    /// Keeps the list of a source in a folder, in place of the one that was accepted before; `None` if the next
    /// one is not compared with it.
    ///
    /// # Errors
    /// The error of the file system; the list that was accepted before stays.
    #[must_use]
    pub fn keep(&self, folder: &Path, source: &NamedSource) -> Option<io::Result<()>> {
        let key = match (&source.fetched, &source.compared) {
            (Some(fetched), _) if fetched.list == List::New => fetched.request.key(),
            (None, Some(compared)) => compared.key.clone(),
            _ => return None,
        };
        Some(keep(folder, &key, &source.addresses))
    }
}

/// Keeps a list under its key.
///
/// # Errors
/// The error of the file system; the list that was accepted before stays.
fn keep(folder: &Path, key: &str, list: &AddressSet) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let path = folder.join(format!("{ACCEPTED}{key}"));
    file::replace_with(&path, 0o600, |file| write!(file, "{}", list.lines()))
}
