//! Listening sockets of this host, from sock_diag (`linux/inet_diag.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Attributes, DUMP, Malformed, Message, REQUEST, SEQUENCE, Writer};
use super::number::*;

/// `TCP_CLOSE` and `TCP_LISTEN` of `net/tcp_states.h`, as bits. A UDP socket without a peer is
/// closed, and SCTP numbers its states alike.
const CLOSED: u32 = 1 << 7;
const LISTENING: u32 = 1 << 10;

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The IP protocol number.
    pub protocol: u8,
    /// The address it is bound to; unspecified for all addresses.
    pub address: IpAddr,
    /// The port it is bound to.
    pub port: u16,
    /// Whether it is an IPv6 socket that also accepts IPv4 clients.
    pub both_families: bool,
    /// The index of the interface it is bound to (`SO_BINDTODEVICE`); `None` for any.
    pub device: Option<u32>,
    /// The user who made it, by number.
    pub user: u32,
    /// Its inode, by which `/proc/PID/fd` knows it.
    pub inode: u32,
}

/// The protocols that have ports.
pub const PROTOCOLS: [u8; 3] = [6, 17, SCTP];
/// `IPPROTO_SCTP`, which not every kernel has.
pub const SCTP: u8 = 132;
/// The address families, `AF_INET` and `AF_INET6`.
pub const FAMILIES: [u8; 2] = [2, 10];

/// Writes the request for the listening sockets of one family and protocol.
#[must_use]
pub fn listeners(family: u8, protocol: u8) -> Vec<u8> {
    let states = if protocol == 17 { CLOSED } else { LISTENING };
    let mut w = Writer::new();
    // `struct inet_diag_req_v2`: family, protocol, extensions, padding; the states; 48 bytes that
    // select one socket, unused here.
    w.headed(
        SOCK_DIAG_BY_FAMILY,
        REQUEST | DUMP,
        SEQUENCE,
        [family, protocol, 0, 0],
        |w| {
            w.raw(&states.to_ne_bytes());
            w.raw(&[0; 48]);
        },
    );
    w.bytes().to_vec()
}

/// Reads a socket; `None` for any other message, or a connected socket.
///
/// # Errors
/// If it is malformed.
pub fn decode_listener(message: &Message<'_>, protocol: u8) -> Result<Option<Socket>, Malformed> {
    /// The length of `struct inet_diag_msg`.
    const HEADER: usize = 72;
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return Ok(None);
    }
    let (Some(header), Some(attributes)) = (message.body.get(..HEADER), message.body.get(HEADER..))
    else {
        return Err(Malformed("short socket"));
    };
    let address = |at: usize| -> Option<IpAddr> {
        let bytes = header.get(at..at + 16)?;
        match header[0] {
            2 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?).into()),
            // A socket that is bound to an IPv4-mapped address accepts IPv4 clients only (RFC 4291,
            // 2.5.5.2).
            10 => {
                Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical())
            }
            _ => None,
        }
    };
    let (Some(own), Some(peer)) = (address(8), address(24)) else {
        return Err(Malformed("a socket of a foreign family"));
    };
    if !peer.is_unspecified() {
        return Ok(None);
    }
    let only = Attributes::new(attributes).table::<{ INET_DIAG_SKV6ONLY as usize + 1 }>()?
        [usize::from(INET_DIAG_SKV6ONLY)]
    .is_some_and(|only| only.payload.first().is_some_and(|only| *only != 0));
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        bytes.try_into().map(u32::from_ne_bytes).ok()
    };
    Ok(Some(Socket {
        protocol,
        address: own,
        port: u16::from_be_bytes([header[4], header[5]]),
        both_families: own == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !only,
        device: number(40).filter(|index| *index != 0),
        user: number(64).unwrap_or_default(),
        inode: number(68).unwrap_or_default(),
    }))
}
