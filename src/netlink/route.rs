//! Where this host sends packets, asked of rtnetlink (`linux/rtnetlink.h`, `ip route get`).

use std::net::IpAddr;

use super::number::*;
use super::request::SEQUENCE;
use super::wire::{Attributes, Malformed, Message, REQUEST, Writer};

/// The route of a packet to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Whether the address is one of this host.
    pub local: bool,
    /// The number of the interface that it leaves through; `None` for a route that leads nowhere.
    pub interface: Option<u32>,
    /// Whether another host forwards it, so that the address is not on the link itself.
    pub has_gateway: bool,
}

/// Asks for the route to an address.
#[must_use]
pub fn route(to: IpAddr) -> Vec<u8> {
    let (family, octets) = match to {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    };
    let bits = u8::try_from(octets.len() * 8).unwrap_or_default();
    let mut w = Writer::new();
    // `struct rtmsg` has 12 bytes.
    w.headed(RTM_GETROUTE, REQUEST, SEQUENCE, [family, bits, 0, 0], |w| {
        w.raw(&[0; 8]);
        w.attribute(RTA_DST, &octets);
    });
    w.bytes().to_vec()
}

/// Reads a route; `None` for any other message.
///
/// # Errors
/// If it is malformed.
pub fn decode_route(message: &Message<'_>) -> Result<Option<Route>, Malformed> {
    if message.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let (Some(kind), Some(attributes)) = (message.body.get(7), message.body.get(12..)) else {
        return Err(Malformed("short route"));
    };
    let table = Attributes::new(attributes).table::<{ RTA_VIA as usize + 1 }>()?;
    let interface = table[usize::from(RTA_OIF)];
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).ok();
    let has = |attribute: u16| table[usize::from(attribute)].is_some();
    Ok(Some(Route {
        local: *kind == RTN_LOCAL,
        interface: interface.and_then(|interface| number(interface.payload)),
        has_gateway: has(RTA_GATEWAY) || has(RTA_VIA),
    }))
}
