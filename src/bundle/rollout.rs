//! The roll-out: how many stages of a generation may take it. It moves while the manifest stays.

use serde::{Deserialize, Serialize};

use super::Error;
use super::digest::Digest;
use super::head::Head;
use super::keys::Role;
use super::manifest::{Manifest, check_number};
use super::moment::Moment;
use super::signed::Statement;
use super::word::Word;

/// The signed statement which hosts may take a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// The site.
    pub site: Word,
    /// The number of this statement, which each new one of the site increases; from 1 to 2^53 - 1.
    pub serial: u64,
    /// The number of the manifest.
    pub generation: u64,
    /// The digest of the manifest's signed line.
    pub manifest: Digest,
    /// How many stages may take it, from the first one; one more than there are if all hosts may.
    pub open: u32,
    /// Why it does not go on: then no further host takes it.
    pub stopped: Option<String>,
    /// When it was written.
    pub created: Moment,
}

/// The longest reason, in bytes.
const REASON: usize = 500;
/// The most stages that are open: more than a manifest has.
const MOST: u32 = 1 << 16;

impl Statement for Rollout {
    const KIND: &'static str = "rollout";
    const LIMIT: usize = 64 << 10;
    const ROLES: &'static [Role] = &[Role::Policy, Role::Operations];

    fn check(&self) -> Result<(), String> {
        check_number("serial", self.serial)?;
        check_number("generation", self.generation)?;
        if self.open > MOST {
            return Err(format!("`open` is more than {MOST}"));
        }
        let reason = self.stopped.as_deref().unwrap_or_default();
        if reason.len() > REASON || reason.chars().any(char::is_control) {
            return Err(format!("`stopped` is no line of at most {REASON} bytes"));
        }
        Ok(())
    }

    fn comment(&self) -> String {
        let Self {
            site,
            serial,
            generation,
            open,
            ..
        } = self;
        format!("site={site} serial={serial} generation={generation} open={open}")
    }
}

impl Rollout {
    /// Returns whether a host may take the generation, by its manifest.
    #[must_use]
    pub fn is_open(&self, manifest: &Manifest, host: &Word) -> bool {
        let stage = u32::try_from(manifest.stage_of(host)).unwrap_or(u32::MAX);
        self.stopped.is_none() && stage < self.open
    }

    /// Checks that this is about the generation of a head.
    ///
    /// # Errors
    /// [`Error::Mixed`].
    pub fn check_head(&self, head: &Head) -> Result<(), Error> {
        if (&self.site, self.generation, self.manifest)
            == (&head.site, head.generation, head.manifest)
        {
            Ok(())
        } else {
            Err(Error::Mixed)
        }
    }
}
