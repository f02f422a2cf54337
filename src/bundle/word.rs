//! Names in bundles: of sites, groups, hosts and files.
//!
//! They become names of files and parts of addresses, so each has one spelling and none leads out of a folder.

use std::fmt;
use std::str::FromStr;

use super::text::as_text;

/// The longest name, or part of a file's name, in bytes: that of a label in DNS.
const LONGEST: usize = 63;
/// How many folders deep a file is at most, itself included.
const DEPTH: usize = 3;

/// The name of a site, a group or a host: `[a-z0-9][a-z0-9._-]*`, at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(String);

/// The hosts of a group: a name, or the beginning of names with `*` behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern(String);

/// The name of a file in a bundle: up to three [words](Word) with `/` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(String);

fn is_word(text: &str) -> bool {
    let may_begin = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= LONGEST
        && text.bytes().next().is_some_and(may_begin)
        && text
            .bytes()
            .all(|byte| may_begin(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

impl Word {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostPattern {
    /// Returns whether a host is meant.
    #[must_use]
    pub fn matches(&self, host: &Word) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => host.0.starts_with(start),
            None => host.0 == self.0,
        }
    }

    /// Returns the host if exactly one is meant.
    #[must_use]
    pub fn host(&self) -> Option<Word> {
        (!self.0.ends_with('*')).then(|| Word(self.0.clone()))
    }
}

impl FileName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first folder; `None` for a file in no folder.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        self.0.split_once('/').map(|(folder, _)| folder)
    }

    /// Returns whether the file is named like a policy.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        let extension = self.0.rsplit_once('.').map(|(_, extension)| extension);
        extension == Some("yaml")
    }
}

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_word(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "not a name: at most 63 of `a-z`, `0-9`, `.`, `_` and `-`, and the first is a letter or a digit",
            )
        }
    }
}

impl FromStr for HostPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let start = text.strip_suffix('*').unwrap_or(text);
        if is_word(start) {
            Ok(Self(text.to_owned()))
        } else {
            Err("not a host: a name such as `web-1`, or the beginning of names such as `web-*`")
        }
    }
}

impl FromStr for FileName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.split('/').count() <= DEPTH && text.split('/').all(is_word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "not the name of a file in a bundle: at most three parts, each of `a-z`, `0-9`, `.`, `_` and `-`, \
                 and the first is a letter or a digit",
            )
        }
    }
}

macro_rules! text {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text!(Word HostPattern FileName);
as_text!(Word HostPattern FileName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_a_folder() {
        for wrong in [
            "", ".", "..", "/", "/a", "a/", "a//b", "../a", "a/..", "a/../b", "./a", "A", "a b",
            "a\\b", "a\0", "ä", "-a", ".a", "_a", "a/b/c/d", "a\n",
        ] {
            assert!(wrong.parse::<FileName>().is_err(), "{wrong}");
            assert!(wrong.parse::<Word>().is_err(), "{wrong}");
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
        assert!("a".repeat(64).parse::<Word>().is_err());
        assert!("a/b".parse::<Word>().is_err());
        for right in ["a.yaml", "web/lists/office.txt", "0", "a..b"] {
            assert!(right.parse::<FileName>().is_ok(), "{right}");
        }
    }

    #[test]
    fn a_pattern_is_a_host_or_the_beginning_of_hosts() {
        let host: Word = "web-1".parse().unwrap();
        for (pattern, matches) in [
            ("web-1", true),
            ("web-*", true),
            ("w*", true),
            ("web", false),
            ("web-11", false),
            ("db-*", false),
        ] {
            let pattern: HostPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&host), matches, "{pattern}");
        }
        for wrong in ["*", "a*b", "a**", "*a"] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }
}
