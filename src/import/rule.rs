//! Rules as they were read.

use crate::net::{AddressSet, Entry, Family, Protocol};
use std::collections::BTreeSet;

use crate::text::Span;

/// Returns the program that prints the rules of a family.
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
    /// The conditions; all of them must hold.
    pub(super) matches: Vec<Match>,
    pub(super) target: Target,
    /// The place of the target; the line if there is none.
    pub(super) target_span: Span,
}

/// One condition of a rule.
#[derive(Debug)]
pub(super) struct Match {
    /// Whether it is negated.
    pub(super) negated: bool,
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// An inclusive range of ports.
pub(super) type PortRange = (u16, u16);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Source(AddressSet),
    Destination(AddressSet),
    /// A protocol's name in lower case, or its number.
    Protocol(String),
    SourcePorts(Vec<PortRange>),
    DestinationPorts(Vec<PortRange>),
    /// `-i`: a name, or a prefix and `+`.
    Incoming(String),
    Outgoing(String),
    /// `--ctstate` or `--state`: any of these.
    State(BTreeSet<String>),
    /// `--ctdir`: whether it is `ORIGINAL`.
    OriginalDirection(bool),
    OriginalSource(AddressSet),
    OriginalDestination(AddressSet),
    OriginalPorts(Vec<PortRange>),
    /// `--tcp-flags`: the mask, and the flags that must be set.
    TcpFlags(u8, u8),
    /// `--dst-type`: one of these.
    DestinationType(BTreeSet<String>),
    /// `--src-type`: one of these.
    SourceType(BTreeSet<String>),
    /// Docker 28.0.0's set of the bridges' networks, as the destination.
    EngineNetworks,
    /// A list of addresses outside the dump: an ipset, a country.
    List,
    /// A condition that is not supported.
    Unknown,
}

/// TCP's flags as `--tcp-flags` names them.
pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

/// The target of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Accept,
    Drop,
    Reject,
    Return,
    /// A log target; the packet continues.
    Log,
    /// A target without a verdict; the packet continues.
    Passive,
    /// `--to-destination`.
    Dnat(Option<String>),
    /// A chain of the same table, or an unknown target.
    Jump(String),
    Goto(String),
}

impl Rule {
    pub(super) fn denies(&self) -> bool {
        matches!(self.target, Target::Drop | Target::Reject)
    }

    /// Returns the chain that the rule calls, or the unknown target.
    pub(super) fn called(&self) -> Option<&str> {
        match &self.target {
            Target::Jump(name) | Target::Goto(name) => Some(name),
            _ => None,
        }
    }

    /// Returns whether the rule matches every packet.
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

    /// Returns the destination ports of the rule, if it has any.
    pub(super) fn destination_ports(&self) -> Option<&[PortRange]> {
        self.matches.iter().find_map(|m| match &m.kind {
            Kind::DestinationPorts(ports) if !m.negated => Some(ports.as_slice()),
            _ => None,
        })
    }

    /// Returns whether the rule can match a protocol with ports.
    pub(super) fn is_about_ports(&self) -> bool {
        self.matches.iter().all(|found| match &found.kind {
            Kind::Protocol(name) if !found.negated => {
                is_any_protocol(name) || protocol_of(name).is_some()
            }
            _ => true,
        })
    }

    /// Returns the ports in the rule, of the container or of the host.
    pub(super) fn ports(&self) -> impl Iterator<Item = PortRange> + '_ {
        let ports = self.matches.iter().flat_map(|found| match &found.kind {
            Kind::DestinationPorts(ports) | Kind::OriginalPorts(ports) => ports.as_slice(),
            _ => &[],
        });
        ports.copied()
    }

    /// Returns whether the rule treats all ports and containers alike.
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

    /// Returns the bridge if the rule has the form of an engine's accept of a published port, in any chain: `-d
    /// CONTAINER ! -i BRIDGE -o BRIDGE -p PROTOCOL --dport PORT -j ACCEPT`.
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

    /// Returns whether the rule has a form by which engines isolate networks and containers' addresses, in any
    /// chain. Such rules do not affect published ports.
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

/// The width from which a range of ports is not about a single service.
pub(super) const WIDE: u16 = 1000;

/// Returns whether `number` is in one of `ranges`.
pub(super) fn within(ranges: &[PortRange], number: u16) -> bool {
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&number))
}

/// Parses the name or number of a protocol.
pub(super) fn protocol_of(name: &str) -> Option<Protocol> {
    match name {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        "sctp" | "132" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Returns whether `-p` with this name matches every protocol: `ip` has the number 0 in `/etc/protocols`.
pub(super) fn is_any_protocol(name: &str) -> bool {
    ["all", "0", "ip"].contains(&name)
}

/// Returns the link-local addresses, `fe80::/10`.
pub(super) fn link_local() -> AddressSet {
    let first = 0xfe80_u128 << 112;
    AddressSet::from_entries([Entry::V6(first, first | (u128::MAX >> 10))])
}
