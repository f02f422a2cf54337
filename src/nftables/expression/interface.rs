//! The interfaces that a packet comes in and leaves through.

use crate::ruleset::{Interface, NameMatch, Side};

use super::super::instruction::Instruction;
use super::super::number::*;

/// `IFNAMSIZ`.
const NAME_SIZE: usize = 16;
/// The value of `meta oifkind` for a bridge.
const BRIDGE: &str = "bridge";
/// `fib daddr . iif oif exists`
const SAME_INTERFACE: u32 = NFTA_FIB_F_DADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;
/// `fib saddr . mark . iif oif missing`, where 0 is what it must be.
const REVERSE_PATH: u32 = NFTA_FIB_F_SADDR | NFTA_FIB_F_MARK | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;

/// Appends the instructions for an expression.
pub(super) fn encode(expression: &Interface, out: &mut Vec<Instruction>) {
    match expression {
        Interface::Name { side, name, equal } => {
            out.push(Instruction::Meta(key(*side)));
            let data = match name {
                NameMatch::Exact(name) => padded(name),
                NameMatch::Prefix(prefix) => prefix.clone().into_bytes(),
            };
            let op = if *equal { NFT_CMP_EQ } else { NFT_CMP_NEQ };
            out.push(Instruction::Cmp { op, data });
        }
        Interface::In { side, set, member } => {
            out.push(Instruction::Meta(key(*side)));
            out.push(Instruction::Lookup {
                set: set.clone(),
                inverted: !member,
                verdict: false,
            });
        }
        Interface::OutBridge => {
            out.push(Instruction::Meta(NFT_META_OIFKIND));
            out.push(Instruction::equal(padded(BRIDGE)));
        }
        Interface::SameInterface => {
            out.push(Instruction::Fib {
                result: NFT_FIB_RESULT_OIF,
                flags: SAME_INTERFACE,
            });
            out.push(Instruction::equal(1u32.to_ne_bytes().to_vec()));
        }
        Interface::NoReversePath => {
            out.push(Instruction::Fib {
                result: NFT_FIB_RESULT_OIF,
                flags: REVERSE_PATH,
            });
            out.push(Instruction::equal(0u32.to_ne_bytes().to_vec()));
        }
    }
}

/// Returns the expression that instructions begin with, and how many make it.
pub(super) fn decode(instructions: &[Instruction]) -> Option<(Interface, usize)> {
    let expression = match instructions {
        [
            Instruction::Meta(NFT_META_OIFKIND),
            Instruction::Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] if *data == padded(BRIDGE) => Interface::OutBridge,
        [
            Instruction::Fib {
                result: NFT_FIB_RESULT_OIF,
                flags: SAME_INTERFACE,
            },
            Instruction::Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] if *data == 1u32.to_ne_bytes() => Interface::SameInterface,
        [
            Instruction::Fib {
                result: NFT_FIB_RESULT_OIF,
                flags: REVERSE_PATH,
            },
            Instruction::Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] if *data == 0u32.to_ne_bytes() => Interface::NoReversePath,
        [Instruction::Meta(key), Instruction::Cmp { op, data }, ..] => Interface::Name {
            side: side(*key)?,
            name: name(data)?,
            equal: match *op {
                NFT_CMP_EQ => true,
                NFT_CMP_NEQ => false,
                _ => return None,
            },
        },
        [
            Instruction::Meta(key),
            Instruction::Lookup {
                set,
                inverted,
                verdict: false,
            },
            ..,
        ] => Interface::In {
            side: side(*key)?,
            set: set.clone(),
            member: !inverted,
        },
        _ => return None,
    };
    Some((expression, 2))
}

fn key(side: Side) -> u32 {
    match side {
        Side::In => NFT_META_IIFNAME,
        Side::Out => NFT_META_OIFNAME,
    }
}

fn side(meta: u32) -> Option<Side> {
    [Side::In, Side::Out]
        .into_iter()
        .find(|side| key(*side) == meta)
}

/// Returns a name as the kernel compares it as a whole.
pub(in crate::nftables) fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_SIZE, 0);
    bytes
}

/// Returns a name from its padded form; `None` if it is none.
pub(in crate::nftables) fn unpadded(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&b| b == 0)?;
    let fine = bytes.len() == NAME_SIZE && bytes[end..].iter().all(|&b| b == 0);
    fine.then(|| std::str::from_utf8(&bytes[..end]).ok())
        .flatten()
}

fn name(data: &[u8]) -> Option<NameMatch> {
    match data.len() {
        NAME_SIZE => unpadded(data).map(|name| NameMatch::Exact(name.to_owned())),
        _ if data.contains(&0) => None,
        _ => String::from_utf8(data.to_vec()).ok().map(NameMatch::Prefix),
    }
}
