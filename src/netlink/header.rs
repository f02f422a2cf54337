//! The headers of a packet: addresses, protocol and ports.
//!
//! Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP); ports stand at the same place in TCP,
//! UDP and SCTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The fields of a packet's headers. Of damaged or truncated headers, fields are missing, never wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// The source address.
    pub source: IpAddr,
    /// The destination address, of the same family.
    pub destination: IpAddr,
    /// The IP protocol number of the transport.
    pub protocol: u8,
    /// The source and the destination port; `None` for what has no ports.
    pub ports: Option<(u16, u16)>,
    /// The flags of TCP.
    pub tcp_flags: Option<u8>,
}

/// TCP, UDP and SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

impl Headers {
    /// Parses a network header and the transport header behind it; `None` if it is neither IPv4 nor
    /// IPv6.
    #[must_use]
    pub fn of_packet(bytes: &[u8]) -> Option<Self> {
        let (headers, transport) = network(bytes)?;
        Some(headers.with_transport(transport))
    }

    /// Parses a network header and a transport header from separate buffers.
    #[must_use]
    pub fn of_parts(network_header: &[u8], transport: &[u8]) -> Option<Self> {
        let (headers, _) = network(network_header)?;
        Some(headers.with_transport(Some(transport)))
    }

    fn with_transport(mut self, transport: Option<&[u8]>) -> Self {
        if let Some(bytes) = transport.filter(|_| WITH_PORTS.contains(&self.protocol)) {
            self.ports = bytes.first_chunk().map(|&[a, b, c, d]| {
                let (source, destination) = ([a, b], [c, d]);
                (u16::from_be_bytes(source), u16::from_be_bytes(destination))
            });
            self.tcp_flags = bytes.get(13).copied().filter(|_| self.protocol == 6);
        }
        self
    }
}

/// Returns the network header, and the transport header if it begins in these bytes.
fn network(bytes: &[u8]) -> Option<(Headers, Option<&[u8]>)> {
    let headers = |source, destination, protocol| Headers {
        source,
        destination,
        protocol,
        ports: None,
        tcp_flags: None,
    };
    match bytes.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            };
            let length = usize::from(bytes.first()? & 0x0f) * 4;
            let fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x1fff;
            let transport = bytes
                .get(length..)
                .filter(|_| fragment == 0 && length >= 20);
            let headers = headers(address(12)?, address(16)?, *bytes.get(9)?);
            Some((headers, transport))
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            let (protocol, transport) = behind_extensions(*bytes.get(6)?, bytes.get(40..));
            Some((headers(address(8)?, address(24)?, protocol), transport))
        }
        _ => None,
    }
}

/// Returns the first header that is no extension of IPv6, and where it begins.
fn behind_extensions(mut next: u8, mut rest: Option<&[u8]>) -> (u8, Option<&[u8]>) {
    /// Hop-by-hop options, routing, fragment, destination options.
    const EXTENSIONS: [u8; 4] = [0, 43, 44, 60];
    const FRAGMENT: u8 = 44;
    while let (true, Some([following, length, a, b, ..])) = (EXTENSIONS.contains(&next), rest) {
        let length = if next == FRAGMENT {
            if u16::from_be_bytes([*a, *b]) >> 3 != 0 {
                return (*following, None);
            }
            8
        } else {
            usize::from(*length) * 8 + 8
        };
        next = *following;
        rest = rest.and_then(|bytes| bytes.get(length..));
    }
    (next, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a SYN from 203.0.113.9 port 40000 to 198.51.100.7 port 80.
    fn syn() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
        bytes.extend([203, 0, 113, 9, 198, 51, 100, 7]);
        bytes.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0]);
        bytes
    }

    #[test]
    fn a_packet_is_read() {
        let expected = Headers {
            source: "203.0.113.9".parse().unwrap(),
            destination: "198.51.100.7".parse().unwrap(),
            protocol: 6,
            ports: Some((40_000, 80)),
            tcp_flags: Some(2),
        };
        let bytes = syn();
        assert_eq!(Headers::of_packet(&bytes), Some(expected));
        assert_eq!(
            Headers::of_parts(&bytes[..20], &bytes[20..]),
            Some(expected)
        );
        let mut fragment = syn();
        fragment[7] = 1;
        assert_eq!(Headers::of_packet(&fragment).unwrap().ports, None);
    }

    #[test]
    fn ports_are_found_behind_extensions() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 16, 60, 64];
        bytes.extend([0; 15]);
        bytes.push(1);
        bytes.extend([0; 15]);
        bytes.push(2);
        bytes.extend([17, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0, 5, 0, 53, 0, 8, 0, 0]);
        let headers = Headers::of_packet(&bytes).unwrap();
        assert_eq!((headers.protocol, headers.ports), (17, Some((5, 53))));
        assert_eq!(headers.destination, "::2".parse::<IpAddr>().unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(first in 0x40..0x70_u8, rest in prop::collection::vec(any::<u8>(), 0..90)) {
            let bytes = [vec![first], rest].concat();
            let _ = Headers::of_packet(&bytes);
            let (network, transport) = bytes.split_at(bytes.len() / 2);
            let _ = Headers::of_parts(network, transport);
        }
    }
}
