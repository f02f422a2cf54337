//! Where texts come from: the file system, or memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::file::{self, Accept, Limit};
use crate::untrusted;

use super::is_url;

/// The origin of the bytes: the file system or memory.
#[derive(Debug)]
pub(super) enum Files {
    Disk {
        /// Whether a file that other users can modify or replace is an error.
        strict: bool,
    },
    Memory(BTreeMap<PathBuf, Vec<u8>>),
}

impl Files {
    /// Returns the sorted entries of a directory, each with whether it is a directory; `None` if `path` is not
    /// one.
    pub(super) fn folder(&self, path: &Path) -> io::Result<Option<Vec<(PathBuf, bool)>>> {
        let mut entries: Vec<_> = match self {
            Self::Disk { .. } => {
                let Some(names) = file::folder(path)? else {
                    return Ok(None);
                };
                names
                    .into_iter()
                    .map(|(name, is_folder)| (path.join(name), is_folder))
                    .collect()
            }
            Self::Memory(files) => {
                if files.contains_key(path) {
                    return Ok(None);
                }
                if !files.keys().any(|file| file.starts_with(path)) {
                    return Err(io::Error::from_raw_os_error(2));
                }
                let inside = files.keys().filter(|file| file.parent() == Some(path));
                inside.map(|file| (file.clone(), false)).collect()
            }
        };
        entries.sort();
        Ok(Some(entries))
    }

    /// Returns the bytes of a file, and which parts of its path other users can write to.
    pub(super) fn read(
        &self,
        path: &Path,
        accept: Accept,
        limit: Limit,
    ) -> io::Result<(Vec<u8>, Option<PathBuf>)> {
        match self {
            Self::Disk { strict } => {
                let accept = if *strict { Accept::Regular } else { accept };
                let opened = file::open(path, accept)?;
                let exposed = opened.exposed.clone();
                if let (true, Some(at)) = (strict, &exposed) {
                    return Err(io::Error::other(format!(
                        "everybody can write to {}: `chmod o-w` it",
                        untrusted::path(at)
                    )));
                }
                Ok((opened.read(limit)?, exposed))
            }
            Self::Memory(files) => files
                .get(path)
                .map(|bytes| (bytes.clone(), None))
                .ok_or_else(|| io::Error::from_raw_os_error(2)),
        }
    }
}

/// Returns the error, or a more precise one if a path component is missing.
pub(super) fn explain(path: &Path, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound && is_url(&path.to_string_lossy()) {
        return io::Error::other("dfw fetches nothing: save it as a file, and name that");
    }
    error
}
