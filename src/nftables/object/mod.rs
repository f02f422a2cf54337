//! Tables, chains, sets, elements and rules as nf_tables messages, and back.

pub(crate) mod chain;
pub(crate) mod element;
pub(crate) mod memory;
pub(crate) mod other;
pub(crate) mod rule;
pub(crate) mod set;
pub(crate) mod table;
mod userdata;

use crate::netlink::message::{Malformed, Message};

use super::message::text;
use super::number::*;

pub use chain::{ChainObject, HookObject, shares_hook};
pub use rule::RuleObject;
pub use set::SetObject;
pub use table::{TableObject, family_name, is_inet};

/// An object of a ruleset as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A table.
    Table(TableObject),
    /// A chain.
    Chain(ChainObject),
    /// A set without its elements.
    Set(SetObject),
    /// Some elements of a set; they can be read once the set is known.
    Elements {
        /// The table's name.
        table: String,
        /// The set's name.
        set: String,
        /// The list as it was read.
        list: Vec<u8>,
    },
    /// A rule.
    Rule(RuleObject),
    /// A stateful object, which dfw never writes.
    Stateful {
        /// The table's name.
        table: String,
        /// The kernel's number of its type.
        kind: u32,
        /// The name.
        name: String,
    },
    /// A flowtable, which dfw never writes.
    Flowtable {
        /// The table's name.
        table: String,
        /// The name.
        name: String,
    },
}

/// Reads a message about an object; `None` for any other message.
///
/// # Errors
/// [`Malformed`] if the message is malformed. Foreign objects are not an error.
pub fn decode(message: &Message<'_>) -> Result<Option<Object>, Malformed> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Ok(None);
    }
    let family = message.family()?;
    let attributes = message.attributes()?;
    Ok(Some(match message.kind & 0xff {
        NFT_MSG_NEWTABLE => Object::Table(table::decode(family, attributes)?),
        NFT_MSG_NEWCHAIN => Object::Chain(chain::decode(family, attributes)?),
        NFT_MSG_NEWSET => Object::Set(set::decode(attributes)?),
        NFT_MSG_NEWSETELEM => {
            let [_, table, set, list] = attributes.table::<4>()?;
            Object::Elements {
                table: text(table)?,
                set: text(set)?,
                list: list.map_or_else(Vec::new, |list| list.payload.to_vec()),
            }
        }
        NFT_MSG_NEWRULE => Object::Rule(rule::decode(attributes)?),
        NFT_MSG_NEWOBJ => other::decode_stateful(attributes)?,
        NFT_MSG_NEWFLOWTABLE => other::decode_flowtable(attributes)?,
        _ => return Ok(None),
    }))
}
