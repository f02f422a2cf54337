//! Tables.

use crate::netlink::message::{Attributes, CREATE, Malformed, Writer};

use super::super::message::{message, text};
use super::super::number::*;
use super::userdata::user_comment;

/// Writes the message that creates a table, or gives it these flags (`NFT_TABLE_F_*`). Without flags it
/// leaves a table that is there as it is.
pub(crate) fn create(w: &mut Writer, sequence: u32, name: &str, flags: Option<u32>) -> usize {
    message(w, NFT_MSG_NEWTABLE, CREATE, sequence, |w| {
        w.string(NFTA_TABLE_NAME, name);
        if let Some(flags) = flags {
            w.be32(NFTA_TABLE_FLAGS, flags);
        }
    })
}

/// Writes the message that deletes a table with all that is in it.
pub(crate) fn delete(w: &mut Writer, sequence: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELTABLE, 0, sequence, |w| {
        w.string(NFTA_TABLE_NAME, name);
    })
}

/// A table as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableObject {
    /// The protocol family (`NFPROTO_*`).
    pub family: u8,
    /// The name.
    pub name: String,
    /// `enum nft_table_flags`.
    pub flags: u32,
    /// The number of the netlink socket that owns it.
    pub owner: Option<u32>,
    /// The comment.
    pub comment: Option<String>,
}

/// Reads a table.
pub(super) fn decode(family: u8, attributes: Attributes<'_>) -> Result<TableObject, Malformed> {
    let table = attributes.table::<{ NFTA_TABLE_OWNER as usize + 1 }>()?;
    Ok(TableObject {
        family,
        name: text(table[usize::from(NFTA_TABLE_NAME)])?,
        flags: table[usize::from(NFTA_TABLE_FLAGS)].map_or(Ok(0), |flags| flags.be32())?,
        owner: table[usize::from(NFTA_TABLE_OWNER)]
            .map(|owner| owner.be32())
            .transpose()?,
        comment: user_comment(table[usize::from(NFTA_TABLE_USERDATA)], NFTNL_UDATA_COMMENT),
    })
}

/// Returns the families of nf_tables by name, as nft writes them.
#[must_use]
pub fn family_name(family: u8) -> &'static str {
    match family {
        NFPROTO_INET => "inet",
        NFPROTO_IPV4 => "ip",
        NFPROTO_ARP => "arp",
        NFPROTO_NETDEV => "netdev",
        NFPROTO_BRIDGE => "bridge",
        NFPROTO_IPV6 => "ip6",
        _ => "?",
    }
}

/// Returns whether this is the family of dfw's table.
#[must_use]
pub fn is_inet(family: u8) -> bool {
    family == NFPROTO_INET
}
