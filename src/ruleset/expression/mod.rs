//! Expressions of rules: matches, statements and verdicts.
//!
//! A closed list in six groups. The file of a group has its types, their text for nft, and the checks
//! before they are sent; the file of the same name in [`nftables`](crate::nftables) encodes and decodes
//! them. Each expression states the kernel that it needs; the oldest that dfw runs on is Linux 5.10.

mod address;
mod conntrack;
mod interface;
mod per_source;
mod port;
mod statement;

use std::fmt::{self, Display, Formatter};

use super::Ruleset;

pub use address::{Address, End, Tuple};
pub use conntrack::{Conntrack, Direction, EPHEMERAL, OPENED};
pub use interface::{Interface, NameMatch, Side};
pub use per_source::PerSource;
pub use port::{L4Protocol, Port};
pub use statement::{LOG_PREFIX_MAX, Reject, Statement, Verdict};

/// One part of a rule, in the order in which the kernel runs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Matches interfaces.
    Interface(Interface),
    /// Matches or changes the conntrack entry.
    Conntrack(Conntrack),
    /// Matches addresses.
    Address(Address),
    /// Matches protocols and ports.
    Port(Port),
    /// Asks for the limits of the source of a connection.
    PerSource(PerSource),
    /// A statement: limit, log, counter, reject or verdict.
    Statement(Statement),
    /// Something the kernel holds and dfw never writes.
    Unknown {
        /// The kernel's name of the expression.
        name: String,
        /// Its attributes as they were read.
        data: Vec<u8>,
    },
}

impl Expression {
    /// Returns the name of the set or map that the expression looks up.
    #[must_use]
    pub fn set(&self) -> Option<&str> {
        let set = match self {
            Self::Interface(expression) => expression.set(),
            Self::Address(expression) => expression.set(),
            Self::Port(expression) => expression.set(),
            Self::PerSource(expression) => Some(expression.set()),
            Self::Conntrack(_) | Self::Statement(_) | Self::Unknown { .. } => None,
        };
        set.map(String::as_str)
    }

    /// Returns the name of the set, mutable.
    pub fn set_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Interface(expression) => expression.set_mut(),
            Self::Address(expression) => expression.set_mut(),
            Self::Port(expression) => expression.set_mut(),
            Self::PerSource(expression) => Some(expression.set_mut()),
            Self::Conntrack(_) | Self::Statement(_) | Self::Unknown { .. } => None,
        }
    }

    /// Returns the mark that the expression compares or sets, mutable.
    pub fn mark_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Conntrack(expression) => expression.mark_mut(),
            Self::Interface(_)
            | Self::Address(_)
            | Self::Port(_)
            | Self::PerSource(_)
            | Self::Statement(_)
            | Self::Unknown { .. } => None,
        }
    }

    /// Returns the verdict if the expression is one.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::Statement(Statement::Verdict(verdict)) => Some(verdict),
            _ => None,
        }
    }

    /// Checks what the kernel would reject: the type of its set, and its limits.
    pub(crate) fn fits(&self, ruleset: &Ruleset) -> bool {
        match self {
            Self::Interface(expression) => expression.fits(ruleset),
            Self::Conntrack(expression) => expression.fits(),
            Self::Address(expression) => expression.fits(ruleset),
            Self::Port(expression) => expression.fits(ruleset),
            Self::PerSource(expression) => expression.fits(ruleset),
            Self::Statement(expression) => expression.fits(),
            Self::Unknown { .. } => false,
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(expression) => expression.fmt(f),
            Self::Conntrack(expression) => expression.fmt(f),
            Self::Address(expression) => expression.fmt(f),
            Self::Port(expression) => expression.fmt(f),
            Self::PerSource(expression) => expression.fmt(f),
            Self::Statement(expression) => expression.fmt(f),
            // The rest of the line becomes a comment for nft: dfw does not know its meaning.
            Self::Unknown { name, data } => write!(f, "# {name}, {} bytes", data.len()),
        }
    }
}
