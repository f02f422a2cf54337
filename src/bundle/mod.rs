//! Bundles: policies as signed, numbered files, which hosts check before they take them.
//!
//! A bundle is a folder:
//!
//! | file | contents |
//! |---|---|
//! | `head` | the signed [`Head`]: which manifest is the one now, and until when; the only file that changes |
//! | `manifests/DIGEST` | the signed [`Manifest`]: files with their digests and sizes, groups of hosts |
//! | `blobs/DIGEST` | the contents of a file |
//! | `rollout` | the signed [`Rollout`]: which stages may take it; only where a store is followed |
//!
//! This module parses and verifies texts; it reads no file and no clock.

pub mod address;
pub mod delta;
pub mod digest;
pub mod head;
pub mod keys;
pub mod manifest;
pub mod moment;
pub mod rollout;
pub mod signed;
pub mod stage;
mod text;
pub mod version;
pub mod word;

use thiserror::Error;

use crate::untrusted::clean;

use moment::Moment;
use version::Version;
use word::Word;

pub use address::Address;
pub use digest::Digest;
pub use head::Head;
pub use keys::{Keys, Role};
pub use manifest::{Entry, Manifest};
pub use rollout::Rollout;
pub use signed::{Signed, Statement, Verified};
pub use stage::Stage;

/// Reasons why a bundle is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// A signed text is not what dfw writes.
    #[error("the {0} is malformed: {reason}", reason = clean(.1))]
    Malformed(&'static str, String),
    /// The text is a signed text of dfw, and not this one.
    #[error("in place of the {0} there is another kind of text")]
    Type(&'static str),
    /// The text is of a later format.
    #[error("the {0} has a format of a newer dfw")]
    Newer(&'static str),
    /// The manifest asks for a newer dfw.
    #[error("the bundle requires dfw {0} or newer")]
    Unsupported(Version),
    /// There is no signature.
    #[error("the {0} is not signed")]
    Unsigned(&'static str),
    /// No trusted key has the number of the signature's key.
    #[error("the {0} is signed by a key that is not trusted")]
    UnknownKey(&'static str),
    /// The key is trusted, for other texts.
    #[error("the {0} is signed by a key that may only sign heads")]
    Role(&'static str),
    /// The signature is not one of this text by the key that it names.
    #[error("the signature of the {0} is wrong")]
    Signature(&'static str),
    /// The comment that is signed says something else than the text.
    #[error("the trusted comment of the {0} contradicts it")]
    Comment(&'static str),
    /// The bundle is for other hosts.
    #[error("the bundle is for the site {found}, and not for {expected}")]
    Site {
        /// The site of this host.
        expected: Word,
        /// The site of the bundle.
        found: Word,
    },
    /// The head has expired.
    #[error("the head expired at {0}")]
    Expired(Moment),
    /// The manifest is not the one that the head names.
    #[error("the manifest is not the one that the head names")]
    Mixed,
    /// A file is not the one that the manifest names.
    #[error("the contents of {0} are not those that the manifest names")]
    Contents(word::FileName),
}

impl Error {
    /// Returns the slug of the error, for programs.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Malformed(..) => "malformed-bundle",
            Self::Type(_) => "other-type",
            Self::Newer(_) | Self::Unsupported(_) => "unsupported",
            Self::Unsigned(_) => "unsigned",
            Self::UnknownKey(_) => "unknown-key",
            Self::Role(_) => "wrong-role",
            Self::Signature(_) | Self::Comment(_) => "wrong-signature",
            Self::Site { .. } => "other-site",
            Self::Expired(_) => "expired",
            Self::Mixed => "mixed",
            Self::Contents(_) => "wrong-contents",
        }
    }
}

impl Entry {
    /// Checks that these are the contents of the file.
    ///
    /// # Errors
    /// [`Error::Contents`].
    pub fn check(&self, contents: &[u8]) -> Result<(), Error> {
        if u64::try_from(contents.len()) == Ok(self.size) && Digest::of(contents) == self.sha256 {
            Ok(())
        } else {
            Err(Error::Contents(self.name.clone()))
        }
    }
}

#[cfg(test)]
mod tests;
