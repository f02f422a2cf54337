//! Signed texts: a line of JSON, and behind it the four lines of a signature by `minisign`.
//!
//! The first member of the JSON is `type`, which is compared before anything else: one key signs several kinds of
//! text, and none can be passed for another. The JSON has one spelling, so that a text has one digest and no
//! member is read in two ways. The digest is that of the signed line alone: a text that is signed again stays the
//! same.

use minisign_verify::{PublicKey, Signature};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use super::digest::Digest;
use super::keys::{Keys, Role};
use super::version::Version;

/// The beginnings of the lines of a signature; the others are base64.
const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";
/// The longest signature, in bytes. minisign's comments have up to 1 KiB and 8 KiB.
const SIGNATURE: usize = 16 << 10;

/// A kind of text that is signed.
pub trait Statement: Serialize + DeserializeOwned {
    /// The kind, such as `head`: part of `type` and of messages.
    const KIND: &'static str;
    /// The most bytes, with the signature.
    const LIMIT: usize;
    /// Whose keys may sign it.
    const ROLES: &'static [Role];

    /// Returns what is wrong with the values; what serde reads has the right types.
    ///
    /// # Errors
    /// The first mistake, as the end of a sentence about the text.
    fn check(&self) -> Result<(), String>;

    /// Returns what the comment says that is signed with the text, without the type.
    fn comment(&self) -> String;
}

/// A text, split into what is signed and the signature.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The JSON and its line break.
    body: &'a str,
    /// The four lines; `None` if it is not signed.
    signature: Option<[&'a str; 4]>,
}

/// A statement, and the text that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    /// The statement.
    pub statement: T,
    /// The digest of the signed line.
    pub digest: Digest,
}

/// What is read of a text that this version may not understand.
#[derive(Deserialize)]
struct Requires {
    requires: Option<Version>,
}

/// Returns the text of a statement, which is to be signed: a line with its line break.
///
/// # Errors
/// What is wrong with the values.
pub fn write<T: Statement>(statement: &T) -> Result<String, Error> {
    let wrong = |reason: String| Error::Malformed(T::KIND, reason);
    statement.check().map_err(wrong)?;
    let json = serde_json::to_string(statement).map_err(|error| wrong(error.to_string()))?;
    let rest = json.strip_prefix('{').unwrap_or_default();
    let text = format!("{}{rest}\n", start::<T>());
    if text.len() + SIGNATURE > T::LIMIT {
        return Err(wrong(format!("larger than {} bytes", T::LIMIT - SIGNATURE)));
    }
    Ok(text)
}

/// Returns the comment to be signed with a statement.
#[must_use]
pub fn comment<T: Statement>(statement: &T) -> String {
    format!("dfw/v1/{} {}", T::KIND, statement.comment())
}

/// Returns how each text of a kind begins.
fn start<T: Statement>() -> String {
    format!("{{\"type\":\"dfw/v1/{}\",", T::KIND)
}

impl<'a> Signed<'a> {
    /// Splits a text of a kind.
    ///
    /// # Errors
    /// If the text is of another kind, too large, or is neither one line nor one line with a signature.
    pub fn split<T: Statement>(bytes: &'a [u8]) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::Malformed(T::KIND, reason.to_owned());
        if bytes.len() > T::LIMIT {
            return Err(malformed("too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        if !text.starts_with(&start::<T>()) {
            return Err(another_kind::<T>(text));
        }
        let (body, rest) = text
            .split_once('\n')
            .ok_or_else(|| malformed("the line is not complete"))?;
        let signature = match &rest.split('\n').collect::<Vec<_>>()[..] {
            [""] => None,
            [untrusted, signature, trusted, global, ""]
                if untrusted.starts_with(UNTRUSTED)
                    && trusted.starts_with(TRUSTED)
                    && !rest.contains('\r') =>
            {
                Some([*untrusted, *signature, *trusted, *global])
            }
            _ => return Err(malformed("a signature has exactly four lines")),
        };
        Ok(Self {
            body: text.get(..=body.len()).unwrap_or_default(),
            signature,
        })
    }

    /// Returns the statement if a trusted key has signed it.
    ///
    /// # Errors
    /// If it is not signed, or by another key, or is not what was signed, or malformed.
    pub fn verify<T: Statement>(&self, keys: &Keys) -> Result<Verified<T>, Error> {
        let lines = self.signature.ok_or(Error::Unsigned(T::KIND))?;
        let malformed = || Error::Malformed(T::KIND, "not a signature of minisign".to_owned());
        let signature = Signature::decode(&lines.join("\n")).map_err(|_| malformed())?;
        self.find_signer::<T>(keys, &signature)?;
        let verified = self.read::<T>()?;
        if lines[2].strip_prefix(TRUSTED) != Some(&comment(&verified.statement)) {
            return Err(Error::Comment(T::KIND));
        }
        Ok(verified)
    }

    /// Checks that one of the keys that may sign this kind did.
    fn find_signer<T: Statement>(&self, keys: &Keys, signature: &Signature) -> Result<(), Error> {
        let verify = |key: &PublicKey| key.verify(self.body.as_bytes(), signature, false);
        let mut denied = Error::UnknownKey(T::KIND);
        for key in T::ROLES.iter().flat_map(|role| keys.of(*role)) {
            match verify(key) {
                Ok(()) => return Ok(()),
                Err(minisign_verify::Error::UnexpectedKeyId) => {}
                Err(_) => denied = Error::Signature(T::KIND),
            }
        }
        let other = [Role::Policy, Role::Operations]
            .into_iter()
            .filter(|role| !T::ROLES.contains(role));
        if other
            .flat_map(|role| keys.of(role))
            .any(|key| verify(key).is_ok())
        {
            return Err(Error::Role(T::KIND));
        }
        Err(denied)
    }

    /// Returns the statement, whether it is signed or not.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read<T: Statement>(&self) -> Result<Verified<T>, Error> {
        let malformed = |reason: String| Error::Malformed(T::KIND, reason);
        let rest = self.body.strip_prefix(&start::<T>()).unwrap_or_default();
        let json = format!("{{{rest}");
        // A later version may have members that are not known here.
        let Requires { requires } =
            serde_json::from_str(&json).map_err(|error| malformed(error.to_string()))?;
        if let Some(version) = requires.filter(|version| *version > Version::own()) {
            return Err(Error::Unsupported(version));
        }
        let statement: T =
            serde_json::from_str(&json).map_err(|error| malformed(error.to_string()))?;
        if write(&statement)? != self.body {
            return Err(malformed(
                "the JSON is spelled in another way than dfw does".to_owned(),
            ));
        }
        Ok(Verified {
            statement,
            digest: Digest::of(self.body.as_bytes()),
        })
    }

    /// Returns whether there is a signature, which may be wrong.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }
}

/// Returns the error of a text that does not begin as this kind does.
fn another_kind<T: Statement>(text: &str) -> Error {
    let kind = text
        .strip_prefix("{\"type\":\"dfw/")
        .and_then(|rest| rest.split_once('"'))
        .map(|(kind, _)| kind)
        .and_then(|kind| kind.split_once('/'))
        .filter(|(version, _)| {
            let number = version.strip_prefix('v');
            number.is_some_and(|number| number.parse::<u16>().is_ok())
        });
    match kind {
        Some((_, kind)) if kind == T::KIND => Error::Newer(T::KIND),
        Some(_) => Error::Type(T::KIND),
        None => Error::Malformed(
            T::KIND,
            format!("it does not begin with `{}`", start::<T>()),
        ),
    }
}
