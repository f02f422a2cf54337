//! What a ruleset makes of a packet on a path: let through, refused, or not judged at all.

use std::fmt;

use crate::ruleset::Ruleset;

use super::eval::{Decision, Packet, Trace, evaluate};
use super::path::{Kind, Path};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// dfw lets it through; what comes after dfw may still refuse it.
    Accepted,
    /// It is gone.
    Dropped,
    /// It is gone, and its sender is told.
    Rejected,
    /// dfw decides nothing about it, or it cannot be told what.
    NotJudged(Reason),
}

/// Why nothing is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is for a service of the host at a port that no key names.
    Service,
    /// It meets a rule or a set that is not dfw's and cannot be evaluated.
    Foreign,
    /// It stays on one interface: the packets of neighbours within a bridge pass no rule of dfw's.
    SameInterface,
}

/// What people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is refused.
    Deny,
    /// Nobody can tell by dfw's rules.
    NotJudged,
    /// It is let through.
    Allow,
}

impl Judgement {
    /// What people are told of it.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Accepted => Verdict::Allow,
            Self::Dropped | Self::Rejected => Verdict::Deny,
            Self::NotJudged(_) => Verdict::NotJudged,
        }
    }

    /// Why nothing is decided; `None` where something is.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::NotJudged(reason) => Some(reason),
            Self::Accepted | Self::Dropped | Self::Rejected => None,
        }
    }
}

impl Verdict {
    /// Its name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::NotJudged => "not-judged",
        }
    }
}

/// For people.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::NotJudged => "not judged",
        })
    }
}

/// As the end of a sentence.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("let through"),
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected => f.write_str("rejected, and told so"),
            Self::NotJudged(reason) => write!(f, "not judged: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "no key of the policy names this port of the host",
            Self::Foreign => "a rule or set that dfw cannot evaluate is on its way",
            Self::SameInterface => "it does not leave the interface that it came in through",
        })
    }
}

/// Sends a packet of a path through a ruleset.
#[must_use]
pub fn judge(ruleset: &Ruleset, path: &Path, packet: &Packet) -> (Judgement, Trace) {
    let trace = evaluate(ruleset, packet);
    let judgement = match trace.decision {
        _ if trace.unknown => Judgement::NotJudged(Reason::Foreign),
        Decision::Accept if path.kind == Kind::Service && trace.steps.is_empty() => {
            Judgement::NotJudged(Reason::Service)
        }
        Decision::Accept => Judgement::Accepted,
        Decision::Drop => Judgement::Dropped,
        Decision::Reject => Judgement::Rejected,
    };
    (judgement, trace)
}
