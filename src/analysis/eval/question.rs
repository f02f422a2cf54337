//! What expressions ask of the source of a packet.
//!
//! The one place that says which expressions depend on the source, and on what of it. One source is looked
//! up ([`evaluate`](super::evaluate)); for a set of sources the addresses for which the answer is yes are cut
//! out of the set ([`Symbolic`](super::Symbolic)).

use std::net::IpAddr;

use crate::net::{AddressSet, Entry, Family};
use crate::ruleset::{
    Address, End, Expression, Field, Interface, Key, L4Protocol, Port, Row, Ruleset, Tuple, Value,
    Verdict, with_rows,
};

use super::lookup::{Unknown, value};
use super::packet::{Flow, Packet};

/// What an expression asks of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The source of the packet.
    pub(super) source: IpAddr,
    /// The name of the set or map.
    pub(super) set: &'a str,
    /// What is looked up there.
    pub(super) asked: Asked,
}

/// No source of the packet's family matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoMatch;

/// What is looked up for a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// The address.
    Address,
    /// A port beside the network of the address with so many leading bits.
    Network { port: u16, length: u8 },
    /// The verdict of a port beside the address.
    Verdict { port: u16 },
}

impl<'a> Question<'a> {
    /// Returns what `ip saddr @set` asks; `None` if the packet cannot match.
    pub(super) fn set(packet: &Packet, tuple: Tuple, family: Family, set: &'a str) -> Option<Self> {
        Self::of_source(packet.flow(tuple)?.source, family, set, Asked::Address)
    }

    /// Returns what `tcp dport . ip saddr & MASK @set` asks of where a packet goes; `None` if it cannot
    /// match.
    pub(super) fn network(
        to: Option<(Flow, u16)>,
        (family, length): (Family, u8),
        set: &'a str,
    ) -> Option<Self> {
        let (flow, port) = to?;
        Self::of_source(flow.source, family, set, Asked::Network { port, length })
    }

    /// Returns what `udp sport . ip saddr vmap @map` asks; `None` if the packet cannot match.
    pub(super) fn map(
        packet: &Packet,
        protocol: L4Protocol,
        family: Family,
        map: &'a str,
    ) -> Option<Self> {
        let port = packet.source_port.filter(|_| packet.protocol == protocol)?;
        Self::of_source(packet.flow.source, family, map, Asked::Verdict { port })
    }

    /// Another family's is never found.
    fn of_source(source: IpAddr, family: Family, set: &'a str, asked: Asked) -> Option<Self> {
        (Family::of(source) == family).then_some(Self { source, set, asked })
    }

    /// Returns what an expression asks of the source: `None` if it asks nothing, an error if the packet cannot
    /// match from any source of its family.
    pub(super) fn of(expression: &'a Expression, packet: &Packet) -> Option<Result<Self, NoMatch>> {
        match expression {
            Expression::Address(Address::SourceIn { tuple, family, set }) => {
                Some(Self::set(packet, *tuple, *family, set).ok_or(NoMatch))
            }
            Expression::Port(Port::SourceIn {
                tuple,
                protocol,
                family,
                length,
                set,
            }) => {
                let to = packet.port(*tuple, *protocol);
                Some(Self::network(to, (*family, *length), set).ok_or(NoMatch))
            }
            Expression::Port(Port::AddressMap {
                end: End::Source,
                protocol,
                family,
                map,
            }) => Some(Self::map(packet, *protocol, *family, map).ok_or(NoMatch)),
            // All sources of a question are of one family, and either all have a reverse path or none has.
            Expression::Address(
                Address::Family(_)
                | Address::DestinationIn { .. }
                | Address::ToLoopback(_)
                | Address::Local
                | Address::DestinationMap { .. },
            )
            | Expression::Port(
                Port::Protocol(_)
                | Port::Opens
                | Port::In { .. }
                | Port::Map { .. }
                | Port::AddressMap {
                    end: End::Destination,
                    ..
                },
            )
            | Expression::Interface(
                Interface::Name { .. }
                | Interface::In { .. }
                | Interface::OutBridge
                | Interface::SameInterface
                | Interface::NoReversePath,
            )
            | Expression::Conntrack(_)
            | Expression::PerSource(_)
            | Expression::Statement(_)
            | Expression::Unknown { .. } => None,
        }
    }

