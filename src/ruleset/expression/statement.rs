//! Statements of rules: limit, log, counter, reject and verdict.

use std::fmt::{self, Display, Formatter};

/// The longest log prefix, in bytes (`NF_LOG_PREFIXLEN` less its NUL).
pub const LOG_PREFIX_MAX: usize = 127;

/// A statement of a rule. Linux 5.10 suffices for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `limit rate 10/second burst 20 packets`: matches while there are tokens. Linux 5.10 suffices.
    Limit {
        /// Packets per second that refill the bucket.
        per_second: u64,
        /// The size of the bucket, in packets.
        burst: u32,
    },
    /// `log prefix "…"`: to the kernel log. `log prefix "…" group 223`: to the program that listens
    /// to that group of `nfnetlink_log`, if there is one. Linux 5.10 suffices.
    Log {
        /// At most [`LOG_PREFIX_MAX`] bytes.
        prefix: String,
        /// The group; `None` for the kernel log.
        group: Option<u16>,
    },
    /// `counter`. Its values are no part of the ruleset. Linux 5.10 suffices.
    Counter,
    /// `reject`; final. Linux 5.10 suffices.
    Reject(Reject),
    /// A verdict. Linux 5.10 suffices.
    Verdict(Verdict),
}

/// The reply to a rejected packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// A TCP reset; only for TCP.
    TcpReset,
    /// ICMP or `ICMPv6` port unreachable.
    PortUnreachable,
}

/// The verdict on a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The packet continues with the next base chain of the hook.
    Accept,
    /// The packet is dropped; no later chain sees it.
    Drop,
    /// Evaluation continues in another chain and returns if that has no verdict.
    Jump(String),
    /// Evaluation continues in another chain and does not return.
    Goto(String),
    /// Evaluation returns to the calling chain.
    Return,
}

impl Verdict {
    /// Returns the chain it leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

impl Statement {
    /// Checks the prefix of a log.
    pub(super) fn fits(&self) -> bool {
        match self {
            Self::Log { prefix, .. } => {
                prefix.len() <= LOG_PREFIX_MAX && !prefix.contains(['"', '\0'])
            }
            Self::Limit { .. } | Self::Counter | Self::Reject(_) | Self::Verdict(_) => true,
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { per_second, burst } => {
                write!(f, "limit rate {per_second}/second burst {burst} packets")
            }
            Self::Log {
                prefix,
                group: None,
            } => write!(f, "log prefix \"{prefix}\""),
            Self::Log {
                prefix,
                group: Some(group),
            } => write!(f, "log prefix \"{prefix}\" group {group}"),
            Self::Counter => f.write_str("counter"),
            Self::Reject(Reject::TcpReset) => f.write_str("reject with tcp reset"),
            // A bare `reject` behind a match of one family is that family's own error to nft.
            Self::Reject(Reject::PortUnreachable) => {
                f.write_str("reject with icmpx port-unreachable")
            }
            Self::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Return => f.write_str("return"),
        }
    }
}
