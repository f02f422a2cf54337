//! A folder with a bundle: signed policies, checked before they are read as policies.
//!
//! Nothing is unpacked. The files of a bundle are read by their digests, checked, and shown to the readers of
//! policies under the names in the manifest; what the manifest does not name does not exist for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use crate::bundle::moment::Moment;
use crate::bundle::word::Word;
use crate::bundle::{
    Digest, Entry, Error, Head, Keys, Manifest, Rollout, Signed, Statement, Verified,
};
use crate::file::{self, Accept, Limit};
use crate::text::Unreadable;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

/// The names in the folder of a bundle.
pub const HEAD: &str = "head";
/// The folder of manifests, by digest.
pub const MANIFESTS: &str = "manifests";
/// The roll-out, if the bundle is one of a store.
pub const ROLLOUT: &str = "rollout";
/// The folder of contents, by digest.
pub const BLOBS: &str = "blobs";

/// What is known of the bundles that may be read.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The keys that must have signed it; `None` to read what nobody may have signed.
    pub keys: Option<Keys>,
    /// The site that it must be for; `None` for any.
    pub site: Option<Word>,
    /// The host that it is read for; `None` if that is not known.
    pub host: Option<Word>,
    /// Whether it is to come into force: then it must be signed, and must not have expired.
    pub is_enforced: bool,
    /// Whether other policies than a bundle are an error: else somebody who can write to the folder could put policies
    /// in place of the bundle that nobody signed.
    pub is_required: bool,
    /// Which manifest is read.
    pub pick: Pick,
}

/// Which manifest of a bundle is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pick {
    /// The one that the head names.
    #[default]
    Head,
    /// The one with this digest, which was accepted before, whatever the head names now; `None` if none was.
    Accepted(Option<Digest>),
}

/// A bundle of which the signed texts are checked.
#[derive(Debug)]
pub struct Bundle {
    /// The head.
    pub head: Head,
    /// What the manifest that it names lists.
    pub contents: Contents,
    /// What was not checked, or is not as it should be.
    pub warnings: Vec<Diagnostic>,
}

/// The files of a manifest in a folder.
#[derive(Debug)]
pub struct Contents {
    folder: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
}

/// Reasons why a bundle cannot be read.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is not taken.
    #[error("{}: {error}", untrusted::path(folder))]
    Denied {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        #[source]
        error: Error,
    },
    /// It is no bundle.
    #[error("{} is no bundle", untrusted::path(.0))]
    NoBundle(PathBuf),
    /// No key is trusted.
    #[error("{} is a bundle, and no key is trusted", untrusted::path(.0))]
    NoKeys(PathBuf),
    /// The bundle has groups, and the host is not known.
    #[error("{} has files for groups of hosts, and no host is named", untrusted::path(.0))]
    NoHost(PathBuf),
    /// No bundle of a site was accepted yet.
    #[error("no generation of the site was accepted yet")]
    NoneAccepted,
}

impl Trust {
    /// Checks that a key is trusted to sign policies.
    ///
    /// # Errors
    /// [`OpenError::NoKeys`], about the bundle in `folder`.
    pub fn check_keys(&self, folder: &Path) -> Result<(), OpenError> {
        if self.keys.as_ref().is_none_or(Keys::is_empty) {
            return Err(OpenError::NoKeys(folder.to_owned()));
        }
        Ok(())
    }
}

/// Returns whether a folder is a bundle: it has folders for manifests and contents. A head may be missing.
#[must_use]
pub fn is_bundle(path: &Path) -> bool {
    path.join(MANIFESTS).is_dir() && path.join(BLOBS).is_dir()
}

impl Bundle {
    /// Reads and checks the head and the manifest in a folder.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(folder: &Path, trust: &Trust) -> Result<Self, OpenError> {
        let keys = trust.keys.as_ref();
        if trust.is_enforced {
            trust.check_keys(folder)?;
        }
        let denied = |error| OpenError::Denied {
            folder: folder.to_owned(),
            error,
        };
        let bytes = read(&folder.join(HEAD), Limit::HEAD)?;
        let head = statement::<Head>(&bytes, keys).map_err(denied)?.statement;
        if let Some(site) = &trust.site {
            head.check_site(site).map_err(denied)?;
        }
        let manifest = manifest(folder, &head.manifest, keys)?;
        head.check_manifest(&manifest).map_err(denied)?;
        let mut warnings = Vec::new();
        if keys.is_none() {
            let message = format!(
                "the signatures of the bundle {} are not checked",
                untrusted::path(folder)
            );
            warnings.push(
                Diagnostic::warning("unverified-bundle", message)
                    .help("name the key that must have signed it: `--trusted-key FILE`"),
            );
        }
        for place in keys.map(Keys::exposed).into_iter().flatten() {
            let message = format!(
                "everybody on this host can write to {}, where a trusted key comes from",
                untrusted::path(place)
            );
            warnings.push(Diagnostic::warning("world-writable", message).help(
                "take that away with `chmod o-w`; nothing comes into force by a key like this",
            ));
        }
        match head.check_time(now()) {
            Err(error) if trust.is_enforced => return Err(denied(error)),
            Err(error) => {
                let message = format!("{}: {error}", untrusted::path(folder));
                warnings.push(
                    Diagnostic::warning("expired", message)
                        .help("`dfw bundle renew` writes a new head for the same files"),
                );
            }
            Ok(()) => {}
        }
        Ok(Self {
            head,
            contents: Contents {
                folder: folder.to_owned(),
                manifest: manifest.statement,
            },
            warnings,
        })
    }
}

