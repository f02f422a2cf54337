//! Messages that take something away.

use crate::plan::Stray;
use crate::ruleset::TABLE;

use super::number::*;
use super::object::message;
use super::wire::Writer;

/// dfw's table with all that is in it.
pub(super) fn table(w: &mut Writer, sequence: u32) -> usize {
    message(w, NFT_MSG_DELTABLE, 0, sequence, |w| {
        w.string(NFTA_TABLE_NAME, TABLE);
    })
}

/// A chain with its rules.
pub(super) fn chain(w: &mut Writer, sequence: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELCHAIN, 0, sequence, |w| {
        w.string(NFTA_CHAIN_TABLE, TABLE);
        w.string(NFTA_CHAIN_NAME, name);
    })
}

/// A rule by its number, or all rules of a chain.
pub(super) fn rules(w: &mut Writer, sequence: u32, chain: &str, handle: Option<u64>) -> usize {
    message(w, NFT_MSG_DELRULE, 0, sequence, |w| {
        w.string(NFTA_RULE_TABLE, TABLE);
        w.string(NFTA_RULE_CHAIN, chain);
        if let Some(handle) = handle {
            w.be64(NFTA_RULE_HANDLE, handle);
        }
    })
}

/// A set.
pub(super) fn set(w: &mut Writer, sequence: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELSET, 0, sequence, |w| {
        w.string(NFTA_SET_TABLE, TABLE);
        w.string(NFTA_SET_NAME, name);
    })
}

/// All elements of a set.
pub(super) fn all_elements(w: &mut Writer, sequence: u32, set: &str) -> usize {
    message(w, NFT_MSG_DELSETELEM, 0, sequence, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.string(NFTA_SET_ELEM_LIST_SET, set);
    })
}

/// What dfw never made.
pub(super) fn stray(w: &mut Writer, sequence: u32, stray: &Stray) -> usize {
    match stray {
        Stray::Set(name) => set(w, sequence, name),
        Stray::Object(kind, name) => message(w, NFT_MSG_DELOBJ, 0, sequence, |w| {
            w.string(NFTA_OBJ_TABLE, TABLE);
            w.string(NFTA_OBJ_NAME, name);
            w.be32(NFTA_OBJ_TYPE, *kind);
        }),
        Stray::Flowtable(name) => message(w, NFT_MSG_DELFLOWTABLE, 0, sequence, |w| {
            w.string(NFTA_FLOWTABLE_TABLE, TABLE);
            w.string(NFTA_FLOWTABLE_NAME, name);
        }),
    }
}
