//! The common parts of nf_tables messages: type, family, flags.

use crate::netlink::message::{Attribute, DUMP, Malformed, REQUEST, SEQUENCE, Writer};

use super::number::*;

/// Returns the type of a message of nf_tables.
pub(super) fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// Writes a message of the `inet` family; returns where it starts.
pub(super) fn message(
    w: &mut Writer,
    message: u16,
    flags: u16,
    sequence: u32,
    body: impl FnOnce(&mut Writer),
) -> usize {
    let flags = REQUEST | flags;
    w.message(kind(message), flags, sequence, NFPROTO_INET, 0, body)
}

/// Returns a request for one object.
pub(super) fn question(message: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    request(message, REQUEST, family, body)
}

/// Returns a request for all objects of a kind.
pub(super) fn dump(message: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    request(message, REQUEST | DUMP, family, body)
}

fn request(message: u16, flags: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    w.message(kind(message), flags, SEQUENCE, family, 0, body);
    w.bytes().to_vec()
}

/// Reads a name that must be there.
pub(super) fn text(attribute: Option<Attribute<'_>>) -> Result<String, Malformed> {
    attribute
        .ok_or(Malformed("a name is missing"))?
        .string()
        .map(str::to_owned)
}
