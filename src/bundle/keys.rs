//! Public keys in minisign's format, and what each may sign.

use std::collections::BTreeSet;
use std::path::PathBuf;

use minisign_verify::PublicKey;

use super::digest::Digest;

/// The most keys of one role.
const MOST: usize = 64;

/// What keys may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Which policies come into force: manifests and heads.
    Policy,
    /// That they are still the ones: heads only.
    Operations,
}

/// The keys that are trusted.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    policy: Vec<PublicKey>,
    operations: Vec<PublicKey>,
    /// The digests of all of them.
    names: BTreeSet<Digest>,
    exposed: BTreeSet<PathBuf>,
}

impl Keys {
    /// Adds a key, as `minisign -G` writes it: a comment and the key, or the line with the key alone.
    ///
    /// # Errors
    /// Why the text is no key.
    pub fn add(&mut self, role: Role, text: &str) -> Result<(), &'static str> {
        let lines: Vec<&str> = text.lines().collect();
        let key = match lines[..] {
            [key] => key,
            [comment, key] if comment.starts_with("untrusted comment: ") => key,
            _ => return Err("not a public key of minisign: one line, or two with a comment"),
        };
        let wrong = "not a public key of minisign";
        let name = Digest::of(key.as_bytes());
        let key = PublicKey::from_base64(key).map_err(|_| wrong)?;
        let keys = match role {
            Role::Policy => &mut self.policy,
            Role::Operations => &mut self.operations,
        };
        if keys.len() == MOST {
            return Err("more than 64 keys");
        }
        keys.push(key);
        self.names.insert(name);
        Ok(())
    }

    /// Returns whether no key may sign a manifest: then nothing is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policy.is_empty()
    }

    /// Returns a name for each key of any role: the digest of its text.
    #[must_use]
    pub fn names(&self) -> &BTreeSet<Digest> {
        &self.names
    }

    /// Notes a place from which a key comes and that everybody can write to.
    pub fn expose(&mut self, place: PathBuf) {
        self.exposed.insert(place);
    }

    /// Returns the places that were noted by [`expose`](Self::expose).
    #[must_use]
    pub fn exposed(&self) -> &BTreeSet<PathBuf> {
        &self.exposed
    }

    /// Returns the keys of one role.
    pub(super) fn of(&self, role: Role) -> &[PublicKey] {
        match role {
            Role::Policy => &self.policy,
            Role::Operations => &self.operations,
        }
    }
}
