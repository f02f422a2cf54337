//! The manifest: the files of a generation by their digests, and which hosts are in which groups. It never changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::file::Limit;

use super::digest::Digest;
use super::keys::Role;
use super::moment::Moment;
use super::signed::Statement;
use super::stage::{Stage, place};
use super::version::Version;
use super::word::{FileName, HostPattern, Word};

/// The highest number that JSON keeps everywhere.
const MOST: u64 = (1 << 53) - 1;
/// The most files of a generation: as many as a policy has.
const FILES: usize = 4096;
/// The most groups, and the most stages.
const GROUPS: usize = 1024;

/// The signed list of the files of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The site.
    pub site: Word,
    /// The number of this generation, from 1 to 2^53 - 1. Hosts never go back to a lower one.
    pub generation: u64,
    /// When it was written.
    pub created: Moment,
    /// The oldest dfw that understands the files.
    pub requires: Version,
    /// The hosts of each group. What is in the folder of a group is for its hosts only.
    pub groups: BTreeMap<Word, Vec<HostPattern>>,
    /// The hosts that come first, second and so on in a roll-out; what no stage names comes last.
    pub stages: Vec<Stage>,
    /// The files, sorted by name.
    pub files: Vec<Entry>,
}

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name.
    pub name: FileName,
    /// The digest of the contents, which is the name in the folder `blobs`, too.
    pub sha256: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// Checks a number of a head or a manifest.
pub(super) fn check_number(name: &str, number: u64) -> Result<(), String> {
    if (1..=MOST).contains(&number) {
        Ok(())
    } else {
        Err(format!("`{name}` is not between 1 and 2^53 - 1"))
    }
}

impl Statement for Manifest {
    const KIND: &'static str = "manifest";
    const LIMIT: usize = 1 << 20;
    const ROLES: &'static [Role] = &[Role::Policy];

    fn check(&self) -> Result<(), String> {
        check_number("generation", self.generation)?;
        if self.groups.len() > GROUPS || self.stages.len() > GROUPS {
            return Err(format!("more than {GROUPS} groups or stages"));
        }
        for hosts in self.groups.values() {
            if !hosts.is_sorted_by(|a, b| a < b) {
                return Err("the hosts of a group are not sorted, or named twice".to_owned());
            }
        }
        let mut seen = BTreeSet::new();
        for stage in &self.stages {
            if let Stage::Group(group) = stage
                && !self.groups.contains_key(group)
            {
                return Err(format!(
                    "a stage names the group {group}, which does not exist"
                ));
            }
            if !seen.insert(stage) {
                return Err(format!("the stage {stage} is there twice"));
            }
        }
        self.check_files()
    }

    fn comment(&self) -> String {
        let Self {
            site, generation, ..
        } = self;
        format!("site={site} generation={generation}")
    }
}

impl Manifest {
    fn check_files(&self) -> Result<(), String> {
        if self.files.is_empty() || self.files.len() > FILES {
            return Err(format!("it has no file, or more than {FILES}"));
        }
        if !self.files.is_sorted_by(|a, b| a.name < b.name) {
            return Err("the files are not sorted by name, or named twice".to_owned());
        }
        let mut sizes = BTreeMap::new();
        let mut sum = 0_u64;
        for Entry { name, sha256, size } in &self.files {
            let limit = if name.is_policy() {
                Limit::POLICY
            } else {
                Limit::LIST
            };
            sum = sum.saturating_add(*size);
            if *size > limit.bytes() || sum > Limit::SUM.bytes() {
                return Err(format!("{name} is too large, or all files together are"));
            }
            if sizes
                .insert(sha256, size)
                .is_some_and(|other| other != size)
            {
                return Err(format!("{name} has the digest of a file of another size"));
            }
        }
        Ok(())
    }

    /// Returns the number of the stage of a host, from 0; the number of stages if no stage names it.
    #[must_use]
    pub fn stage_of(&self, host: &Word) -> usize {
        let contains = |stage: &Stage| match stage {
            Stage::Group(group) => self.groups_of(host).any(|own| own == group),
            Stage::Percent(percent) => place(host, &self.site) < u64::from(*percent) * 100,
        };
        let stage = self.stages.iter().position(contains);
        stage.unwrap_or(self.stages.len())
    }

    /// Returns the groups of a host.
    pub fn groups_of<'a>(&'a self, host: &'a Word) -> impl Iterator<Item = &'a Word> {
        let is_member = |hosts: &[HostPattern]| hosts.iter().any(|pattern| pattern.matches(host));
        let groups = self.groups.iter();
        groups
            .filter(move |(_, hosts)| is_member(hosts))
            .map(|(group, _)| group)
    }

    /// Returns the files for a host in these groups: those in no group's folder, and those in the folders of its
    /// groups.
    pub fn files_of<'a>(&'a self, groups: &'a BTreeSet<Word>) -> impl Iterator<Item = &'a Entry> {
        self.files.iter().filter(move |file| {
            let group = file.name.folder().and_then(|folder| folder.parse().ok());
            group.is_none_or(|group: Word| {
                !self.groups.contains_key(&group) || groups.contains(&group)
            })
        })
    }
}
