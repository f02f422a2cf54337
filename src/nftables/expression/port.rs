//! Protocols and ports, alone and beside an address: the parts of a concatenated key are in registers
//! behind each other.

use std::net::IpAddr;

use crate::net::Family;
use crate::ruleset::{End, L4Protocol, Port, Tuple};

use super::super::instruction::Instruction;
use super::super::number::*;
use super::address::load_address;

/// `ct original proto-dst`
const ORIGINAL_PORT: Instruction = Instruction::Ct {
    key: NFT_CT_PROTO_DST,
    direction: Some(IP_CT_DIR_ORIGINAL),
};

/// `th sport`: at the same place in TCP, UDP and SCTP
const SOURCE_PORT: Instruction = Instruction::Payload {
    base: NFT_PAYLOAD_TRANSPORT_HEADER,
    offset: 0,
    length: 2,
};

/// `th dport`: at the same place in TCP, UDP and SCTP
pub(in crate::nftables) const PACKET_PORT: Instruction = Instruction::Payload {
    base: NFT_PAYLOAD_TRANSPORT_HEADER,
    offset: 2,
    length: 2,
};

/// Flags of TCP (RFC 9293, 3.1).
pub(super) const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

const TUPLES: [Tuple; 2] = [Tuple::Original, Tuple::Packet];

/// Appends the instructions for an expression.
pub(super) fn encode(expression: &Port, out: &mut Vec<Instruction>) {
    match expression {
        Port::Protocol(protocol) => load_protocol(*protocol, out),
        Port::Opens => load_opening(out),
        Port::SourceIn {
            tuple,
            protocol,
            family,
            length,
            set,
        } => {
            let whose = (*tuple, *protocol, *family);
            load_both(load_port(*tuple), whose, End::Source, out);
            if *length < family.bits() {
                let mask = Instruction::Mask(octets(family.mask(*length)));
                out.push(Instruction::Beside(Box::new(mask)));
            }
            out.push(Instruction::lookup(set, false));
        }
        Port::In { tuple, set } => {
            out.push(Instruction::Meta(NFT_META_L4PROTO));
            out.push(Instruction::Beside(Box::new(load_port(*tuple))));
            out.push(Instruction::lookup(set, false));
        }
        Port::Map {
            tuple,
            protocol,
            map,
        } => {
            load_protocol(*protocol, out);
            out.push(load_port(*tuple));
            out.push(Instruction::lookup(map, true));
        }
        Port::AddressMap {
            end,
            protocol,
            family,
            map,
        } => {
            load_end(*end, *protocol, *family, out);
            out.push(Instruction::lookup(map, true));
        }
    }
}

/// Returns the expression that instructions begin with, and how many make it.
pub(super) fn decode(instructions: &[Instruction]) -> Option<(Port, usize)> {
    let mut opening = Vec::new();
    load_opening(&mut opening);
    if instructions.starts_with(&opening) {
        return Some((Port::Opens, opening.len()));
    }
    match instructions {
        [
            Instruction::Meta(NFT_META_L4PROTO),
            Instruction::Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            rest @ ..,
        ] => {
            let mut all = L4Protocol::ALL.into_iter();
            let protocol = all.find(|protocol| *data == [protocol.number()])?;
            Some(
                decode_map(rest, protocol)
                    .or_else(|| decode_source(instructions, protocol))
                    .or_else(|| decode_end(instructions, protocol))
                    .unwrap_or((Port::Protocol(protocol), 2)),
            )
        }
        [
            Instruction::Meta(NFT_META_L4PROTO),
            Instruction::Beside(port),
            rest @ ..,
        ] => {
            let mut tuples = TUPLES.into_iter();
            let tuple = tuples.find(|tuple| **port == load_port(*tuple))?;
            let set = looked_up(rest, false)?;
            Some((Port::In { tuple, set }, 3))
        }
        _ => None,
    }
}

/// Returns the look-up of a port, behind the match of a protocol.
fn decode_map(behind: &[Instruction], protocol: L4Protocol) -> Option<(Port, usize)> {
    let (port, rest) = behind.split_first()?;
    let mut tuples = TUPLES.into_iter();
    let tuple = tuples.find(|tuple| *port == load_port(*tuple))?;
    let map = looked_up(rest, true)?;
    let expression = Port::Map {
        tuple,
        protocol,
        map,
    };
    Some((expression, 4))
}

