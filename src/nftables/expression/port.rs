//! Look-ups of a port together with something else: the parts of a concatenated key in registers
//! behind each other, and back.

use crate::net::Family;
use std::net::IpAddr;

use crate::ruleset::{End, Expression, L4Protocol, Tuple};

use super::super::instruction::Instruction;
use super::super::number::*;
use super::load::{PACKET_PORT, lower_address, lower_protocol};

/// `ct original proto-dst`
pub(super) const ORIGINAL_PORT: Instruction = Instruction::Ct {
    key: NFT_CT_PROTO_DST,
    direction: Some(IP_CT_DIR_ORIGINAL),
};

/// Loads the destination port.
pub(super) fn load_port(tuple: Tuple) -> Instruction {
    match tuple {
        Tuple::Original => ORIGINAL_PORT,
        Tuple::Packet => PACKET_PORT,
    }
}

/// Looks up a port and the network of a source.
pub(super) fn lower_source(
    (tuple, protocol, family): (Tuple, L4Protocol, Family),
    length: u8,
    set: &str,
    out: &mut Vec<Instruction>,
) {
    load_both(
        load_port(tuple),
        (tuple, protocol, family),
        End::Source,
        out,
    );
    if length < family.bits() {
        let mask = Instruction::Mask(octets(family.mask(length)));
        out.push(Instruction::Beside(Box::new(mask)));
    }
    out.push(lookup(set));
}

/// Loads both, in the order in which nft does.
fn load_both(
    port: Instruction,
    (tuple, protocol, family): (Tuple, L4Protocol, Family),
    end: End,
    out: &mut Vec<Instruction>,
) {
    lower_protocol(protocol, out);
    lower_address(tuple, family, end, out);
    // A packet's family is looked at before its port, and the address comes beside that.
    if let Some(address) = out.pop() {
        out.push(port);
        out.push(Instruction::Beside(Box::new(address)));
    }
}

/// `th sport`: at the same place in TCP, UDP and SCTP
const SOURCE_PORT: Instruction = Instruction::Payload {
    base: NFT_PAYLOAD_TRANSPORT_HEADER,
    offset: 0,
    length: 2,
};

/// Loads the port and the address at one end of a packet.
fn load_end(end: End, protocol: L4Protocol, family: Family, out: &mut Vec<Instruction>) {
    let port = match end {
        End::Source => SOURCE_PORT,
        End::Destination => PACKET_PORT,
    };
    load_both(port, (Tuple::Packet, protocol, family), end, out);
}

/// Looks up the port and the address at one end of a packet.
pub(super) fn lower_end(
    end: End,
    protocol: L4Protocol,
    family: Family,
    map: &str,
    out: &mut Vec<Instruction>,
) {
    load_end(end, protocol, family, out);
    out.push(Instruction::Lookup {
        set: map.to_owned(),
        inverted: false,
        verdict: true,
    });
}

/// The look-up of the port and the address at one end that instructions begin with, and how many
/// make it.
pub(super) fn raise_end(
    instructions: &[Instruction],
    protocol: L4Protocol,
) -> Option<(Expression, usize)> {
    for end in [End::Source, End::Destination] {
        for family in [Family::V4, Family::V6] {
            let mut load = Vec::new();
            load_end(end, protocol, family, &mut load);
            let rest = instructions.strip_prefix(&load[..]);
            if let Some(
                [
                    Instruction::Lookup {
                        set,
                        inverted: false,
                        verdict: true,
                    },
                    ..,
                ],
            ) = rest
            {
                let map = set.clone();
                let expression = Expression::PortAddressMap {
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

/// Looks up a protocol and a port.
pub(super) fn lower_counted(tuple: Tuple, set: &str, out: &mut Vec<Instruction>) {
    out.push(Instruction::Meta(NFT_META_L4PROTO));
    out.push(Instruction::Beside(Box::new(load_port(tuple))));
    out.push(lookup(set));
}

fn lookup(set: &str) -> Instruction {
    Instruction::Lookup {
        set: set.to_owned(),
        inverted: false,
        verdict: false,
    }
}

/// What is looked up in, of an instruction that does so.
fn set_of(instruction: Option<&Instruction>) -> Option<String> {
    match instruction {
        Some(Instruction::Lookup {
            set,
            inverted: false,
            verdict: false,
        }) => Some(set.clone()),
        _ => None,
    }
}

/// The look-up of a protocol and a port that instructions begin with, and how many make it.
pub(super) fn raise_counted(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    let [_, Instruction::Beside(port), rest @ ..] = instructions else {
        return None;
    };
    let mut tuples = [Tuple::Original, Tuple::Packet].into_iter();
    let tuple = tuples.find(|tuple| **port == load_port(*tuple))?;
    let set = set_of(rest.first())?;
    Some((Expression::PortIn { tuple, set }, 3))
}

/// The look-up of a port and a source that instructions begin with, and how many make it.
pub(super) fn raise_source(
    instructions: &[Instruction],
    protocol: L4Protocol,
) -> Option<(Expression, usize)> {
    for tuple in [Tuple::Original, Tuple::Packet] {
        for family in [Family::V4, Family::V6] {
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
            let used = instructions.len() - rest.len() + 1;
            let expression = Expression::PortSourceIn {
                tuple,
                protocol,
                family,
                length,
                set: set_of(rest.first())?,
            };
            return Some((expression, used));
        }
    }
    None
}

/// How many leading bits a mask has that dfw writes.
fn length(family: Family, mask: &[u8]) -> Option<u8> {
    (0..family.bits()).find(|length| octets(family.mask(*length)) == mask)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
