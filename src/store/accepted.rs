//! Fetched lists that were accepted, one file each: what the next one is compared with, and what stays where the
//! next one is not accepted.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::file;
use crate::policy::List;
use crate::text::ACCEPTED;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::Policies;

impl Policies {
    /// Keeps the fetched lists that are new in a folder, in place of those that were accepted before. The
    /// policies are, or are about to be, in force. Returns a warning for each that cannot be kept.
    #[must_use]
    pub fn accept(&self, folder: &Path) -> Vec<Diagnostic> {
        let fetched = self.policy.sources.values();
        let new = fetched.filter_map(|source| match source.fetched.as_deref() {
            Some(fetched) => match fetched.list {
                List::New(file) => Some((source, fetched, file)),
                _ => None,
            },
            None => None,
        });
        new.filter_map(|(source, fetched, file)| {
            let text = self.sources.text(file);
            let error = keep(folder, &fetched.request.key(), text.as_bytes()).err()?;
            let folder = untrusted::path(folder);
            let message = format!("cannot keep this list in {folder}: {error}");
            Some(Diagnostic::warning("fetched-list", message).at(
                source.origin.clone(),
                "the next one is not compared with it",
            ))
        })
        .collect()
    }
}

/// Keeps the text of a list under its key.
///
/// # Errors
/// As the file system's; what was kept stays.
pub fn keep(folder: &Path, key: &str, text: &[u8]) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    file::replace(&folder.join(format!("{ACCEPTED}{key}")), 0o600, text)
}
