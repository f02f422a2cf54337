//! Packets as bytes.

use std::net::IpAddr;

use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol,
    Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber, UdpPacket,
};

/// How long headers without options are.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
const UDP: usize = 8;

/// What a packet carries.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Tcp {
        ports: (u16, u16),
        flags: Flags,
    },
    Udp {
        ports: (u16, u16),
    },
    /// An echo request or reply, with its identifier.
    Echo {
        reply: bool,
        id: u16,
    },
    /// That a packet was too big, with its first bytes.
    TooBig {
        about: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flags {
    Syn,
    SynAck,
    Ack,
}

/// An IP packet from an address to another of the same family.
pub(super) fn packet(source: IpAddr, destination: IpAddr, payload: &Payload) -> Vec<u8> {
    let transport = transport(source, destination, payload);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = vec![0; IPV4 + transport.len()];
            let mut ip = Ipv4Packet::new_unchecked(&mut bytes);
            ip.set_version(4);
            ip.set_header_len(20);
            ip.set_total_len(length(IPV4 + transport.len()));
            ip.set_hop_limit(64);
            ip.set_next_header(protocol(payload, true));
            ip.set_src_addr(source);
            ip.set_dst_addr(destination);
            ip.fill_checksum();
            ip.payload_mut().copy_from_slice(&transport);
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = vec![0; IPV6 + transport.len()];
            let mut ip = Ipv6Packet::new_unchecked(&mut bytes);
            ip.set_version(6);
            ip.set_payload_len(length(transport.len()));
            ip.set_hop_limit(64);
            ip.set_next_header(protocol(payload, false));
            ip.set_src_addr(source);
            ip.set_dst_addr(destination);
            ip.payload_mut().copy_from_slice(&transport);
            bytes
        }
        _ => unreachable!("a packet has one family"),
    }
}

/// A packet in a frame.
pub(super) fn frame(from: [u8; 6], to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET + packet.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(EthernetAddress(from));
    frame.set_dst_addr(EthernetAddress(to));
    frame.set_ethertype(if packet[0] >> 4 == 4 {
        EthernetProtocol::Ipv4
    } else {
        EthernetProtocol::Ipv6
    });
    frame.payload_mut().copy_from_slice(packet);
    bytes
}

fn protocol(payload: &Payload, v4: bool) -> IpProtocol {
    match payload {
        Payload::Tcp { .. } => IpProtocol::Tcp,
        Payload::Udp { .. } => IpProtocol::Udp,
        Payload::Echo { .. } | Payload::TooBig { .. } if v4 => IpProtocol::Icmp,
        Payload::Echo { .. } | Payload::TooBig { .. } => IpProtocol::Icmpv6,
    }
}

fn transport(source: IpAddr, destination: IpAddr, payload: &Payload) -> Vec<u8> {
    let (from, to) = (source.into(), destination.into());
    match payload {
        Payload::Tcp { ports, flags } => {
            let mut bytes = vec![0; TCP];
            let mut tcp = TcpPacket::new_unchecked(&mut bytes);
            tcp.set_src_port(ports.0);
            tcp.set_dst_port(ports.1);
            tcp.set_seq_number(TcpSeqNumber(1));
            tcp.set_header_len(20);
            tcp.set_window_len(1000);
            tcp.set_syn(*flags != Flags::Ack);
            tcp.set_ack(*flags != Flags::Syn);
            if *flags != Flags::Syn {
                tcp.set_ack_number(TcpSeqNumber(2));
            }
            tcp.fill_checksum(&from, &to);
            bytes
        }
        Payload::Udp { ports } => {
            let mut bytes = vec![0; UDP];
            let mut udp = UdpPacket::new_unchecked(&mut bytes);
            udp.set_src_port(ports.0);
            udp.set_dst_port(ports.1);
            udp.set_len(length(UDP));
            udp.fill_checksum(&from, &to);
            bytes
        }
        Payload::Echo { reply, id } => {
            // RFC 792 and RFC 4443, 4.1.
            let kind = match (source.is_ipv4(), reply) {
                (true, false) => 8,
                (true, true) => 0,
                (false, false) => 128,
                (false, true) => 129,
            };
            icmp(
                source,
                destination,
                [kind, 0],
                &[id.to_be_bytes(), [0, 1]].concat(),
            )
        }
        Payload::TooBig { about } => {
            // RFC 1191, 4 and RFC 4443, 3.2: an MTU of 1280 bytes.
            let code = if source.is_ipv4() { [3, 4] } else { [2, 0] };
            let body = [&[0, 0, 5, 0], &about[..]].concat();
            icmp(source, destination, code, &body)
        }
    }
}

fn icmp(source: IpAddr, destination: IpAddr, code: [u8; 2], body: &[u8]) -> Vec<u8> {
    let mut bytes = [&code[..], &[0, 0], body].concat();
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Icmpv6Packet::new_unchecked(&mut bytes).fill_checksum(&source, &destination);
        }
        _ => Icmpv4Packet::new_unchecked(&mut bytes).fill_checksum(),
    }
    bytes
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
