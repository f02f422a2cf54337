//! What connection tracking knows of a packet's connection, and what rules note on it.

use crate::ruleset::{Conntrack, Direction, EPHEMERAL, L4Protocol, OPENED};

use super::super::instruction::Instruction;
use super::super::number::*;
use super::port::{TCP_SYN, load_flags, load_opening, load_protocol};

/// How many bytes a label has (`NF_CT_LABELS_MAX_SIZE` of `net/netfilter/nf_conntrack_labels.h`).
const LABEL: usize = 16;

/// Appends the instructions for an expression.
pub(super) fn encode(expression: &Conntrack, out: &mut Vec<Instruction>) {
    match expression {
        Conntrack::Direction(direction) => {
            out.push(load(NFT_CT_DIRECTION));
            out.push(Instruction::equal(vec![match direction {
                Direction::Original => IP_CT_DIR_ORIGINAL,
                Direction::Reply => IP_CT_DIR_REPLY,
            }]));
        }
        Conntrack::DestinationNat => match_bit(NFT_CT_STATUS, IPS_DST_NAT, out),
        Conntrack::Related => match_bit(NFT_CT_STATE, STATE_RELATED, out),
        Conntrack::Mark(mark) => {
            out.push(load(NFT_CT_MARK));
            out.push(Instruction::equal(mark.to_ne_bytes().to_vec()));
        }
        Conntrack::SetMark(mark) => {
            out.push(Instruction::Value(mark.to_ne_bytes().to_vec()));
            out.push(Instruction::SetCt(NFT_CT_MARK));
        }
        Conntrack::Resumed => {
            load_protocol(L4Protocol::Tcp, out);
            out.push(Instruction::Payload {
                base: NFT_PAYLOAD_TRANSPORT_HEADER,
                offset: 0,
                length: 2,
            });
            out.push(Instruction::Cmp {
                op: NFT_CMP_LT,
                data: EPHEMERAL.to_be_bytes().to_vec(),
            });
            match_bit(NFT_CT_STATE, STATE_NEW, out);
            load_flags(out);
            out.push(Instruction::Cmp {
                op: NFT_CMP_NEQ,
                data: vec![TCP_SYN],
            });
        }
        Conntrack::First => {
            match_bit(NFT_CT_STATE, STATE_NEW, out);
            out.push(load(NFT_CT_STATUS));
            out.push(Instruction::Mask(IPS_CONFIRMED.to_ne_bytes().to_vec()));
            out.push(Instruction::equal(vec![0; 4]));
        }
        Conntrack::NoteOpening => {
            load_opening(out);
            match_bit(NFT_CT_STATE, STATE_NEW, out);
            out.push(Instruction::Value(label(OPENED)));
            out.push(Instruction::SetCt(NFT_CT_LABELS));
        }
        Conntrack::Opened => {
            encode(&Conntrack::Direction(Direction::Reply), out);
            out.push(load(NFT_CT_LABELS));
            out.push(Instruction::Mask(label(OPENED)));
            out.push(Instruction::Cmp {
                op: NFT_CMP_NEQ,
                data: vec![0; LABEL],
            });
        }
    }
}

/// Returns the expression that instructions begin with, and how many make it.
pub(super) fn decode(instructions: &[Instruction]) -> Option<(Conntrack, usize)> {
    // The third instruction distinguishes these expressions.
    let whole = match instructions.get(2) {
        Some(Instruction::Payload { offset: 0, .. }) => Some(Conntrack::Resumed),
        Some(Instruction::Payload { offset: 13, .. }) => Some(Conntrack::NoteOpening),
        Some(Instruction::Ct {
            key: NFT_CT_LABELS, ..
        }) => Some(Conntrack::Opened),
        Some(Instruction::Cmp { .. }) => Some(Conntrack::First),
        _ => None,
    };
    if let Some(expression) = whole {
        let mut whole = Vec::new();
        encode(&expression, &mut whole);
        if instructions.starts_with(&whole) {
            return Some((expression, whole.len()));
        }
    }
    Some(match instructions {
        [
            Instruction::Ct {
                key,
                direction: None,
            },
            Instruction::Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] => match (*key, &data[..]) {
            (NFT_CT_DIRECTION, [IP_CT_DIR_ORIGINAL]) => {
                (Conntrack::Direction(Direction::Original), 2)
            }
            (NFT_CT_DIRECTION, [IP_CT_DIR_REPLY]) => (Conntrack::Direction(Direction::Reply), 2),
            (NFT_CT_MARK, data) => (Conntrack::Mark(host_order(data)?), 2),
            _ => return None,
        },
        [
            Instruction::Value(data),
            Instruction::SetCt(NFT_CT_MARK),
            ..,
        ] => (Conntrack::SetMark(host_order(data)?), 2),
        [
            Instruction::Ct {
                key,
                direction: None,
            },
            Instruction::Mask(mask),
            Instruction::Cmp {
                op: NFT_CMP_NEQ,
                data,
            },
            ..,
        ] if *data == [0; 4] => match (*key, host_order(mask)?) {
            (NFT_CT_STATUS, IPS_DST_NAT) => (Conntrack::DestinationNat, 3),
            (NFT_CT_STATE, STATE_RELATED) => (Conntrack::Related, 3),
            _ => return None,
        },
        _ => return None,
    })
}

fn load(key: u32) -> Instruction {
    Instruction::Ct {
        key,
        direction: None,
    }
}

/// Matches if a bit of a conntrack word is set.
fn match_bit(key: u32, bit: u32, out: &mut Vec<Instruction>) {
    out.push(load(key));
    out.push(Instruction::Mask(bit.to_ne_bytes().to_vec()));
    out.push(Instruction::Cmp {
        op: NFT_CMP_NEQ,
        data: vec![0; 4],
    });
}

/// Returns a number of four bytes in host byte order.
fn host_order(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_ne_bytes)
}

/// Returns a label of one bit, as a bitmap of the kernel: words of the machine's size in its byte order.
fn label(bit: u8) -> Vec<u8> {
    let (word, bit) = (u32::from(bit) / usize::BITS, u32::from(bit) % usize::BITS);
    let words = LABEL / size_of::<usize>();
    let word = |at: usize| {
        if u32::try_from(at) == Ok(word) {
            1 << bit
        } else {
            0usize
        }
    };
    (0..words).flat_map(|at| word(at).to_ne_bytes()).collect()
}
