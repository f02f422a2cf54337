//! Secret keys, which sign heads, manifests and roll-outs.

use std::path::Path;

use minisign::{PublicKey, SecretKey, SecretKeyBox};

use crate::bundle::{self, Keys, Role, Statement, signed};
use crate::file::{self, Accept, Limit};
use crate::untrusted;

use super::Error;

/// The most bytes of a file.
const SIZE: u64 = 64 << 10;

/// A secret key of minisign.
pub struct Signer {
    key: SecretKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Reads a secret key as `minisign -G` writes it; asks for its password on the terminal, if it has one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::File(format!(
                "cannot use the key {}: {error}",
                untrusted::path(path)
            ))
        };
        let bytes = file::read_protected(path, Accept::Regular, Limit::of(SIZE));
        let bytes = bytes.map_err(|error| failed(&error))?;
        let text = String::from_utf8(bytes).map_err(|error| failed(&error))?;
        let boxed = || SecretKeyBox::from_string(&text).map_err(|error| failed(&error));
        let key = match boxed()?.into_unencrypted_secret_key() {
            Ok(key) => key,
            Err(_) => boxed()?
                .into_secret_key(None)
                .map_err(|error| failed(&error))?,
        };
        Ok(Self { key })
    }

    /// Adds the public key to those that are trusted.
    ///
    /// # Errors
    /// [`Error::File`] if it is no key.
    pub fn trust(&self, keys: &mut Keys, role: Role) -> Result<(), Error> {
        let public = PublicKey::from_secret_key(&self.key);
        let public = public.map_err(|error| Error::File(error.to_string()))?;
        let added = keys.add(role, &public.to_base64());
        added.map_err(|reason| Error::File(reason.to_owned()))
    }

    /// Returns a signed statement.
    ///
    /// # Errors
    /// If its values are wrong.
    pub fn sign<T: Statement>(&self, statement: &T) -> Result<Vec<u8>, Error> {
        let body = signed::write(statement)?;
        let comment = signed::comment(statement);
        let signature = minisign::sign(None, &self.key, body.as_bytes(), Some(&comment), None);
        let signature = signature.map_err(|error| {
            bundle::Error::Malformed(T::KIND, format!("it cannot be signed: {error}"))
        })?;
        Ok((body + &signature.into_string()).into_bytes())
    }
}
