//! Where texts come from: the file system, or memory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::file::{self, Accept, Limit, Opened};

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

    /// Returns the bytes of a file as a stream. Files and paths that other users can write to are errors for a
    /// daemon.
    pub(super) fn stream(
        &self,
        path: &Path,
        accept: Accept,
        limit: Limit,
    ) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Disk { strict } => Box::new(open(path, accept, *strict)?.stream(limit)?),
            Self::Memory(files) => Box::new(in_memory(files, path)?),
        })
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
                let accept = match accept {
                    Accept::Pipes if *strict => Accept::Regular,
                    accept => accept,
                };
                let mut opened = open(path, accept, *strict)?;
                let exposed = opened.exposed.take();
                Ok((opened.read(limit)?, exposed))
            }
            Self::Memory(files) => Ok((in_memory(files, path)?.to_owned(), None)),
        }
    }
}

fn in_memory<'a>(files: &'a BTreeMap<PathBuf, Vec<u8>>, path: &Path) -> io::Result<&'a [u8]> {
    let bytes = files.get(path).map(Vec::as_slice);
    bytes.ok_or_else(|| io::Error::from_raw_os_error(2))
}

/// Opens a file; if `strict`, then only one that not everybody can write to.
fn open(path: &Path, accept: Accept, strict: bool) -> io::Result<Opened> {
    if strict {
        file::open_protected(path, accept)
    } else {
        file::open(path, accept)
    }
}

/// Returns the error, or a more precise one if a path component is missing.
pub(super) fn explain(path: &Path, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound && is_url(&path.to_string_lossy()) {
        return io::Error::other("policies are not fetched: save them as files, and name those");
    }
    error
}
