//! Questions to the kernel.

use crate::netlink::message::{Malformed, Message};
use crate::ruleset::TABLE;

use super::message::{dump, kind, question};
use super::number::*;

/// Writes the request for the generation of the rulesets of this network namespace.
#[must_use]
pub fn generation() -> Vec<u8> {
    question(NFT_MSG_GETGEN, NFPROTO_UNSPEC, |_| {})
}

/// Reads the answer to [`generation`]; `None` for any other message.
///
/// # Errors
/// If it is malformed.
pub fn decode_generation(message: &Message<'_>) -> Result<Option<u32>, Malformed> {
    if message.kind != kind(NFT_MSG_NEWGEN) {
        return Ok(None);
    }
    let [_, id] = message.attributes()?.table::<2>()?;
    id.ok_or(Malformed("generation without a number"))?
        .be32()
        .map(Some)
}

/// Writes the request for all tables of all families.
#[must_use]
pub fn tables() -> Vec<u8> {
    dump(NFT_MSG_GETTABLE, NFPROTO_UNSPEC, |_| {})
}

/// Writes the request for all chains of all families.
#[must_use]
pub fn chains() -> Vec<u8> {
    dump(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, |_| {})
}

/// Writes the request for the sets of dfw's table, without their elements.
#[must_use]
pub fn sets() -> Vec<u8> {
    dump(NFT_MSG_GETSET, NFPROTO_INET, |w| {
        w.string(NFTA_SET_TABLE, TABLE);
    })
}

/// Writes the request for the elements of a set of dfw's table. The kernel's work grows with the square of
/// their number: a million takes over a minute.
#[must_use]
pub fn elements(set: &str) -> Vec<u8> {
    dump(NFT_MSG_GETSETELEM, NFPROTO_INET, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.string(NFTA_SET_ELEM_LIST_SET, set);
    })
}

/// Writes the request for the rules of dfw's table.
#[must_use]
pub fn rules() -> Vec<u8> {
    dump(NFT_MSG_GETRULE, NFPROTO_INET, |w| {
        w.string(NFTA_RULE_TABLE, TABLE);
    })
}

/// Writes the request for one rule of any table by its number.
#[must_use]
pub fn rule(family: u8, table: &str, chain: &str, handle: u64) -> Vec<u8> {
    question(NFT_MSG_GETRULE, family, |w| {
        w.string(NFTA_RULE_TABLE, table);
        w.string(NFTA_RULE_CHAIN, chain);
        w.be64(NFTA_RULE_HANDLE, handle);
    })
}

/// Writes the request for the stateful objects of the `inet` family.
#[must_use]
pub fn objects() -> Vec<u8> {
    dump(NFT_MSG_GETOBJ, NFPROTO_INET, |_| {})
}

/// Writes the request for the flowtables of the `inet` family.
#[must_use]
pub fn flowtables() -> Vec<u8> {
    dump(NFT_MSG_GETFLOWTABLE, NFPROTO_INET, |_| {})
}

/// Writes the request for the flowtables of all families.
#[must_use]
pub fn all_flowtables() -> Vec<u8> {
    dump(NFT_MSG_GETFLOWTABLE, NFPROTO_UNSPEC, |_| {})
}
