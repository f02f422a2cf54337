//! The head: which manifest is the one now. It is the only part of a bundle that changes in place.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use super::digest::Digest;
use super::keys::Role;
use super::manifest::{Manifest, check_number};
use super::moment::Moment;
use super::signed::{Statement, Verified};
use super::word::Word;

/// The longest time from `created` to `expires`.
pub const LONGEST: Duration = Duration::from_hours(366 * 24);
/// The shortest.
pub const SHORTEST: Duration = Duration::from_mins(1);

/// The signed statement that a manifest is the one of a site, until a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The site.
    pub site: Word,
    /// The number of this head, which each new head of the site increases; from 1 to 2^53 - 1.
    pub serial: u64,
    /// The number of the manifest; the same bounds.
    pub generation: u64,
    /// The digest of the manifest's signed line.
    pub manifest: Digest,
    /// When it was written.
    pub created: Moment,
    /// From when on it is not accepted; at most 366 days later.
    pub expires: Moment,
}

impl Statement for Head {
    const KIND: &'static str = "head";
    const LIMIT: usize = 64 << 10;
    const ROLES: &'static [Role] = &[Role::Policy, Role::Operations];

    fn check(&self) -> Result<(), String> {
        check_number("serial", self.serial)?;
        check_number("generation", self.generation)?;
        let time = self.expires.since(self.created);
        if (SHORTEST..=LONGEST).contains(&time) {
            Ok(())
        } else {
            Err("`expires` is not between a minute and 366 days after `created`".to_owned())
        }
    }

    fn comment(&self) -> String {
        let Self {
            site,
            serial,
            generation,
            ..
        } = self;
        format!("site={site} serial={serial} generation={generation}")
    }
}

impl Head {
    /// Returns the next head of the same manifest.
    ///
    /// # Errors
    /// If there is no later serial, or the time is out of bounds.
    pub fn renew(&self, created: Moment, valid: Duration) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::Malformed(Self::KIND, reason.to_owned());
        let expires = created.after(valid);
        let renewed = Self {
            serial: self.serial + 1,
            created,
            expires: expires.ok_or_else(|| malformed("it would expire after the year 9999"))?,
            ..self.clone()
        };
        renewed
            .check()
            .map_err(|reason| Error::Malformed(Self::KIND, reason))?;
        Ok(renewed)
    }

    /// Checks that this is a head of the site.
    ///
    /// # Errors
    /// [`Error::Site`].
    pub fn check_site(&self, site: &Word) -> Result<(), Error> {
        if self.site == *site {
            Ok(())
        } else {
            Err(Error::Site {
                expected: site.clone(),
                found: self.site.clone(),
            })
        }
    }

    /// Checks that the head has not expired.
    ///
    /// # Errors
    /// [`Error::Expired`].
    pub fn check_time(&self, now: Moment) -> Result<(), Error> {
        if now < self.expires {
            Ok(())
        } else {
            Err(Error::Expired(self.expires))
        }
    }

    /// Checks that a manifest is the one that this head names.
    ///
    /// # Errors
    /// [`Error::Mixed`].
    pub fn check_manifest(&self, manifest: &Verified<Manifest>) -> Result<(), Error> {
        let Verified { statement, digest } = manifest;
        if (self.manifest, &self.site, self.generation)
            == (*digest, &statement.site, statement.generation)
        {
            Ok(())
        } else {
            Err(Error::Mixed)
        }
    }
}
