//! The names of sources.

use std::fmt;

use crate::policy::yaml::{Member, Reader};
use crate::text::diagnostic::{Diagnostic, quoted};

use super::reserved::{Place, Reserved, reserved};

/// The pattern of a name, as part of a larger one (ECMA 262).
pub(in crate::policy) const NAME: &str = "[A-Za-z][A-Za-z0-9_-]*";

/// The name of a list of sources: `[A-Za-z][A-Za-z0-9_-]*`, at most 64 bytes, not a reserved word such as
/// `any` or `deny`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(pub(in crate::policy) String);

impl SourceName {
    /// The longest name, in bytes: names become part of the names of kernel sets.
    pub(super) const LONGEST: usize = 64;

    /// Returns the name as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a key as the name of a source; reports an invalid name.
    pub(super) fn read(reader: &mut Reader<'_>, member: &Member) -> Option<Self> {
        let name = &member.key;
        let (message, label, help) = if name.is_empty() {
            (
                "a source needs a name".to_owned(),
                "the name is empty",
                "write a name",
            )
        } else if let Some(meaning) = reserved(name, Place::Name) {
            let help = match meaning {
                Reserved::Any => "`any` is everybody; choose another name",
                Reserved::Containers => {
                    "`containers` is whatever comes from a container of this host; choose another name"
                }
                Reserved::Everybody | Reserved::Nobody | Reserved::Listed => {
                    "at a port it would read as if it decided something; choose another name"
                }
                Reserved::ThisHost => {
                    "processes of this host always reach the port; choose another name"
                }
            };
            (
                format!("the name `{name}` is taken"),
                "a reserved word",
                help,
            )
        } else if !is_name(name) {
            let message = format!("{} cannot be the name of a source", quoted(name));
            let help = "a name begins with a letter and goes on with letters, digits, `-` and `_`";
            (message, "not a name", help)
        } else if name.len() > Self::LONGEST {
            let message = format!("the name {} is too long", quoted(name));
            (message, "more than 64 bytes", "choose a shorter name")
        } else {
            return Some(Self(name.clone()));
        };
        reader.report.push(
            Diagnostic::error("source-name", message)
                .at(member.key_span.clone(), label)
                .help(help),
        );
        None
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether a text is a source name rather than an address.
pub(in crate::policy) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// Returns the pattern (ECMA 262) of a source name.
pub(super) fn pattern() -> String {
    let more = SourceName::LONGEST - 1;
    format!("^[A-Za-z][A-Za-z0-9_-]{{0,{more}}}$")
}
