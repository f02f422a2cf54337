//! Rules as they were read.

use crate::net::{AddressSet, Entry, Family, Protocol};
use std::collections::BTreeSet;

use crate::text::Span;

/// The program that prints the rules of a family.
pub(super) fn program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    }
}

/// One rule of a chain, or the policy of a base chain that drops.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its line.
    pub(super) span: Span,
    /// The table that it is in.
    pub(super) table: &'static str,
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
    /// Docker 28.0.0's set of the bridges' networks, as the destination.
    EngineNetworks,
    /// A list of addresses that is kept elsewhere: a set, a country.
    List,
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
    pub(super) fn denies(&self) -> bool {
        matches!(self.target, Target::Drop | Target::Reject)
    }

    /// The chain that it calls, or a target that is not known.
    pub(super) fn called(&self) -> Option<&str> {
        match &self.target {
            Target::Jump(name) | Target::Goto(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it holds for every packet.
    pub(super) fn is_unconditional(&self) -> bool {
        self.matches.iter().all(|found| {
            let always = match &found.kind {
                Kind::Source(set) | Kind::Destination(set) => {
                    *set == AddressSet::all(Family::V4) || *set == AddressSet::all(Family::V6)
                }
                Kind::Protocol(name) => is_any_protocol(name),
                _ => false,
            };
            always && !found.negated
        })
    }

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
                is_any_protocol(name) || protocol_of(name).is_some()
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

    /// Whether it says the same of every port of the host and of every container.
    pub(super) fn is_blind(&self) -> bool {
        self.matches.iter().all(|found| {
            matches!(
                found.kind,
                Kind::Source(_)
                    | Kind::Protocol(_)
                    | Kind::SourcePorts(_)
                    | Kind::Incoming(_)
                    | Kind::State(_)
                    | Kind::OriginalDirection(_)
                    | Kind::TcpFlags(..)
                    | Kind::DestinationType(_)
                    | Kind::SourceType(_)
                    | Kind::List
                    | Kind::Unknown
            )
        })
    }

    /// The bridge, if this is the form in which an engine accepts what it publishes, whatever the
    /// chain is called: `-d CONTAINER ! -i BRIDGE -o BRIDGE -p PROTOCOL --dport PORT -j ACCEPT`.
    pub(super) fn as_engine_accept(&self) -> Option<&str> {
        let mut bridges = (None, None);
        let mut named = (false, false);
        for found in &self.matches {
            match (&found.kind, found.negated) {
                (Kind::Destination(set), false) if set.len() == 1 => named.0 = true,
                (Kind::DestinationPorts(_), false) => named.1 = true,
                (Kind::Protocol(_), false) => {}
                (Kind::Incoming(name), true) => bridges.0 = Some(name),
                (Kind::Outgoing(name), false) => bridges.1 = Some(name),
                _ => return None,
            }
        }
        let complete = self.target == Target::Accept && named == (true, true);
        match bridges {
            (Some(incoming), Some(outgoing)) if complete && incoming == outgoing => Some(incoming),
            _ => None,
        }
    }

    /// Whether this is a form in which engines keep networks apart and containers' addresses to
    /// themselves, whatever the chain is called. Nothing of it is about a published port.
    pub(super) fn is_engine_isolation(&self, is_bridge: impl Fn(&str) -> bool) -> bool {
        let foreign = self.matches.iter().any(|found| match &found.kind {
            Kind::Incoming(name) => !(is_bridge(name) || found.negated && name == "lo"),
            Kind::Outgoing(name) => !is_bridge(name),
            _ => false,
        });
        if self.target != Target::Drop || foreign {
            return false;
        }
        let mut shape = Vec::new();
        for found in &self.matches {
            shape.push(match (&found.kind, found.negated) {
                (Kind::Incoming(_), false) => 'i',
                (Kind::Incoming(_), true) => 'I',
                (Kind::Outgoing(_), false) => 'o',
                (Kind::Outgoing(_), true) => 'O',
                (Kind::Source(_), true) => 'S',
                (Kind::Destination(_), true) => 'D',
                (Kind::Destination(set), false) if set.len() == 1 => 'd',
                (Kind::Protocol(_), false) => continue,
                (Kind::DestinationPorts(_), false) => 'p',
                (Kind::State(states), false) if states.iter().all(|s| s == "INVALID") => 's',
                _ => return false,
            });
        }
        shape.sort_unstable();
        let shape: String = shape.into_iter().collect();
        // Between networks; within one that is isolated; an internal one; what is not published;
        // straight to a container or, from outside, to a port of the loopback address.
        ["o", "io", "So", "Di", "Io", "Id", "Idp", "s"].contains(&shape.as_str())
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

/// The protocol of a name or a number.
pub(super) fn protocol_of(name: &str) -> Option<Protocol> {
    match name {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        "sctp" | "132" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Whether `-p` with this name means every protocol: `ip` is the number 0 in `/etc/protocols`.
pub(super) fn is_any_protocol(name: &str) -> bool {
    ["all", "0", "ip"].contains(&name)
}

/// Addresses of the link, `fe80::/10`.
pub(super) fn link_local() -> AddressSet {
    let first = 0xfe80_u128 << 112;
    AddressSet::from_entries([Entry::V6(first, first | (u128::MAX >> 10))])
}
