//! Makes a bundle of a directory of policies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::bundle::moment::Moment;
use crate::bundle::signed;
use crate::bundle::version::Version;
use crate::bundle::word::{FileName, HostPattern, Word};
use crate::bundle::{Digest, Entry, Error, Head, Manifest, Stage};
use crate::file;
use crate::policy::Policy;
use crate::text::SourceMap;
use crate::untrusted;

use super::bundle::{BLOBS, HEAD, MANIFESTS};
use super::{LoadError, Policies, ReadError};

/// What a new bundle says beside its files.
#[derive(Debug, Clone)]
pub struct Statements {
    /// The site.
    pub site: Word,
    /// The number of the files.
    pub generation: u64,
    /// The number of the head.
    pub serial: u64,
    /// When it is made.
    pub created: Moment,
    /// For how long it is valid.
    pub valid: Duration,
    /// The oldest dfw that understands the files.
    pub requires: Version,
    /// The hosts of each group.
    pub groups: BTreeMap<Word, Vec<HostPattern>>,
    /// The hosts that come first in a roll-out.
    pub stages: Vec<Stage>,
}

/// A bundle in memory, not signed yet.
#[derive(Debug)]
pub struct Pack {
    /// The head.
    pub head: Head,
    /// The manifest.
    pub manifest: Manifest,
    /// The contents of files by their digests.
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// The policies of all groups of hosts.
    policies: Vec<Policy>,
}

/// Reasons why no bundle is made.
#[derive(Debug, Error)]
pub enum PackError {
    /// The policies cannot be read, have errors, or a test fails.
    #[error("the policies cannot be loaded")]
    Load(Box<LoadError>),
    /// A file cannot be part of a bundle.
    #[error("{}: {reason}", untrusted::path(path))]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A signed text would be malformed.
    #[error(transparent)]
    Text(#[from] Error),
    /// It would expire after the year 9999.
    #[error("the bundle would expire after the year 9999")]
    TooLate,
}

impl Pack {
    /// Reads the policies in `folder` and the lists that they name, for the hosts of each group. Each of these
    /// policies is read into texts of its own, which `texts` creates, and its tests must pass.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn of(
        folder: &Path,
        statements: &Statements,
        texts: impl Fn() -> SourceMap,
    ) -> Result<Self, PackError> {
        let mut files: BTreeMap<FileName, Vec<u8>> = BTreeMap::new();
        let mut all = Vec::new();
        let load = |wrong: LoadError| PackError::Load(Box::new(wrong));
        let inside = |group: &Word| folder.join(group.as_str());
        let known: Vec<_> = statements.groups.keys().map(inside).collect();
        for groups in combinations(&statements.groups) {
            let folders: Vec<_> = groups.iter().map(inside).collect();
            let read = Policies::read_groups(texts(), folder, &folders, &known);
            let read = read.and_then(Policies::test);
            let policies = match read {
                Ok((policies, _)) => policies,
                // All policies may be those of groups.
                Err(LoadError::Unread(ReadError::NoPolicies { .. }))
                    if groups.is_empty() && !statements.groups.is_empty() =>
                {
                    continue;
                }
                Err(wrong) => return Err(load(wrong)),
            };
            for (path, text) in policies.sources.files() {
                files.insert(name(folder, path)?, text.as_bytes().to_vec());
            }
            all.push(policies.policy);
        }
        Self::from_files(statements, files, all)
    }

