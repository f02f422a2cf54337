//! The last good policy, kept on disk with all files that it was read from.
//!
//! One file: a line with a digest, and behind it the texts as JSON. It is written beside the former
//! one and takes its place whole.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use thiserror::Error;

use crate::policies::Policies;
use crate::source::Sources;

/// The name of the file in the state folder.
const NAME: &str = "last-good";
/// What the file begins with; the digest follows.
const MAGIC: &str = "dfw last good policy, version 1, digest ";

/// Why the last good policy cannot be had.
#[derive(Debug, Error)]
pub(super) enum Error {
    /// There is none.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: it is ignored", .0.display())]
    Damaged(PathBuf),
    /// It is whole, and is not a valid policy any more.
    #[error("{} is not valid for this version of dfw: it is ignored", .0.display())]
    Invalid(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
struct Texts<'a> {
    /// Where the policies were.
    path: PathBuf,
    /// Each file with its text.
    #[serde(borrow)]
    files: Vec<(PathBuf, std::borrow::Cow<'a, str>)>,
}

/// A number that all texts of a policy have a share in, and their names.
pub(super) fn digest(sources: &Sources) -> u128 {
    let mut hasher = SipHasher13::new();
    for (path, text) in sources.files() {
        path.hash(&mut hasher);
        text.hash(&mut hasher);
    }
    hasher.finish128().as_u128()
}

/// Keeps a policy in place of the one that is kept.
pub(super) fn write(folder: &Path, path: &Path, sources: &Sources) -> Result<(), Error> {
    let to = folder.join(NAME);
    let files = sources.files();
    let texts = Texts {
        path: path.to_owned(),
        files: files
            .map(|(path, text)| (path.to_owned(), text.into()))
            .collect(),
    };
    let failed = |error: io::Error| Error::Io {
        path: to.clone(),
        error,
    };
    let body = serde_json::to_vec(&texts).map_err(|error| failed(error.into()))?;
    let new = folder.join(format!("{NAME}.new"));
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = File::create(&new)?;
        writeln!(file, "{MAGIC}{:032x}", digest_of(&body))?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&new, &to)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        // Half a file is of no use, and takes room that is scarce.
        let _ = fs::remove_file(&new);
    }
    written.map_err(failed)
}

/// Reads the policy that is kept.
pub(super) fn read(folder: &Path) -> Result<Policies, Error> {
    let path = folder.join(NAME);
    let bytes = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.clone()),
        _ => Error::Io {
            path: path.clone(),
            error,
        },
    })?;
    let texts = decode(&bytes).ok_or_else(|| Error::Damaged(path.clone()))?;
    let files = texts.files.into_iter();
    let files = files.map(|(path, text)| (path, text.into_owned()));
    Policies::read(Sources::in_memory(files), &texts.path).map_err(|_| Error::Invalid(path))
}

fn decode(bytes: &[u8]) -> Option<Texts<'_>> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (digest, body) = rest.split_at_checked(32)?;
    let body = body.strip_prefix(b"\n")?;
    let digest = u128::from_str_radix(std::str::from_utf8(digest).ok()?, 16).ok()?;
    (digest == digest_of(body))
        .then(|| serde_json::from_slice(body).ok())
        .flatten()
}

fn digest_of(body: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(body);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("dfw-state-{name}-{}", std::process::id()))
    }

    fn policies() -> Policies {
        let sources = Sources::in_memory([
            ("p/a.yaml", "default: deny\nsources: {o: {file: lists/o}}\n"),
            ("p/b.yaml", "ports: {80: [o]}\n"),
            ("p/lists/o", "192.0.2.7\n"),
        ]);
        Policies::read(sources, Path::new("p")).unwrap()
    }

    #[test]
    fn what_is_kept_is_what_comes_back() {
        let folder = folder("same");
        assert!(matches!(read(&folder), Err(Error::Missing(_))));
        let policies = policies();
        write(&folder, Path::new("p"), &policies.sources).unwrap();
        let back = read(&folder).unwrap();
        assert_eq!(digest(&back.sources), digest(&policies.sources));
        assert_eq!(
            format!("{:?}", back.policy),
            format!("{:?}", policies.policy)
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_damaged_is_told_from_what_is_whole() {
        let folder = folder("damaged");
        write(&folder, Path::new("p"), &policies().sources).unwrap();
        let path = folder.join(NAME);
        let whole = fs::read(&path).unwrap();
        for at in [0, MAGIC.len() + 3, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(read(&folder), Err(Error::Damaged(_))), "{at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(read(&folder), Err(Error::Damaged(_))), "{at}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