impl Bundle {
    /// Returns the signed texts of the head and of the manifest.
    ///
    /// # Errors
    /// [`OpenError::Unreadable`].
    pub fn texts(&self, folder: &Path) -> Result<(Vec<u8>, Vec<u8>), OpenError> {
        let manifest = folder.join(MANIFESTS).join(self.head.manifest.to_string());
        let head = read(&folder.join(HEAD), Limit::HEAD)?;
        Ok((head, read(&manifest, Limit::MANIFEST)?))
    }
}

impl Contents {
    /// Reads the manifest with a digest that was accepted before: its signature was checked then.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn accepted(folder: &Path, digest: &Digest) -> Result<Self, OpenError> {
        let manifest = manifest(folder, digest, None)?;
        if manifest.digest != *digest {
            return Err(OpenError::Denied {
                folder: folder.to_owned(),
                error: Error::Mixed,
            });
        }
        Ok(Self {
            folder: folder.to_owned(),
            manifest: manifest.statement,
        })
    }

    /// Returns the groups of a host.
    ///
    /// # Errors
    /// [`OpenError::NoHost`] if there are groups, and the host is not known.
    pub fn groups(&self, host: Option<&Word>) -> Result<BTreeSet<Word>, OpenError> {
        match host {
            Some(host) => Ok(self.manifest.groups_of(host).cloned().collect()),
            None if self.manifest.groups.is_empty() => Ok(BTreeSet::new()),
            None => Err(OpenError::NoHost(self.folder.clone())),
        }
    }

    /// Reads and checks the files for a host in these groups; returns the contents by names.
    ///
    /// # Errors
    /// [`OpenError::Unreadable`], and [`OpenError::Denied`] if contents are not those of the manifest.
    pub fn files(&self, groups: &BTreeSet<Word>) -> Result<BTreeMap<PathBuf, Vec<u8>>, OpenError> {
        let files = self.manifest.files_of(groups);
        let named = |entry: &Entry| Ok((self.folder.join(entry.name.as_str()), self.read(entry)?));
        files.map(named).collect()
    }

    /// Checks all files, also those for other hosts; returns the size of all in bytes.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn check_files(&self) -> Result<u64, OpenError> {
        let files = self.manifest.files.iter();
        files
            .map(|entry| self.read(entry).map(|_| entry.size))
            .sum()
    }

    /// Reads and checks all files; returns their contents by their digests.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn blobs(&self) -> Result<BTreeMap<Digest, Vec<u8>>, OpenError> {
        let files = self.manifest.files.iter();
        files
            .map(|entry| Ok((entry.sha256, self.read(entry)?)))
            .collect()
    }

    /// Reads and checks one file.
    fn read(&self, entry: &Entry) -> Result<Vec<u8>, OpenError> {
        let path = self.folder.join(BLOBS).join(entry.sha256.to_string());
        let denied = |error| OpenError::Denied {
            folder: self.folder.clone(),
            error,
        };
        let opened =
            file::open(&path, Accept::Regular).map_err(|error| unreadable(&path, error))?;
        if opened.size != entry.size {
            return Err(denied(Error::Contents(entry.name.clone())));
        }
        let contents = opened.read(Limit::of(entry.size));
        let contents = contents.map_err(|error| unreadable(&path, error))?;
        entry.check(&contents).map_err(denied)?;
        Ok(contents)
    }

    /// Returns the folders in this one whose policies count for a host in these groups.
    pub(super) fn folders(&self, groups: &BTreeSet<Word>) -> Vec<PathBuf> {
        let folders = groups.iter().map(|group| self.folder.join(group.as_str()));
        folders.collect()
    }
}

/// Reads the manifest that is named by a digest, which is not compared.
fn manifest(
    folder: &Path,
    digest: &Digest,
    keys: Option<&Keys>,
) -> Result<Verified<Manifest>, OpenError> {
    let bytes = read(
        &folder.join(MANIFESTS).join(digest.to_string()),
        Limit::MANIFEST,
    )?;
    statement(&bytes, keys).map_err(|error| OpenError::Denied {
        folder: folder.to_owned(),
        error,
    })
}

/// Reads what the head in a folder says, signed or not; `None` if it says nothing.
#[must_use]
pub fn claimed(folder: &Path) -> Option<Head> {
    let bytes = read(&folder.join(HEAD), Limit::HEAD).ok()?;
    let head = statement::<Head>(&bytes, None).ok()?;
    Some(head.statement)
}

/// Reads the roll-out in a folder, which a trusted key must have signed; `None` if there is none.
///
/// # Errors
/// See [`OpenError`].
pub fn rollout(folder: &Path, keys: Option<&Keys>) -> Result<Option<Rollout>, OpenError> {
    let bytes = match read(&folder.join(ROLLOUT), Limit::HEAD) {
        Err(error) if error.error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let rollout = statement::<Rollout>(&bytes, keys).map_err(|error| OpenError::Denied {
        folder: folder.to_owned(),
        error,
    })?;
    Ok(Some(rollout.statement))
}

/// Returns a signed text, checked if there are keys.
fn statement<T: Statement>(bytes: &[u8], keys: Option<&Keys>) -> Result<Verified<T>, Error> {
    let signed = Signed::split::<T>(bytes)?;
    match keys {
        Some(keys) => signed.verify(keys),
        None => signed.read(),
    }
}

/// Returns the time of day; 1970 if the clock is before that.
#[must_use]
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Moment::since_epoch(since.unwrap_or_default()).unwrap_or_default()
}

fn read(path: &Path, limit: Limit) -> Result<Vec<u8>, Unreadable> {
    file::read(path, Accept::Regular, limit).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: io::Error) -> Unreadable {
    let path = path.to_owned();
    Unreadable { path, error }
}
