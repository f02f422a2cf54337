//! Families and addresses: where a packet, or its connection, comes from and goes to.

use crate::net::Family;
use crate::ruleset::{Address, End, Tuple};

use super::super::instruction::Instruction;
use super::super::number::*;

/// The first byte of 127.0.0.0/8.
const LOOPBACK: u8 = 127;

/// Appends the instructions for an expression.
pub(super) fn encode(expression: &Address, out: &mut Vec<Instruction>) {
    match expression {
        Address::Family(family) => match_family(*family, out),
        Address::SourceIn { tuple, family, set } => {
            load_address(*tuple, *family, End::Source, out);
            out.push(Instruction::lookup(set, false));
        }
        Address::DestinationIn { family, set } => {
            load_address(Tuple::Packet, *family, End::Destination, out);
            out.push(Instruction::lookup(set, false));
        }
        Address::ToLoopback(tuple) => {
            load_address(*tuple, Family::V4, End::Destination, out);
            if let Some(Instruction::Payload { length, .. }) = out.last_mut() {
                *length = 1;
            }
            out.push(Instruction::equal(vec![LOOPBACK]));
        }
        Address::Local => {
            out.push(Instruction::Fib {
                result: NFT_FIB_RESULT_ADDRTYPE,
                flags: NFTA_FIB_F_DADDR,
            });
            out.push(Instruction::equal(RTN_LOCAL.to_ne_bytes().to_vec()));
        }
        Address::DestinationMap { tuple, family, map } => {
            load_address(*tuple, *family, End::Destination, out);
            out.push(Instruction::lookup(map, true));
        }
    }
}

/// Returns the expression that instructions begin with, and how many make it.
pub(super) fn decode(instructions: &[Instruction]) -> Option<(Address, usize)> {
    for tuple in [Tuple::Original, Tuple::Packet] {
        for (family, end) in ENDS {
            let mut load = Vec::new();
            load_address(tuple, family, end, &mut load);
            let Some(
                [
                    Instruction::Lookup {
                        set,
                        inverted: false,
                        verdict,
                    },
                    ..,
                ],
            ) = instructions.strip_prefix(&load[..])
            else {
                continue;
            };
            let set = set.clone();
            let expression = match (end, verdict) {
                (End::Source, false) => Address::SourceIn { tuple, family, set },
                (End::Destination, false) if tuple == Tuple::Packet => {
                    Address::DestinationIn { family, set }
                }
                (End::Destination, true) => Address::DestinationMap {
                    tuple,
                    family,
                    map: set,
                },
                _ => continue,
            };
            return Some((expression, load.len() + 1));
        }
    }
    // A match of the family alone, not the one in front of an address.
    let whole = [
        Address::ToLoopback(Tuple::Original),
        Address::ToLoopback(Tuple::Packet),
        Address::Local,
        Address::Family(Family::V4),
        Address::Family(Family::V6),
    ];
    whole.into_iter().find_map(|expression| {
        let mut whole = Vec::new();
        encode(&expression, &mut whole);
        let is_it = instructions.starts_with(&whole);
        is_it.then_some((expression, whole.len()))
    })
}

/// Both ends in both families.
const ENDS: [(Family, End); 4] = [
    (Family::V4, End::Source),
    (Family::V4, End::Destination),
    (Family::V6, End::Source),
    (Family::V6, End::Destination),
];

fn match_family(family: Family, out: &mut Vec<Instruction>) {
    out.push(Instruction::Meta(NFT_META_NFPROTO));
    out.push(Instruction::equal(vec![match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }]));
}

/// Loads an address. The keys of the original tuple match their own family only; for the packet's
/// own header the family is checked first.
pub(in crate::nftables) fn load_address(
    tuple: Tuple,
    family: Family,
    end: End,
    out: &mut Vec<Instruction>,
) {
    match tuple {
        Tuple::Original => {
            let key = match (family, end) {
                (Family::V4, End::Source) => NFT_CT_SRC_IP,
                (Family::V4, End::Destination) => NFT_CT_DST_IP,
                (Family::V6, End::Source) => NFT_CT_SRC_IP6,
                (Family::V6, End::Destination) => NFT_CT_DST_IP6,
            };
            out.push(Instruction::Ct {
                key,
                direction: Some(IP_CT_DIR_ORIGINAL),
            });
        }
        Tuple::Packet => {
            match_family(family, out);
            // RFC 791 and RFC 8200: where the addresses stand in the header.
            let (offset, length) = match (family, end) {
                (Family::V4, End::Source) => (12, 4),
                (Family::V4, End::Destination) => (16, 4),
                (Family::V6, End::Source) => (8, 16),
                (Family::V6, End::Destination) => (24, 16),
            };
            out.push(Instruction::Payload {
                base: NFT_PAYLOAD_NETWORK_HEADER,
                offset,
                length,
            });
        }
    }
}