    fn from_files(
        statements: &Statements,
        files: BTreeMap<FileName, Vec<u8>>,
        policies: Vec<Policy>,
    ) -> Result<Self, PackError> {
        let statements = statements.clone();
        let entry = |(name, contents): (&FileName, &Vec<u8>)| Entry {
            name: name.clone(),
            sha256: Digest::of(contents),
            size: u64::try_from(contents.len()).unwrap_or(u64::MAX),
        };
        let manifest = Manifest {
            site: statements.site.clone(),
            generation: statements.generation,
            created: statements.created,
            requires: statements.requires,
            groups: statements.groups,
            stages: statements.stages,
            files: files.iter().map(entry).collect(),
        };
        let expires = statements.created.after(statements.valid);
        let head = Head {
            site: statements.site,
            serial: statements.serial,
            generation: statements.generation,
            manifest: Digest::of(signed::write(&manifest)?.as_bytes()),
            created: statements.created,
            expires: expires.ok_or(PackError::TooLate)?,
        };
        // Its bounds are those of the head, too.
        signed::write(&head)?;
        let blobs = files.into_values();
        Ok(Self {
            head,
            manifest,
            blobs: blobs
                .map(|contents| (Digest::of(&contents), contents))
                .collect(),
            policies,
        })
    }

    /// Returns whether an address is excluded from a port.
    #[must_use]
    pub fn excepts(&self, address: IpAddr) -> bool {
        self.policies.iter().any(|policy| policy.excepts(address))
    }

    /// Returns the manifest, and the contents of its files by their digests.
    #[must_use]
    pub fn into_files(self) -> (Manifest, BTreeMap<Digest, Vec<u8>>) {
        (self.manifest, self.blobs)
    }

    /// Writes the bundle to a new or empty folder, and the head last: without it, the folder is no bundle. Returns
    /// the files that are to be signed, each with the comment for it.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn write(&self, folder: &Path) -> io::Result<[(PathBuf, String); 2]> {
        fs::create_dir_all(folder.join(MANIFESTS))?;
        fs::create_dir_all(folder.join(BLOBS))?;
        for (digest, contents) in &self.blobs {
            file::create(
                &folder.join(BLOBS).join(digest.to_string()),
                0o644,
                contents,
            )?;
        }
        let malformed = |error: Error| io::Error::other(error);
        let manifest = folder.join(MANIFESTS).join(self.head.manifest.to_string());
        let text = signed::write(&self.manifest).map_err(malformed)?;
        file::create(&manifest, 0o644, text.as_bytes())?;
        let head = folder.join(HEAD);
        let text = signed::write(&self.head).map_err(malformed)?;
        file::create(&head, 0o644, text.as_bytes())?;
        Ok([
            (manifest, signed::comment(&self.manifest)),
            (head, signed::comment(&self.head)),
        ])
    }
}

/// Returns the sets of groups that hosts may be in: none, each one alone, and those of each host that is named.
/// Hosts that only a pattern names may be in others.
fn combinations(groups: &BTreeMap<Word, Vec<HostPattern>>) -> BTreeSet<BTreeSet<Word>> {
    let hosts = groups.values().flatten().filter_map(HostPattern::host);
    let of = |host: &Word| -> BTreeSet<Word> {
        let own = groups
            .iter()
            .filter(|(_, hosts)| hosts.iter().any(|pattern| pattern.matches(host)));
        own.map(|(group, _)| group.clone()).collect()
    };
    let own = hosts.map(|host| of(&host));
    let single = groups.keys().map(|group| BTreeSet::from([group.clone()]));
    std::iter::once(BTreeSet::new())
        .chain(single)
        .chain(own)
        .collect()
}

/// Returns the name of a file in the bundle.
fn name(folder: &Path, path: &Path) -> Result<FileName, PackError> {
    let wrong = |reason| PackError::File {
        path: path.to_owned(),
        reason,
    };
    let outside = "it is not in the directory of the policies, so it cannot be part of a bundle";
    let inside = path.strip_prefix(folder).map_err(|_| wrong(outside))?;
    let mut parts = Vec::new();
    for part in inside.components() {
        match part {
            Component::Normal(part) => parts.push(
                part.to_str()
                    .ok_or_else(|| wrong("its name is not UTF-8"))?,
            ),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(wrong(outside));
            }
        }
    }
    parts.join("/").parse().map_err(wrong)
}
