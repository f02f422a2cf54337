//! Queries links, addresses and routes of this host by rtnetlink (`linux/rtnetlink.h`, `linux/if_link.h`).

use std::net::IpAddr;

use super::message::{Attributes, DUMP, Malformed, Message, REQUEST, SEQUENCE, Writer};
use super::number::*;

/// Writes the request for all links of this network namespace.
#[must_use]
pub fn links() -> Vec<u8> {
    let mut w = Writer::new();
    // `struct ifinfomsg` has 16 bytes, of which the writer makes the first four.
    w.headed(RTM_GETLINK, REQUEST | DUMP, SEQUENCE, [0; 4], |w| {
        w.raw(&[0; 12]);
    });
    w.bytes().to_vec()
}

/// Returns whether a notification announces a new link, such as that of a container.
#[must_use]
pub fn is_new(message: &Message<'_>) -> bool {
    // `ifi_change` of `struct ifinfomsg`: all bits are set for a new link.
    message.kind == RTM_NEWLINK && message.body.get(12..16) == Some(&[0xff; 4])
}

/// A network interface as far as dfw needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// The name.
    pub name: String,
    /// Its kind, such as `bridge` or `veth`; `None` for hardware.
    pub kind: Option<String>,
    /// The number of the bridge or bond that it is a port of.
    pub controller: Option<u32>,
    /// Whether an XDP program is attached, which can forward packets before any netfilter hook.
    pub xdp: bool,
}

/// Reads a link; `None` for any other message, or a link whose name is not UTF-8.
///
/// # Errors
/// If it is malformed.
pub fn decode_link(message: &Message<'_>) -> Result<Option<Link>, Malformed> {
    if message.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let (Some(header), Some(attributes)) = (message.body.get(4..8), message.body.get(16..)) else {
        return Err(Malformed("short link"));
    };
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).ok();
    let table = Attributes::new(attributes).table::<{ IFLA_XDP as usize + 1 }>()?;
    let name = table[usize::from(IFLA_IFNAME)].and_then(|name| name.string().ok());
    let kind = match table[usize::from(IFLA_LINKINFO)] {
        Some(info) => info.nested().table::<2>()?[usize::from(IFLA_INFO_KIND)],
        None => None,
    };
    let xdp = match table[usize::from(IFLA_XDP)] {
        Some(xdp) => xdp.nested().table::<3>()?[usize::from(IFLA_XDP_ATTACHED)],
        None => None,
    };
    Ok(name.map(|name| Link {
        index: number(header).unwrap_or_default(),
        name: name.to_owned(),
        kind: kind.and_then(|kind| kind.string().ok()).map(str::to_owned),
        controller: table[usize::from(IFLA_MASTER)].and_then(|master| number(master.payload)),
        xdp: xdp.is_some_and(|attached| attached.payload.first().is_some_and(|mode| *mode != 0)),
    }))
}

/// An address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The number of the link that has it.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// The network on the link: an address in it (this one, or that of the peer of a point-to-point
    /// link) and the prefix length. Source: `IFA_ADDRESS` and `ifa_prefixlen` of `linux/if_addr.h`.
    pub network: (IpAddr, u8),
}

/// Writes the request for all addresses of this network namespace.
#[must_use]
pub fn addresses() -> Vec<u8> {
    let mut w = Writer::new();
    // `struct ifaddrmsg` has 8 bytes.
    w.headed(RTM_GETADDR, REQUEST | DUMP, SEQUENCE, [0; 4], |w| {
        w.raw(&[0; 4]);
    });
    w.bytes().to_vec()
}

/// Reads an address; `None` for any other message.
///
/// # Errors
/// If it is malformed.
pub fn decode_address(message: &Message<'_>) -> Result<Option<Address>, Malformed> {
    if message.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let (Some(length), Some(link), Some(attributes)) = (
        message.body.get(1),
        message.body.get(4..8),
        message.body.get(8..),
    ) else {
        return Err(Malformed("short address"));
    };
    let table = Attributes::new(attributes).table::<{ IFA_LOCAL as usize + 1 }>()?;
    // IPv6 has no `IFA_LOCAL`, and the peer of a point-to-point link is not an address of this host.
    let (local, either) = (
        table[usize::from(IFA_LOCAL)],
        table[usize::from(IFA_ADDRESS)],
    );
    let read = |payload: &[u8]| {
        let v4 = <[u8; 4]>::try_from(payload).map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(payload).map(IpAddr::from);
        v4.or(v6).ok()
    };
    let address = local.or(either).and_then(|own| read(own.payload));
    let network = either.or(local).and_then(|other| read(other.payload));
    let link = link.try_into().map(u32::from_ne_bytes).unwrap_or_default();
    Ok(address.zip(network).map(|(address, network)| Address {
        link,
        address,
        network: (network, *length),
    }))
}

/// The route of a packet to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Whether the address is one of this host.
    pub local: bool,
    /// The index of the outgoing interface; `None` for a route without one.
    pub interface: Option<u32>,
    /// Whether there is a gateway, so that the address is not on-link.
    pub has_gateway: bool,
}

/// Writes the request for the route to an address.
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
