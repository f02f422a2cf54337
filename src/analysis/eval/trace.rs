//! What becomes of a packet, and why: each rule that decided or led on, and the elements by which.

use std::net::IpAddr;

use crate::ruleset::nft::span;
use crate::ruleset::{Rule, Ruleset};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on to what comes after dfw.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and its sender is told.
    Reject,
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What becomes of it.
    pub decision: Decision,
    /// The rules that led there, in order; none if no rule has anything to say. A chain that was
    /// left again without a decision is not among them.
    pub steps: Vec<Step>,
    /// Whether something was met on the way that cannot be evaluated, so that the kernel may
    /// decide otherwise.
    pub unknown: bool,
}

/// A rule that matched and decided, or led to the one that did; not one that is
/// [mute](crate::ruleset::Rule::is_mute).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 0.
    pub rule: usize,
    /// Its comment, or that of an element by which it matched.
    pub comment: Option<String>,
    /// The elements of sets and maps for which it matched.
    pub hits: Vec<Hit>,
}

/// An element of a set or map in which something of a packet was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The name of the set or map.
    pub set: String,
    /// The element.
    pub element: Element,
    /// Its comment.
    pub comment: Option<String>,
}

/// The key of an element; ranges have both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// The name of an interface.
    Interface(String),
    /// Addresses from a first to a last one.
    Addresses(IpAddr, IpAddr),
    /// Ports from a first to a last one.
    Ports(u16, u16),
    /// A port, and addresses from a first to a last one.
    PortAddresses(u16, IpAddr, IpAddr),
}

impl Step {
    /// Returns the step that a rule at its chain and place is; `None` for one that is
    /// [mute](crate::ruleset::Rule::is_mute).
    pub(super) fn of((chain, index): (&str, usize), rule: &Rule, hits: Vec<Hit>) -> Option<Self> {
        let own = || hits.iter().find_map(|hit| hit.comment.clone());
        let comment = rule.comment.clone().or_else(own);
        (!rule.is_mute()).then(|| Self {
            chain: chain.to_owned(),
            rule: index,
            comment,
            hits,
        })
    }

    /// Writes `CHAIN: RULE  (COMMENT)` and, if elements of sets were found, a second line that begins with
    /// `with`. The rule is the one of `ruleset`, in which the step was taken.
    #[must_use]
    pub fn describe(&self, ruleset: &Ruleset) -> String {
        let rule = ruleset
            .chains
            .get(&self.chain)
            .and_then(|chain| chain.rules.get(self.rule));
        let rule = rule.map(|rule| Rule::new(rule.expressions.clone(), None).to_string());
        let hits: Vec<String> = self.hits.iter().map(Hit::to_string).collect();
        let hits = if hits.is_empty() {
            String::new()
        } else {
            format!("\n  with {}", hits.join(", "))
        };
        let comment = self
            .comment
            .as_ref()
            .map_or_else(String::new, |c| format!("  ({c})"));
        format!(
            "{}: {}{comment}{hits}",
            self.chain,
            rule.unwrap_or_default()
        )
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Addresses(first, last) => f.write_str(&span(*first, *last)),
            Self::Ports(first, last) if first == last => write!(f, "{first}"),
            Self::Ports(first, last) => write!(f, "{first}-{last}"),
            Self::PortAddresses(port, first, last) => {
                write!(f, "{port} . {}", span(*first, *last))
            }
        }
    }
}

impl std::fmt::Display for Hit {
    /// `ELEMENT in SET`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.element, self.set)
    }
}
