//! Looks keys up in sets and verdict maps.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::ruleset::{Key, L4Protocol, Row, Set, Value, Verdict, with_rows};

use super::ALL_PORTS;
use super::trace::{Element, Hit};

/// An element that contains a key, and its verdict.
pub(super) struct Match<'a> {
    /// `None` where nobody wants to know.
    pub(super) hit: Option<Hit>,
    pub(super) comment: Option<&'a str>,
    pub(super) verdict: Option<&'a Verdict>,
}

/// There is no such set, or its keys are of another type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unknown;

/// Looks a key up in a set or map, which has this name.
pub(super) fn look_up<'a>(
    set: Option<&'a Set>,
    name: &str,
    key: &[Value<'_>],
    wants_hit: bool,
) -> Result<Option<Match<'a>>, Unknown> {
    with_rows!(&set.ok_or(Unknown)?.elements, rows => {
        let Some(row) = row(rows, key)? else {
            return Ok(None);
        };
        let (first, last) = (row.first().values(), row.last().values());
        let hit = if wants_hit {
            Some(Hit {
                set: name.to_owned(),
                element: element(first.as_ref(), last.as_ref()).ok_or(Unknown)?,
                comment: row.comment().map(str::to_owned),
            })
        } else {
            None
        };
        Ok(Some(Match { hit, comment: row.comment(), verdict: row.verdict() }))
    })
}

/// Returns the row that contains a key, of rows in ascending order.
fn row<'a, R: Row>(rows: &'a [R], key: &[Value<'_>]) -> Result<Option<&'a R>, Unknown> {
    let fields = key.iter().map(|value| value.field());
    if !fields.eq(R::Key::FIELDS.iter().copied()) {
        return Err(Unknown);
    }
    let index = rows.binary_search_by(|row| {
        if row.last().compare(key) == Some(Ordering::Less) {
            Ordering::Less
        } else if row.first().compare(key) == Some(Ordering::Greater) {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    });
    Ok(index.ok().and_then(|index| rows.get(index)))
}

/// Returns the ports around one for which a look-up in a set or map has the same answer; all of them where
/// keys have no port.
pub(super) fn ports_alike(set: Option<&Set>, protocol: L4Protocol, port: u16) -> (u16, u16) {
    let Some(set) = set else {
        return ALL_PORTS;
    };
    with_rows!(&set.elements, rows => {
        let after = rows.partition_point(|row| {
            ends(row).is_some_and(|(of, _, last)| {
                (of.unwrap_or(protocol), last) < (protocol, port)
            })
        });
        let near = |index| {
            let ends = rows.get(index).and_then(ends);
            ends.filter(|(of, ..)| of.is_none_or(|of| of == protocol))
        };
        let above = near(after);
        if let Some((_, first, last)) = above.filter(|(_, first, _)| *first <= port) {
            return (first, last);
        }
        let below = after.checked_sub(1).and_then(near);
        (
            below.map_or(0, |(_, _, last)| last.saturating_add(1)),
            above.map_or(u16::MAX, |(_, first, _)| first.saturating_sub(1)),
        )
    })
}

/// Returns the protocol, if any, and the first and the last port of a row; `None` if its key has no port.
fn ends<R: Row>(row: &R) -> Option<(Option<L4Protocol>, u16, u16)> {
    let (first, last) = (row.first().values(), row.last().values());
    match (first.as_ref(), last.as_ref()) {
        ([Value::Port(first), ..], [Value::Port(last), ..]) => Some((None, *first, *last)),
        ([Value::Protocol(protocol), Value::Port(first)], [_, Value::Port(last)]) => {
            Some((Some(*protocol), *first, *last))
        }
        _ => None,
    }
}

fn element(first: &[Value<'_>], last: &[Value<'_>]) -> Option<Element> {
    Some(match (first, last) {
        ([Value::Interface(name)], _) => Element::Interface((*name).to_owned()),
        ([Value::Port(first)], [Value::Port(last)]) => Element::Ports(*first, *last),
        ([Value::Protocol(_), Value::Port(port)], _) => Element::Ports(*port, *port),
        ([Value::Port(port), address], _) => {
            let address = ip(*address)?;
            Element::PortAddresses(*port, address, address)
        }
        ([first], [last]) => Element::Addresses(ip(*first)?, ip(*last)?),
        _ => return None,
    })
}

/// Returns an address as the value of a field.
pub(super) fn value(address: IpAddr) -> Value<'static> {
    match address {
        IpAddr::V4(v4) => Value::Ipv4(v4.into()),
        IpAddr::V6(v6) => Value::Ipv6(v6.into()),
    }
}

fn ip(value: Value<'_>) -> Option<IpAddr> {
    match value {
        Value::Ipv4(number) => Some(IpAddr::V4(number.into())),
        Value::Ipv6(number) => Some(IpAddr::V6(number.into())),
        Value::Port(_) | Value::Protocol(_) | Value::Interface(_) => None,
    }
}
