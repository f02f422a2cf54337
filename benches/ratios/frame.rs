//! Whole IPv4 packets with a TCP or UDP header.

use std::net::Ipv4Addr;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// The first segment of a TCP connection.
    Syn,
    /// A later one.
    Ack,
    /// A UDP datagram of one byte.
    Datagram,
}

/// Flags of TCP (RFC 9293, 3.1).
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Returns a packet from an address and port to another; the kernel fills in the sum of the IP header and the
/// identifier.
pub(crate) fn packet(
    segment: Segment,
    (source, from): (Ipv4Addr, u16),
    (destination, to): (Ipv4Addr, u16),
) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    match segment {
        Segment::Syn | Segment::Ack => {
            bytes.resize(40, 0);
            bytes[32] = 5 << 4;
            bytes[33] = if segment == Segment::Syn { SYN } else { ACK };
            bytes[34..36].copy_from_slice(&u16::MAX.to_be_bytes());
        }
        // Without a sum, which IPv4 allows.
        Segment::Datagram => bytes.extend([0, 9, 0, 0, 0]),
    }
    bytes[0] = 0x45;
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[8] = 64;
    bytes[9] = if segment == Segment::Datagram { 17 } else { 6 };
    bytes[12..16].copy_from_slice(&source.octets());
    bytes[16..20].copy_from_slice(&destination.octets());
    if segment != Segment::Datagram {
        let sum = sum(&bytes);
        bytes[36..38].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// Returns the sum of a TCP header, with the addresses, the protocol and the length before it (RFC 9293, 3.1).
fn sum(packet: &[u8]) -> u16 {
    let words = packet[12..].chunks(2);
    let words = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + 6 + 20;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or_default()
}
