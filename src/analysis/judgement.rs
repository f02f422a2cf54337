//! What a ruleset decides about a packet on a path: accepted, dropped, rejected, or not judged at all.

use std::fmt;

use crate::compile::{limits, port_of_chain};
use crate::net::Limits;
use crate::ruleset::{Origin, Ruleset};

use super::eval::{Decision, Packet, Step, Trace, evaluate};
use super::path::{Kind, Path};

/// The result of evaluating rules for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judgement {
    /// dfw accepts it; base chains after dfw's may still drop it.
    Accepted,
    /// dfw drops it.
    Dropped,
    /// dfw drops it and sends a reset or an ICMP error.
    Rejected,
    /// dfw decides nothing about it, or the decision cannot be computed.
    NotJudged(Reason),
}

/// The reason why a packet is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is for a service of the host at a port that no key names.
    Service,
    /// It meets a rule or a set that is not dfw's and cannot be evaluated.
    Foreign,
    /// It stays on one interface: packets within a bridge pass no rule of dfw's.
    SameInterface,
    /// Only a fetched source decides of which nothing is known.
    UnknownList,
}

/// The verdict that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The packet does not get through.
    Deny,
    /// dfw's rules do not decide.
    NotJudged,
    /// The packet gets through.
    Allow,
}

impl Judgement {
    /// Returns the verdict to show.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Accepted => Verdict::Allow,
            Self::Dropped | Self::Rejected => Verdict::Deny,
            Self::NotJudged(_) => Verdict::NotJudged,
        }
    }

    /// Returns the reason why the packet is not judged; `None` if it is.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::NotJudged(reason) => Some(reason),
            Self::Accepted | Self::Dropped | Self::Rejected => None,
        }
    }
}

impl Verdict {
    /// Returns the name in JSON documents.
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
            Self::Accepted => f.write_str("accepted"),
            Self::Dropped => f.write_str("dropped"),
            Self::Rejected => f.write_str("rejected"),
            Self::NotJudged(reason) => write!(f, "not judged: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "no key of the policy covers this port of the host",
            Self::Foreign => "it meets a foreign rule or set that dfw cannot evaluate",
            Self::SameInterface => "it stays on the interface that it arrived on",
            Self::UnknownList => "it depends on a fetched source whose addresses are not known",
        })
    }
}

/// Returns the line of the policy that decides, by the rules that a packet meets; `None` where a rule of dfw's own
/// decides, or none at all.
#[must_use]
pub fn line_of(steps: &[Step]) -> Option<Origin> {
    Origin::parse(steps.last()?.comment.as_deref()?)
}

/// Returns what decides, for people: `FILE:LINE`, the comment of a rule of dfw's own, or that no rule does.
#[must_use]
pub fn reason_of(steps: &[Step]) -> String {
    let comment = steps.last().and_then(|step| step.comment.as_deref());
    reason(comment, line_of(steps).as_ref())
}

/// Returns the same by the comment of the rule that decides, and the line that it is.
#[must_use]
pub(super) fn reason(comment: Option<&str>, line: Option<&Origin>) -> String {
    let line = line.map(Origin::to_string);
    line.unwrap_or_else(|| comment.unwrap_or("no rule").to_owned())
}

/// Returns the limits of the port whose rules decide: those of its allowed sources.
#[must_use]
pub fn limits_of(ruleset: &Ruleset, steps: &[Step]) -> Limits {
    let key = steps.last().and_then(|step| port_of_chain(&step.chain));
    key.map_or_else(Limits::default, |(_, key)| limits(ruleset, &key))
}

/// Sends a packet of a path through a ruleset.
#[must_use]
pub fn judge(ruleset: &Ruleset, path: &Path, packet: &Packet) -> (Judgement, Trace) {
    let trace = evaluate(ruleset, packet);
    let decision = (!trace.unknown).then_some(trace.decision);
    (judgement(path, decision, !trace.steps.is_empty()), trace)
}

/// Returns what a decision means on a path; `None` is one that cannot be computed. A service of the host is
/// judged only if some rule has something to say.
pub(super) fn judgement(path: &Path, decision: Option<Decision>, is_said: bool) -> Judgement {
    match decision {
        None => Judgement::NotJudged(Reason::Foreign),
        Some(Decision::Accept) if path.kind == Kind::Service && !is_said => {
            Judgement::NotJudged(Reason::Service)
        }
        Some(Decision::Accept) => Judgement::Accepted,
        Some(Decision::Drop) => Judgement::Dropped,
        Some(Decision::Reject) => Judgement::Rejected,
    }
}

/// Returns whether a packet to a container's own address stays within its bridge, where packets pass no hook of
/// dfw's.
pub(super) fn stays(path: &Path, packet: &Packet) -> bool {
    let target = path
        .target
        .as_ref()
        .filter(|_| path.kind == Kind::Container);
    target.is_some_and(|target| target.bridge.as_ref() == Some(&packet.incoming))
}
