//! What rules load of a packet, and compare it with.

use crate::net::Family;
use crate::ruleset::{End, L4Protocol, Tuple};

use super::super::instruction::Instruction;
use super::super::number::*;

/// `th dport`: at the same place in TCP, UDP and SCTP
pub(in crate::nftables) const PACKET_PORT: Instruction = Instruction::Payload {
    base: NFT_PAYLOAD_TRANSPORT_HEADER,
    offset: 2,
    length: 2,
};

/// Loads an address. The keys of the original tuple match their own family only; for the packet's
/// own header the family is checked first.
pub(in crate::nftables) fn lower_address(
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
            // RFC 791 and RFC 8200: where the addresses stand in the header.
            let (protocol, offset, length) = match (family, end) {
                (Family::V4, End::Source) => (NFPROTO_IPV4, 12, 4),
                (Family::V4, End::Destination) => (NFPROTO_IPV4, 16, 4),
                (Family::V6, End::Source) => (NFPROTO_IPV6, 8, 16),
                (Family::V6, End::Destination) => (NFPROTO_IPV6, 24, 16),
            };
            out.push(Instruction::Meta(NFT_META_NFPROTO));
            out.push(equal(vec![protocol]));
            let base = NFT_PAYLOAD_NETWORK_HEADER;
            out.push(Instruction::Payload {
                base,
                offset,
                length,
            });
        }
    }
}

pub(in crate::nftables) fn lower_protocol(protocol: L4Protocol, out: &mut Vec<Instruction>) {
    out.push(Instruction::Meta(NFT_META_L4PROTO));
    out.push(equal(vec![protocol.number()]));
}

pub(in crate::nftables) fn equal(data: Vec<u8>) -> Instruction {
    Instruction::Cmp {
        op: NFT_CMP_EQ,
        data,
    }
}
