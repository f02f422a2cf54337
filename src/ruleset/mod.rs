//! The ruleset: what dfw puts into the kernel, as data.
//!
//! One table with its chains, rules and sets, written in the terms of nftables and in nothing
//! else: no policy, no host, no netlink. The same types are compiled, printed, encoded, and read
//! back from the kernel. The list of what a rule can say ([`Expression`]) is closed on purpose:
//! whoever matches on it must say what each of them means.
//!
//! What the kernel holds and this module cannot say is kept as [`Expression::Unknown`] or as a
//! line of [`Ruleset::unknown`]. dfw's own ruleset never has either, so it differs from one that
//! does.

pub mod check;
mod counter;
pub mod expression;
pub mod nft;

use crate::net::Family;
use std::collections::BTreeMap;
use std::fmt;

pub use counter::{Counted, Counter};
pub use expression::{
    Direction, EPHEMERAL, End, Expression, L4Protocol, NameMatch, OPENED, Reject, Side, Tuple,
    Verdict,
};

/// The name of dfw's table, in the `inet` family.
pub const TABLE: &str = "dfw-nft";

/// The group of `nfnetlink_log` that dfw's rules log to, beside the kernel log.
pub const LOG_GROUP: u16 = 223;

/// What stands for the mark of connections that were judged already. Each plan puts a number of its
/// own in its place, so that a connection is judged again after each change.
pub const MARK: u32 = 0x0df0_0000;

/// The contents of dfw's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets and verdict maps by name; they share one name space.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// What is in the table that these types cannot say, a line each; never compiled.
    pub unknown: Vec<String>,
}

/// A chain of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in; `None` for a chain that is only jumped to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hooks in. Its type is `filter` and its policy `accept`, always: a policy of
/// drop would cut off the whole host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// Its place among the base chains of the hook; lower is earlier, `filter` is 0.
    pub priority: i32,
}

/// A netfilter hook of the `inet` family that dfw uses (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Packets for this host.
    Input,
    /// Packets that this host passes on.
    Forward,
    /// Packets that this host sends.
    Output,
}

impl Hook {
    /// Its name in nft's language.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }
}

/// One rule: expressions in order, of which the first that does not match ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// What it matches and does.
    pub expressions: Vec<Expression>,
    /// A comment: the place of the policy behind it ([`Origin`]), or what the rule is for.
    pub comment: Option<String>,
}

/// A set, or a map to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its type and contents.
    pub elements: Elements,
    /// A comment: the place of the policy behind it ([`Origin`]), or what the set is for.
    pub comment: Option<String>,
}

/// The type and the contents of a set, ascending and without doubles; ranges have both ends
/// included, are disjoint, and in sets not adjacent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// `type ipv4_addr`, a hash.
    Ipv4(Vec<u32>),
    /// `type ipv4_addr; flags interval`.
    Ipv4Ranges(Vec<(u32, u32)>),
    /// `type ipv6_addr`, a hash.
    Ipv6(Vec<u128>),
    /// `type ipv6_addr; flags interval`.
    Ipv6Ranges(Vec<(u128, u128)>),
    /// `type ifname`, a hash.
    Interfaces(Vec<String>),
    /// `type inet_service . ipv4_addr`, a hash: the first address of a network beside a port.
    PortIpv4(Vec<(u16, u32)>),
    /// `type inet_service . ipv6_addr`, the same.
    PortIpv6(Vec<(u16, u128)>),
    /// `type inet_proto . inet_service; counter`, a hash whose elements count what is found in them,
    /// with a comment each: the place of the policy behind it ([`Origin`]).
    PortCounters(Vec<(L4Protocol, u16, Option<String>)>),
    /// `type inet_service : verdict; flags interval`.
    PortVerdicts(Vec<(u16, u16, Verdict)>),
    /// `type inet_service . ipv4_addr : verdict`, a hash.
    PortIpv4Verdicts(Vec<(u16, u32, Verdict)>),
    /// `type inet_service . ipv6_addr : verdict`, a hash.
    PortIpv6Verdicts(Vec<(u16, u128, Verdict)>),
    /// `type ipv4_addr : verdict`, a hash.
    Ipv4Verdicts(Vec<(u32, Verdict)>),
    /// `type ipv6_addr : verdict`, a hash.
    Ipv6Verdicts(Vec<(u128, Verdict)>),
}

impl Ruleset {
    /// The chains as a reader wants them: base chains first, then by name.
    pub fn chains_in_order(&self) -> impl Iterator<Item = (&String, &Chain)> {
        let base_first = self.chains.iter().filter(|(_, chain)| chain.base.is_some());
        let others = self.chains.iter().filter(|(_, chain)| chain.base.is_none());
        base_first.chain(others)
    }
}

