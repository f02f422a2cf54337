//! Stores bytes in the kernel, in a set that no rule looks up: a header in the user data of the set, and a
//! table in the user data of its elements.

use std::collections::BTreeMap;

use crate::netlink::message::{Attributes, CREATE, Malformed, Writer};
use crate::ruleset::TABLE;

use super::super::instruction::value;
use super::super::message::message;
use super::super::number::*;
use super::element::list_message;
use super::userdata::{user_bytes, user_text, user_value};

/// How many bytes of the table one element holds: no more than a comment of nft's. The kernel takes up to 256
/// (`NFT_USERDATA_MAXLEN`) and does not give that many back whole: it keeps the length of an element's parts
/// in a byte (`nft_set_ext_tmpl`; seen on Linux 6.18). dfw stays well below that.
const CHUNK: usize = 120;
/// How many elements go into one message, each less than 200 bytes.
const AT_ONCE: usize = 300;
/// The comment of the set in `nft list`.
const COMMENT: &str = "digests of the set's elements, kept so that dfw need not read them back";

/// Writes the message that creates such a set; `id` is unique in the transaction.
pub(crate) fn create_set(
    w: &mut Writer,
    sequence: u32,
    name: &str,
    (header, chunks): (&[u8], usize),
    id: u32,
) -> usize {
    message(w, NFT_MSG_NEWSET, CREATE, sequence, |w| {
        w.string(NFTA_SET_TABLE, TABLE);
        w.string(NFTA_SET_NAME, name);
        w.be32(NFTA_SET_FLAGS, 0);
        w.be32(NFTA_SET_KEY_TYPE, TYPE_MARK);
        w.be32(NFTA_SET_KEY_LEN, 4);
        w.be32(NFTA_SET_ID, id);
        let size = u32::try_from(chunks).unwrap_or(u32::MAX);
        w.nest(NFTA_SET_DESC, |w| w.be32(NFTA_SET_DESC_SIZE, size));
        let order = BYTEORDER_HOST_ENDIAN.to_ne_bytes();
        let mut user = user_bytes(NFTNL_UDATA_SET_KEYBYTEORDER, &order);
        user.extend(user_text(NFTNL_UDATA_SET_COMMENT, COMMENT));
        user.extend(user_bytes(UDATA_SKETCH, header));
        w.attribute(NFTA_SET_USERDATA, &user);
    })
}

/// Returns the table in pieces, each with its number.
pub(crate) fn chunks(table: &[u8]) -> Vec<(u32, &[u8])> {
    (0..).zip(table.chunks(CHUNK)).collect()
}

/// Writes one message with some of the pieces; returns where it starts, and how many they were.
pub(crate) fn create_elements(
    w: &mut Writer,
    sequence: u32,
    name: &str,
    chunks: &[(u32, &[u8])],
) -> (usize, usize) {
    let some = &chunks[..chunks.len().min(AT_ONCE)];
    let start = list_message(w, (NFT_MSG_NEWSETELEM, CREATE), sequence, name, |w| {
        for (number, chunk) in some {
            w.nest(NFTA_LIST_ELEM, |w| {
                w.nest(NFTA_SET_ELEM_KEY, |w| {
                    w.attribute(NFTA_DATA_VALUE, &number.to_ne_bytes());
                });
                let user = user_bytes(UDATA_SKETCH, chunk);
                w.attribute(NFTA_SET_ELEM_USERDATA, &user);
            });
        }
    });
    (start, some.len())
}

/// Collects such a set as it is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Of the set.
    pub(crate) header: Vec<u8>,
    chunks: BTreeMap<u32, Vec<u8>>,
}

impl Memory {
    /// Adds one list of elements. Foreign elements make the table unreadable, which is not an error.
    pub(crate) fn add(&mut self, list: &[u8]) -> Result<(), Malformed> {
        for element in Attributes::new(list) {
            let table = element?.nested().table::<7>()?;
            let key = table[usize::from(NFTA_SET_ELEM_KEY)].as_ref();
            let number = key.and_then(value).and_then(|key| key.try_into().ok());
            let user = table[usize::from(NFTA_SET_ELEM_USERDATA)];
            let chunk = user.and_then(|user| user_value(user.payload, UDATA_SKETCH));
            if let (Some(number), Some(chunk)) = (number, chunk) {
                self.chunks
                    .insert(u32::from_ne_bytes(number), chunk.to_vec());
            }
        }
        Ok(())
    }

    /// Returns the table; `None` if a piece is missing.
    pub(crate) fn table(&self) -> Option<Vec<u8>> {
        let mut in_order = (0..).zip(self.chunks.keys());
        let whole = in_order.all(|(wanted, number)| wanted == *number);
        whole.then(|| self.chunks.values().flatten().copied().collect())
    }
}
