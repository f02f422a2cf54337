//! The ruleset: the contents of dfw's nftables table, as data.
//!
//! One table with its chains, rules and sets, written in the terms of nftables and in nothing else: no
//! policy, no host, no netlink. The same types are compiled, printed, encoded, and read back from the kernel.
//! The list of expressions ([`Expression`]) is closed on purpose: code that matches on it must handle each of
//! them.
//!
//! What the kernel has and these types cannot express is kept as [`Expression::Unknown`] or as a line of
//! [`Ruleset::unknown`]. A compiled ruleset has neither, so it differs from one that does.

pub mod check;
mod counter;
pub mod expression;
pub mod nft;
mod set;

use std::collections::BTreeMap;
use std::fmt;

pub use counter::{Counted, Counter};
pub use expression::{
    Address, Conntrack, Direction, EPHEMERAL, End, Expression, Interface, L4Protocol,
    LOG_PREFIX_MAX, NameMatch, OPENED, PerSource, Port, Reject, Side, Statement, Tuple, Verdict,
};
pub(crate) use set::with_rows;
pub use set::{
    ADDED, Added, Column, Counting, Elements, Field, Interval, Key, MapTo, Parts, Row, Scalar, Set,
    SetType, Until, Value,
};

/// The name of dfw's table, in the `inet` family.
pub const TABLE: &str = "dfw-nft";

/// The NFLOG group (`nfnetlink_log`) that dfw's rules log to, beside the kernel log.
pub const LOG_GROUP: u16 = 223;

/// The placeholder of the mark of accepted connections. Each plan replaces it by a random mark of its own, so
/// that every connection is evaluated again after each change.
pub const MARK: u32 = 0x0df0_0000;

/// The contents of dfw's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets and verdict maps by name; they share one name space.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Contents of the table that these types cannot express, a line each; never compiled.
    pub unknown: Vec<String>,
}

/// A chain of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its hook and priority; `None` for a chain that is not a base chain.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// The hook and priority of a base chain. Its type is always `filter` and its policy `accept`: a drop policy
/// would cut off the whole host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// Its priority among the base chains of the hook; lower runs earlier, `filter` is 0.
    pub priority: i32,
}

/// A netfilter hook of the `inet` family that dfw uses (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Packets that come in, before this host knows where they go.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that this host forwards.
    Forward,
    /// Packets that this host sends.
    Output,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Prerouting, Self::Input, Self::Forward, Self::Output];

    /// Returns its name in nft's language.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }
}

/// One rule: expressions in order, of which the first that does not match ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expressions.
    pub expressions: Vec<Expression>,
    /// A comment: the policy line behind it ([`Origin`]), or the purpose of the rule.
    pub comment: Option<String>,
}

impl Ruleset {
    /// Returns the chains for display: base chains first, then by name.
    pub fn chains_in_order(&self) -> impl Iterator<Item = (&String, &Chain)> {
        let base_first = self.chains.iter().filter(|(_, chain)| chain.base.is_some());
        let others = self.chains.iter().filter(|(_, chain)| chain.base.is_none());
        base_first.chain(others)
    }

    /// Checks that there is a set with keys of these fields.
    fn has_set(&self, name: &str, key: &[Field]) -> bool {
        self.type_of(name)
            .is_some_and(|of| of.key == key && !of.map)
    }

    /// Checks that there is a verdict map with keys of these fields.
    fn has_map(&self, name: &str, key: &[Field]) -> bool {
        self.type_of(name).is_some_and(|of| of.key == key && of.map)
    }

    fn type_of(&self, set: &str) -> Option<SetType> {
        self.sets.get(set).map(|set| set.elements.set_type())
    }
}

/// The policy line that a rule or set comes from: `FILE:LINE`, the file without its directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The name of the file, without its directory.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl Origin {
    /// Reads a comment back; `None` for a comment that is no origin.
    #[must_use]
    pub fn parse(comment: &str) -> Option<Self> {
        let (file, line) = comment.rsplit_once(':')?;
        Some(Self {
            file: file.to_owned(),
            line: line.parse().ok()?,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Rule {
    /// Returns a rule with a comment.
    #[must_use]
    pub fn new(expressions: Vec<Expression>, comment: impl Into<Option<String>>) -> Self {
        Self {
            expressions,
            comment: comment.into(),
        }
    }

    /// Returns whether it accepts every packet of its chain and has no comment.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        self.comment.is_none()
            && self.expressions[..] == [Expression::Statement(Statement::Verdict(Verdict::Accept))]
    }

    /// Returns whether it matches or sets the mark ([`MARK`]).
    #[must_use]
    pub fn is_about_marks(&self) -> bool {
        let marks = [
            Expression::Conntrack(Conntrack::Mark(MARK)),
            Expression::Conntrack(Conntrack::SetMark(MARK)),
        ];
        self.expressions.iter().any(|e| marks.contains(e))
    }
}
