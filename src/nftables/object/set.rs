//! Sets and maps, without their elements.

use crate::netlink::message::{Attributes, CREATE, Malformed, Writer};
use crate::ruleset::{Elements, Field, Set, SetType, TABLE};

use super::super::instruction::Instruction;
use super::super::message::{message, text};
use super::super::number::*;
use super::element;
use super::userdata::{user_comment, user_number, user_text, user_value};

/// The type of a set, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WireType {
    /// nft's number for the type of the keys.
    key_type: u32,
    /// The length of a key in bytes.
    key_length: u32,
    /// The key type for nft, so that it prints keys and not bytes.
    byte_order: u32,
    flags: u32,
    map: bool,
    counting: bool,
}

impl WireType {
    fn of(set: SetType) -> Self {
        let SetType {
            key,
            interval,
            map,
            counting,
            expiring,
            dynamic,
        } = set;
        let key_type = |field: &Field| match field {
            Field::Ipv4 => TYPE_IPADDR,
            Field::Ipv6 => TYPE_IP6ADDR,
            Field::Port => TYPE_INET_SERVICE,
            Field::Protocol => TYPE_INET_PROTOCOL,
            Field::Interface => TYPE_IFNAME,
        };
        let numbers = key.iter().map(key_type);
        let flags = [
            (interval, NFT_SET_INTERVAL),
            (map, NFT_SET_MAP),
            (expiring, NFT_SET_TIMEOUT),
            (dynamic, NFT_SET_EVAL),
        ];
        let flags = flags.into_iter().filter(|(has, _)| *has);
        Self {
            key_type: numbers.fold(0, |number, field| number << TYPE_BITS | field),
            key_length: u32::try_from(element::key_length(key)).unwrap_or(u32::MAX),
            byte_order: match key {
                [Field::Interface] => BYTEORDER_HOST_ENDIAN,
                [_] => BYTEORDER_BIG_ENDIAN,
                _ => BYTEORDER_INVALID,
            },
            flags: flags.fold(0, |all, (_, flag)| all | flag),
            map,
            counting,
        }
    }
}

/// Writes the message that creates a set; `id` is unique in the batch.
pub(crate) fn create(w: &mut Writer, sequence: u32, name: &str, set: &Set, id: u32) -> usize {
    let of = WireType::of(set.elements.set_type());
    message(w, NFT_MSG_NEWSET, CREATE, sequence, |w| {
        w.string(NFTA_SET_TABLE, TABLE);
        w.string(NFTA_SET_NAME, name);
        w.be32(NFTA_SET_FLAGS, of.flags);
        w.be32(NFTA_SET_KEY_TYPE, of.key_type);
        w.be32(NFTA_SET_KEY_LEN, of.key_length);
        if of.map {
            w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            w.be32(NFTA_SET_DATA_LEN, 0);
        }
        w.be32(NFTA_SET_ID, id);
        if let Some(size) = set.elements.room() {
            w.nest(NFTA_SET_DESC, |w| w.be32(NFTA_SET_DESC_SIZE, size));
        }
        let mut user = user_number(NFTNL_UDATA_SET_KEYBYTEORDER, of.byte_order);
        if of.map {
            user.extend(user_number(
                NFTNL_UDATA_SET_DATABYTEORDER,
                BYTEORDER_INVALID,
            ));
        }
        if let Some(comment) = &set.comment {
            user.extend(user_text(NFTNL_UDATA_SET_COMMENT, comment));
        }
        w.attribute(NFTA_SET_USERDATA, &user);
        if of.counting {
            w.nest(NFTA_SET_EXPR, |w| Instruction::Counter.encode_parts(w));
        }
    })
}

/// Writes the message that deletes a set.
pub(crate) fn delete(w: &mut Writer, sequence: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELSET, 0, sequence, |w| {
        w.string(NFTA_SET_TABLE, TABLE);
        w.string(NFTA_SET_NAME, name);
    })
}

/// A set as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetObject {
    /// The table's name.
    pub table: String,
    /// The name.
    pub name: String,
    /// The empty elements of its type; `None` for a type that dfw never writes.
    pub elements: Option<Elements>,
    /// The size that it was made for.
    pub size: Option<u32>,
    /// How many elements it has, which only newer kernels tell.
    pub count: Option<u32>,
    /// The comment.
    pub comment: Option<String>,
    /// The header of the sketch that it holds.
    pub sketch: Option<Vec<u8>>,
}

/// Reads a set.
pub(super) fn decode(attributes: Attributes<'_>) -> Result<SetObject, Malformed> {
    let table = attributes.table::<21>()?;
    let number = |kind: u16| -> Result<u32, Malformed> {
        table[usize::from(kind)].map_or(Ok(0), |attribute| attribute.be32())
    };
    let size = match table[usize::from(NFTA_SET_DESC)] {
        Some(desc) => match desc.nested().table::<2>()? {
            [_, Some(size)] => Some(size.be32()?),
            _ => None,
        },
        None => None,
    };
    let flags = number(NFTA_SET_FLAGS)?;
    let (key_type, key_length) = (number(NFTA_SET_KEY_TYPE)?, number(NFTA_SET_KEY_LEN)?);
    let map = number(NFTA_SET_DATA_TYPE)? == NFT_DATA_VERDICT;
    let counting = table[usize::from(NFTA_SET_EXPR)]
        .as_ref()
        .is_some_and(Instruction::is_counter);
    let mut types = Elements::types();
    let elements = types.find(|elements| {
        let of = WireType::of(elements.set_type());
        (of.key_type, of.key_length, of.flags) == (key_type, key_length, flags)
            && (of.map, of.counting) == (map, counting)
    });
    Ok(SetObject {
        table: text(table[usize::from(NFTA_SET_TABLE)])?,
        name: text(table[usize::from(NFTA_SET_NAME)])?,
        elements: elements.cloned(),
        size,
        count: table[usize::from(NFTA_SET_COUNT)]
            .map(|count| count.be32())
            .transpose()?,
        comment: user_comment(
            table[usize::from(NFTA_SET_USERDATA)],
            NFTNL_UDATA_SET_COMMENT,
        ),
        sketch: table[usize::from(NFTA_SET_USERDATA)]
            .and_then(|user| user_value(user.payload, UDATA_SKETCH))
            .map(<[u8]>::to_vec),
    })
}