    /// Returns every source for which something is found, apart by verdict; one entry without a verdict for a
    /// set. Takes time in proportion to the elements that can match.
    pub(super) fn sources(
        &self,
        ruleset: &'a Ruleset,
    ) -> Result<Vec<(AddressSet, Option<&'a Verdict>)>, Unknown> {
        let elements = &ruleset.sets.get(self.set).ok_or(Unknown)?.elements;
        let field = value(self.source).field();
        let length = match self.asked {
            Asked::Address | Asked::Verdict { .. } => Family::of(self.source).bits(),
            Asked::Network { length, .. } => length,
        };
        let mut found: Vec<(Option<&'a Verdict>, Vec<Entry>)> = Vec::new();
        with_rows!(elements, rows => {
            let (rows, fields) = match self.asked {
                Asked::Address => (&rows[..], &[field][..]),
                Asked::Network { port, .. } | Asked::Verdict { port } => {
                    (of_port(rows, port), &[Field::Port, field][..])
                }
            };
            if key_of(rows) != fields {
                return Err(Unknown);
            }
            for row in rows {
                let (first, last) = (row.first().values(), row.last().values());
                let Some(entry) = entry(first.as_ref(), last.as_ref(), length) else {
                    continue;
                };
                let verdict = match self.asked {
                    Asked::Address | Asked::Network { .. } => None,
                    Asked::Verdict { .. } => row.verdict(),
                };
                match found.iter_mut().find(|(of, _)| *of == verdict) {
                    Some((_, entries)) => entries.push(entry),
                    None => found.push((verdict, vec![entry])),
                }
            }
        });
        let found = found.into_iter();
        Ok(found
            .map(|(verdict, entries)| (entries.into_iter().collect(), verdict))
            .collect())
    }
}

/// Returns how many leading bits of a source of a family an expression looks up beside a port.
pub(in crate::analysis) fn looked_up_bits(expression: &Expression) -> Option<(Family, u8)> {
    match expression {
        Expression::Port(Port::SourceIn { family, length, .. }) => Some((*family, *length)),
        _ => None,
    }
}

/// Returns the types of the fields of rows.
fn key_of<R: Row>(_: &[R]) -> &'static [Field] {
    R::Key::FIELDS
}

/// Returns the rows with a port as the first field, of rows in ascending order.
pub(super) fn of_port<R: Row>(rows: &[R], port: u16) -> &[R] {
    let of = |row: &R| match row.first().values().as_ref().first() {
        Some(Value::Port(port)) => Some(*port),
        _ => None,
    };
    let first = rows.partition_point(|row| of(row).is_some_and(|of| of < port));
    let last = rows.partition_point(|row| of(row).is_some_and(|of| of <= port));
    rows.get(first..last).unwrap_or_default()
}

/// Returns the sources that an element matches; `None` for a network that has bits behind its length.
fn entry(first: &[Value<'_>], last: &[Value<'_>], length: u8) -> Option<Entry> {
    match (first.last()?, last.last()?) {
        (Value::Ipv4(first), Value::Ipv4(last)) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            (first & host == 0).then_some(Entry::V4(*first, last | host))
        }
        (Value::Ipv6(first), Value::Ipv6(last)) => {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            (first & host == 0).then_some(Entry::V6(*first, last | host))
        }
        _ => None,
    }
}

/// Returns the first and the last address of the network of an address with so many leading bits.
pub(super) fn network(address: IpAddr, length: u8) -> (IpAddr, IpAddr) {
    match (Family::of(address).mask(length), address) {
        (IpAddr::V4(mask), IpAddr::V4(address)) => {
            ((address & mask).into(), (address | !mask).into())
        }
        (IpAddr::V6(mask), IpAddr::V6(address)) => {
            ((address & mask).into(), (address | !mask).into())
        }
        // A mask is of the family of its address.
        _ => (address, address),
    }
}
