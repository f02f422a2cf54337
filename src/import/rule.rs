//! Rules as they were read.

use std::collections::BTreeSet;

use super::published::protocol_of;
use crate::policy::address::AddressSet;
use crate::source::Span;

/// The family of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Every address of the family.
    pub(super) fn all(self) -> AddressSet {
        match self {
            Self::V4 => AddressSet::all_v4(),
            Self::V6 => AddressSet::all_v6(),
        }
    }

    /// The program that prints its rules.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }
}

/// One rule of a chain.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its line.
    pub(super) span: Span,
    /// All of them must hold.
    pub(super) matches: Vec<Match>,
    pub(super) target: Target,
    /// Where the target is written; the line if there is none.
    pub(super) target_span: Span,
}

/// One condition of a rule.
#[derive(Debug)]
pub(super) struct Match {
    /// Whether it holds where what it says does not.
    pub(super) negated: bool,
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// Numbers from a first to a last one, both included.
pub(super) type PortRange = (u16, u16);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Source(AddressSet),
    Destination(AddressSet),
    /// A protocol's name in lower case, or its number.
    Protocol(String),
    SourcePorts(Vec<PortRange>),
    DestinationPorts(Vec<PortRange>),
    /// A name, or the beginning of a name and a `+`.
    Incoming(String),
    Outgoing(String),
    /// `--ctstate` or `--state`: any of these.
    State(BTreeSet<String>),
    /// `--ctdir`: whether it is `ORIGINAL`.
    OriginalDirection(bool),
    OriginalSource(AddressSet),
    OriginalDestination(AddressSet),
    OriginalPorts(Vec<PortRange>),
    /// `--tcp-flags`: those looked at, and those of them that must be set.
    TcpFlags(u8, u8),
    /// `--dst-type`: one of these.
    DestinationType(BTreeSet<String>),
    /// `--src-type`: one of these.
    SourceType(BTreeSet<String>),
    /// Something else.
    Unknown,
}

/// TCP's flags as `--tcp-flags` names them.
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Accept,
    Drop,
    Reject,
    Return,
    /// The log; the packet goes on.
    Log,
    /// Something that does not decide; the packet goes on.
    Passive,
    /// `--to-destination`.
    Dnat(Option<String>),
    /// A chain of the same table, or a target that is not known.
    Jump(String),
    Goto(String),
}

impl Rule {
    /// The ports of the destination that the rule is limited to.
    pub(super) fn destination_ports(&self) -> Option<&[PortRange]> {
        self.matches.iter().find_map(|m| match &m.kind {
            Kind::DestinationPorts(ports) if !m.negated => Some(ports.as_slice()),
            _ => None,
        })
    }

    /// Whether it can be about a protocol that has ports.
    pub(super) fn is_about_ports(&self) -> bool {
        self.matches.iter().all(|found| match &found.kind {
            Kind::Protocol(name) if !found.negated => {
                ["all", "0"].contains(&name.as_str()) || protocol_of(name).is_some()
            }
            _ => true,
        })
    }

    /// The ports that it speaks of, of the container or of the host.
    pub(super) fn ports(&self) -> impl Iterator<Item = PortRange> + '_ {
        let ports = self.matches.iter().flat_map(|found| match &found.kind {
            Kind::DestinationPorts(ports) | Kind::OriginalPorts(ports) => ports.as_slice(),
            _ => &[],
        });
        ports.copied()
    }
}

/// A range of ports this wide is not about a certain port.
pub(super) const WIDE: u16 = 1000;

/// Whether `number` is in one of `ranges`.
pub(super) fn within(ranges: &[PortRange], number: u16) -> bool {
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&number))
}