/// Returns the look-up of a port and a source.
fn decode_source(instructions: &[Instruction], protocol: L4Protocol) -> Option<(Port, usize)> {
    for tuple in TUPLES {
        for family in Family::ALL {
            let mut load = Vec::new();
            let port = load_port(tuple);
            load_both(port, (tuple, protocol, family), End::Source, &mut load);
            let Some(rest) = instructions.strip_prefix(&load[..]) else {
                continue;
            };
            let (length, rest) = match rest {
                [Instruction::Beside(mask), rest @ ..] => match &**mask {
                    Instruction::Mask(mask) => (length(family, mask)?, rest),
                    _ => return None,
                },
                rest => (family.bits(), rest),
            };
            // Another end is looked up in a map.
            let set = looked_up(rest, false)?;
            let used = instructions.len() - rest.len() + 1;
            let expression = Port::SourceIn {
                tuple,
                protocol,
                family,
                length,
                set,
            };
            return Some((expression, used));
        }
    }
    None
}

/// Returns the look-up of the port and the address at one end.
fn decode_end(instructions: &[Instruction], protocol: L4Protocol) -> Option<(Port, usize)> {
    for end in [End::Source, End::Destination] {
        for family in Family::ALL {
            let mut load = Vec::new();
            load_end(end, protocol, family, &mut load);
            let rest = instructions.strip_prefix(&load[..]);
            if let Some(map) = rest.and_then(|rest| looked_up(rest, true)) {
                let expression = Port::AddressMap {
                    end,
                    protocol,
                    family,
                    map,
                };
                return Some((expression, load.len() + 1));
            }
        }
    }
    None
}

/// Returns the set, or the map if `verdict`, that instructions begin with a look-up in.
fn looked_up(instructions: &[Instruction], wanted: bool) -> Option<String> {
    match instructions.first() {
        Some(Instruction::Lookup {
            set,
            inverted: false,
            verdict,
        }) if *verdict == wanted => Some(set.clone()),
        _ => None,
    }
}

/// Matches a protocol.
pub(in crate::nftables) fn load_protocol(protocol: L4Protocol, out: &mut Vec<Instruction>) {
    out.push(Instruction::Meta(NFT_META_L4PROTO));
    out.push(Instruction::equal(vec![protocol.number()]));
}

/// Matches the first segment of a TCP connection.
pub(super) fn load_opening(out: &mut Vec<Instruction>) {
    load_protocol(L4Protocol::Tcp, out);
    load_flags(out);
    out.push(Instruction::equal(vec![TCP_SYN]));
}

/// Loads the flags of a TCP segment that tell how a connection begins.
pub(super) fn load_flags(out: &mut Vec<Instruction>) {
    // RFC 9293, 3.1: the byte of the flags.
    out.push(Instruction::Payload {
        base: NFT_PAYLOAD_TRANSPORT_HEADER,
        offset: 13,
        length: 1,
    });
    out.push(Instruction::Mask(vec![TCP_SYN | TCP_ACK]));
}

/// Loads the destination port.
fn load_port(tuple: Tuple) -> Instruction {
    match tuple {
        Tuple::Original => ORIGINAL_PORT,
        Tuple::Packet => PACKET_PORT,
    }
}

/// Loads the port and the address at one end of a packet.
fn load_end(end: End, protocol: L4Protocol, family: Family, out: &mut Vec<Instruction>) {
    let port = match end {
        End::Source => SOURCE_PORT,
        End::Destination => PACKET_PORT,
    };
    load_both(port, (Tuple::Packet, protocol, family), end, out);
}

/// Loads a port and an address, in nft's order.
fn load_both(
    port: Instruction,
    (tuple, protocol, family): (Tuple, L4Protocol, Family),
    end: End,
    out: &mut Vec<Instruction>,
) {
    load_protocol(protocol, out);
    load_address(tuple, family, end, out);
    // The family is checked before the port is loaded, and the address is loaded last.
    if let Some(address) = out.pop() {
        out.push(port);
        out.push(Instruction::Beside(Box::new(address)));
    }
}

/// Returns how many leading bits a mask has that dfw writes.
fn length(family: Family, mask: &[u8]) -> Option<u8> {
    (0..family.bits()).find(|length| octets(family.mask(*length)) == mask)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