impl Elements {
    /// The number of elements, a range counting once.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Ipv4(v) => v.len(),
            Self::Ipv4Ranges(v) => v.len(),
            Self::Ipv6(v) => v.len(),
            Self::Ipv6Ranges(v) => v.len(),
            Self::Interfaces(v) => v.len(),
            Self::PortIpv4(v) => v.len(),
            Self::PortIpv6(v) => v.len(),
            Self::PortCounters(v) => v.len(),
            Self::PortVerdicts(v) => v.len(),
            Self::PortIpv4Verdicts(v) => v.len(),
            Self::PortIpv6Verdicts(v) => v.len(),
            Self::Ipv4Verdicts(v) => v.len(),
            Self::Ipv6Verdicts(v) => v.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether they are ranges, which the kernel keeps in order; the others are in a hash.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        match self {
            Self::Ipv4Ranges(_) | Self::Ipv6Ranges(_) | Self::PortVerdicts(_) => true,
            Self::Ipv4(_)
            | Self::Ipv6(_)
            | Self::Interfaces(_)
            | Self::PortIpv4(_)
            | Self::PortIpv6(_)
            | Self::PortCounters(_)
            | Self::PortIpv4Verdicts(_)
            | Self::PortIpv6Verdicts(_)
            | Self::Ipv4Verdicts(_)
            | Self::Ipv6Verdicts(_) => false,
        }
    }

    /// Whether they lead to verdicts.
    #[must_use]
    pub fn is_map(&self) -> bool {
        match self {
            Self::PortVerdicts(_)
            | Self::PortIpv4Verdicts(_)
            | Self::PortIpv6Verdicts(_)
            | Self::Ipv4Verdicts(_)
            | Self::Ipv6Verdicts(_) => true,
            Self::Ipv4(_)
            | Self::Ipv4Ranges(_)
            | Self::Ipv6(_)
            | Self::Ipv6Ranges(_)
            | Self::Interfaces(_)
            | Self::PortIpv4(_)
            | Self::PortIpv6(_)
            | Self::PortCounters(_) => false,
        }
    }

    /// The number of elements that a hash of these is made for, which is several times faster to
    /// fill than one that grows; with room for some more, as it cannot grow then. `None` for
    /// ranges, for which no size is known.
    #[must_use]
    pub fn room(&self) -> Option<u32> {
        let with_more = u32::try_from(self.len() + self.len() / 32 + 1).ok()?;
        let room = with_more.max(16).checked_next_power_of_two()?;
        (!self.is_interval()).then_some(room)
    }

    /// The verdicts of a map, none for a set.
    #[must_use]
    pub fn verdicts(&self) -> Box<dyn Iterator<Item = &Verdict> + '_> {
        match self {
            Self::PortVerdicts(v) => Box::new(v.iter().map(|(_, _, verdict)| verdict)),
            Self::PortIpv4Verdicts(v) => Box::new(v.iter().map(|(_, _, verdict)| verdict)),
            Self::PortIpv6Verdicts(v) => Box::new(v.iter().map(|(_, _, verdict)| verdict)),
            Self::Ipv4Verdicts(v) => Box::new(v.iter().map(|(_, verdict)| verdict)),
            Self::Ipv6Verdicts(v) => Box::new(v.iter().map(|(_, verdict)| verdict)),
            Self::Ipv4(_)
            | Self::Ipv4Ranges(_)
            | Self::Ipv6(_)
            | Self::Ipv6Ranges(_)
            | Self::Interfaces(_)
            | Self::PortIpv4(_)
            | Self::PortIpv6(_)
            | Self::PortCounters(_) => Box::new(std::iter::empty()),
        }
    }
}

/// The place of a policy that a rule or set comes from: `FILE:LINE`, the file without its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The name of the file, without its folder.
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
    /// A rule with a comment.
    #[must_use]
    pub fn new(expressions: Vec<Expression>, comment: impl Into<Option<String>>) -> Self {
        Self {
            expressions,
            comment: comment.into(),
        }
    }

    /// Whether it lets through all that comes to its chain, without a word why: what led there says it.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        self.comment.is_none() && self.expressions[..] == [Expression::Verdict(Verdict::Accept)]
    }

    /// Whether it looks for the mark that plans make ([`MARK`]), or sets it.
    #[must_use]
    pub fn is_about_marks(&self) -> bool {
        let marks = [Expression::Mark(MARK), Expression::SetMark(MARK)];
        self.expressions.iter().any(|e| marks.contains(e))
    }
}
