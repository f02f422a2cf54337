//! Stateful objects and flowtables, which dfw never makes.

use crate::netlink::message::{Attributes, Malformed, Writer};
use crate::ruleset::TABLE;

use super::super::message::{message, text};
use super::super::number::*;
use super::Object;

/// Writes the message that deletes a stateful object: the kernel's number of its type, its name.
pub(crate) fn delete_stateful(w: &mut Writer, sequence: u32, kind: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELOBJ, 0, sequence, |w| {
        w.string(NFTA_OBJ_TABLE, TABLE);
        w.string(NFTA_OBJ_NAME, name);
        w.be32(NFTA_OBJ_TYPE, kind);
    })
}

/// Writes the message that deletes a flowtable.
pub(crate) fn delete_flowtable(w: &mut Writer, sequence: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELFLOWTABLE, 0, sequence, |w| {
        w.string(NFTA_FLOWTABLE_TABLE, TABLE);
        w.string(NFTA_FLOWTABLE_NAME, name);
    })
}

/// Reads a stateful object.
pub(super) fn decode_stateful(attributes: Attributes<'_>) -> Result<Object, Malformed> {
    let object = attributes.table::<4>()?;
    let kind = object[usize::from(NFTA_OBJ_TYPE)];
    Ok(Object::Stateful {
        kind: kind.ok_or(Malformed("an object without a type"))?.be32()?,
        table: text(object[usize::from(NFTA_OBJ_TABLE)])?,
        name: text(object[usize::from(NFTA_OBJ_NAME)])?,
    })
}

/// Reads a flowtable.
pub(super) fn decode_flowtable(attributes: Attributes<'_>) -> Result<Object, Malformed> {
    let object = attributes.table::<3>()?;
    Ok(Object::Flowtable {
        table: text(object[usize::from(NFTA_FLOWTABLE_TABLE)])?,
        name: text(object[usize::from(NFTA_FLOWTABLE_NAME)])?,
    })
}
