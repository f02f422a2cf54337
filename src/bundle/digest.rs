//! SHA-256 digests.

use std::fmt;
use std::str::FromStr;

use ring::digest;

use super::text::as_text;

/// A SHA-256 digest (FIPS 180-4). Its text is 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut own = [0; 32];
        let digest = digest::digest(&digest::SHA256, bytes);
        // SHA-256 has 32 bytes.
        for (to, from) in own.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(own)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let wrong = "not a SHA-256 digest: 64 lower-case hexadecimal digits";
        if text.len() != 64 || !text.bytes().all(is_hex) {
            return Err(wrong);
        }
        let mut own = [0; 32];
        for (at, byte) in own.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(own))
    }
}

as_text!(Digest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // The example of FIPS 180-4, and the digest of nothing.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        assert_eq!(abc.parse(), Ok(Digest::of(b"abc")));
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), nothing);
    }

    #[test]
    fn a_digest_has_one_spelling() {
        let abc = Digest::of(b"abc").to_string();
        let wrong = [
            String::new(),
            abc.to_uppercase(),
            abc[1..].to_owned(),
            format!("{abc}0"),
            format!("+{}", &abc[1..]),
            format!("ü{}", &abc[2..]),
        ];
        for wrong in wrong {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
