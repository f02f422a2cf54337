//! Tables, chains, sets and rules as nf_tables messages, and back.

use crate::plan::{Counted, Counter, Place, STAMP, Stray};
use crate::ruleset::{Base, Elements, Hook, Rule, Set, TABLE};

use super::element;
use super::instruction::Instruction;
use super::lower::{lower, raise};
use super::number::*;
use super::userdata::{user_bytes, user_comment, user_number, user_text, user_value};
use super::wire::{APPEND, Attribute, Attributes, CREATE, Malformed, Message, Writer};

/// The type of a message of nf_tables.
pub(super) fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// Writes a message of the `inet` family about something in dfw's table.
pub(super) fn message(
    w: &mut Writer,
    kind_: u16,
    flags: u16,
    sequence: u32,
    body: impl FnOnce(&mut Writer),
) -> usize {
    w.message(
        kind(kind_),
        super::wire::REQUEST | flags,
        sequence,
        NFPROTO_INET,
        0,
        body,
    )
}

/// Writes the message that makes dfw's table, or gives it these flags. Without flags it leaves a
/// table that is there as it is.
pub(super) fn new_table(w: &mut Writer, sequence: u32, flags: Option<u32>) -> usize {
    table(w, NFT_MSG_NEWTABLE, CREATE, sequence, TABLE, flags)
}

/// Writes a message about a table of any name.
pub(super) fn table(
    w: &mut Writer,
    kind: u16,
    create: u16,
    sequence: u32,
    name: &str,
    flags: Option<u32>,
) -> usize {
    message(w, kind, create, sequence, |w| {
        w.string(NFTA_TABLE_NAME, name);
        if let Some(flags) = flags {
            w.be32(NFTA_TABLE_FLAGS, flags);
        }
    })
}

/// Writes the message that makes a chain.
pub(super) fn new_chain(w: &mut Writer, sequence: u32, name: &str, base: Option<Base>) -> usize {
    message(w, NFT_MSG_NEWCHAIN, CREATE, sequence, |w| {
        w.string(NFTA_CHAIN_TABLE, TABLE);
        w.string(NFTA_CHAIN_NAME, name);
        if let Some(Base { hook, priority }) = base {
            w.string(NFTA_CHAIN_TYPE, "filter");
            w.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
            w.nest(NFTA_CHAIN_HOOK, |w| {
                w.be32(NFTA_HOOK_HOOKNUM, hook_number(hook));
                w.be32(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
            });
        }
    })
}

/// Writes the message that makes the chain which says who put the table there, and what that was.
pub(super) fn new_stamp(w: &mut Writer, sequence: u32, comment: &str, fingerprint: u64) -> usize {
    message(w, NFT_MSG_NEWCHAIN, CREATE, sequence, |w| {
        w.string(NFTA_CHAIN_TABLE, TABLE);
        w.string(NFTA_CHAIN_NAME, STAMP);
        let mut user = user_text(NFTNL_UDATA_COMMENT, comment);
        user.extend(user_bytes(UDATA_FINGERPRINT, &fingerprint.to_be_bytes()));
        w.attribute(NFTA_CHAIN_USERDATA, &user);
    })
}

/// Writes the message that makes a set; `id` is unique in the batch.
pub(super) fn new_set(w: &mut Writer, sequence: u32, name: &str, set: &Set, id: u32) -> usize {
    let form = element::Form::of(&set.elements);
    message(w, NFT_MSG_NEWSET, CREATE, sequence, |w| {
        w.string(NFTA_SET_TABLE, TABLE);
        w.string(NFTA_SET_NAME, name);
        w.be32(NFTA_SET_FLAGS, form.flags());
        w.be32(NFTA_SET_KEY_TYPE, form.key_type);
        w.be32(NFTA_SET_KEY_LEN, form.key_length);
        if form.verdicts {
            w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            w.be32(NFTA_SET_DATA_LEN, 0);
        }
        w.be32(NFTA_SET_ID, id);
        if let Some(size) = set.elements.room() {
            w.nest(NFTA_SET_DESC, |w| w.be32(NFTA_SET_DESC_SIZE, size));
        }
        let mut user = user_number(NFTNL_UDATA_SET_KEYBYTEORDER, form.byte_order());
        if form.verdicts {
            user.extend(user_number(
                NFTNL_UDATA_SET_DATABYTEORDER,
                BYTEORDER_INVALID,
            ));
        }
        if let Some(comment) = &set.comment {
            user.extend(user_text(NFTNL_UDATA_SET_COMMENT, comment));
        }
        w.attribute(NFTA_SET_USERDATA, &user);
        if form.counters {
            w.nest(NFTA_SET_EXPR, |w| Instruction::Counter.encode_parts(w));
        }
    })
}

/// Writes one message, `NFT_MSG_NEWSETELEM` or `NFT_MSG_DELSETELEM`, with as many elements of a set
/// as fit, beginning with the `next`th; returns the place of the message and the element that comes
/// next.
pub(super) fn elements(
    w: &mut Writer,
    kind: u16,
    sequence: u32,
    name: &str,
    (elements, counted): (&Elements, Option<&Counted>),
    next: usize,
) -> (usize, usize) {
    let mut after = next;
    let flags = if kind == NFT_MSG_NEWSETELEM {
        CREATE
    } else {
        0
    };
    let start = message(w, kind, flags, sequence, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.string(NFTA_SET_ELEM_LIST_SET, name);
        w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
            after = element::encode(w, elements, counted, next);
        });
    });
    (start, after)
}

/// Writes the message that adds a rule to a chain. Its first counter begins with `counter`.
pub(super) fn new_rule(
    w: &mut Writer,
    sequence: u32,
    chain: &str,
    rule: &Rule,
    place: Place,
    counter: Option<Counter>,
) -> usize {
    let (append, position) = match place {
        Place::First => (0, None),
        Place::Before(handle) => (0, Some(handle)),
        Place::Last => (APPEND, None),
    };
    message(w, NFT_MSG_NEWRULE, CREATE | append, sequence, |w| {
        w.string(NFTA_RULE_TABLE, TABLE);
        w.string(NFTA_RULE_CHAIN, chain);
        let mut instructions = Vec::new();
        rule.expressions
            .iter()
            .for_each(|expression| lower(expression, &mut instructions));
        let mut counter = counter;
        w.nest(NFTA_RULE_EXPRESSIONS, |w| {
            for instruction in &instructions {
                match (instruction, counter) {
                    (Instruction::Counter, Some(Counter { packets, bytes })) => {
                        Instruction::encode_counter(w, NFTA_LIST_ELEM, packets, bytes);
                        counter = None;
                    }
                    _ => instruction.encode(w),
                }
            }
        });
        if let Some(comment) = &rule.comment {
            w.attribute(NFTA_RULE_USERDATA, &user_text(NFTNL_UDATA_COMMENT, comment));
        }
        if let Some(handle) = position {
            w.be64(NFTA_RULE_POSITION, handle);
        }
    })
}

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
    /// A stateful object or a flowtable, which dfw never writes.
    Other {
        /// The table's name.
        table: String,
        /// What it is.
        stray: Stray,
    },
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

/// A chain as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainObject {
    /// The protocol family (`NFPROTO_*`).
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The name.
    pub name: String,
    /// For a base chain, where it hooks in.
    pub hook: Option<HookObject>,
    /// The comment.
    pub comment: Option<String>,
    /// What it says of the whole ruleset.
    pub fingerprint: Option<u64>,
}

/// Where a base chain hooks in, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookObject {
    /// The number of the hook in its family.
    pub number: u32,
    /// The priority.
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Whether the policy is `accept`.
    pub accepts: bool,
}

impl HookObject {
    /// The same in dfw's terms; `None` if dfw would never write it.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        let hook = hook(self.number)?;
        (self.accepts && self.kind == "filter").then_some(Base {
            hook,
            priority: self.priority,
        })
    }
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
    /// What it says of the elements of the set that it remembers.
    pub sketch: Option<Vec<u8>>,
}

/// A rule as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleObject {
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// Its number; 0 if it has none yet.
    pub handle: u64,
    /// What it says.
    pub rule: Rule,
    /// The values of its first counter, packets and bytes.
    pub counter: Option<(u64, u64)>,
}

/// Reads a message about an object; `None` for any other message.
///
/// # Errors
/// If the message is malformed. What is only foreign is no error.
pub fn decode(message: &Message<'_>) -> Result<Option<Object>, Malformed> {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Ok(None);
    }
    let family = message.family()?;
    let attributes = message.attributes()?;
    Ok(Some(match message.kind & 0xff {
        NFT_MSG_NEWTABLE => Object::Table(decode_table(family, attributes)?),
        NFT_MSG_NEWCHAIN => Object::Chain(decode_chain(family, attributes)?),
        NFT_MSG_NEWSET => Object::Set(decode_set(attributes)?),
        NFT_MSG_NEWSETELEM => {
            let [_, table, set, list] = attributes.table::<4>()?;
            Object::Elements {
                table: text(table)?,
                set: text(set)?,
                list: list.map_or_else(Vec::new, |list| list.payload.to_vec()),
            }
        }
        NFT_MSG_NEWRULE => Object::Rule(decode_rule(attributes)?),
        NFT_MSG_NEWOBJ => {
            let object = attributes.table::<4>()?;
            let kind = object[usize::from(NFTA_OBJ_TYPE)];
            let kind = kind.ok_or(Malformed("an object without a type"))?.be32()?;
            Object::Other {
                table: text(object[usize::from(NFTA_OBJ_TABLE)])?,
                stray: Stray::Object(kind, text(object[usize::from(NFTA_OBJ_NAME)])?),
            }
        }
        NFT_MSG_NEWFLOWTABLE => {
            let object = attributes.table::<3>()?;
            Object::Other {
                table: text(object[usize::from(NFTA_FLOWTABLE_TABLE)])?,
                stray: Stray::Flowtable(text(object[usize::from(NFTA_FLOWTABLE_NAME)])?),
            }
        }
        _ => return Ok(None),
    }))
}

fn decode_table(family: u8, attributes: Attributes<'_>) -> Result<TableObject, Malformed> {
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

fn decode_chain(family: u8, attributes: Attributes<'_>) -> Result<ChainObject, Malformed> {
    let table = attributes.table::<13>()?;
    let hook = match table[usize::from(NFTA_CHAIN_HOOK)] {
        None => None,
        Some(hook) => {
            let [_, number, priority] = hook.nested().table::<3>()?;
            let read = |a: Option<Attribute<'_>>| a.ok_or(Malformed("half a hook"))?.be32();
            Some(HookObject {
                number: read(number)?,
                priority: read(priority)?.cast_signed(),
                kind: text(table[usize::from(NFTA_CHAIN_TYPE)])?,
                accepts: table[usize::from(NFTA_CHAIN_POLICY)]
                    .is_none_or(|policy| policy.be32() == Ok(NF_ACCEPT)),
            })
        }
    };
    Ok(ChainObject {
        family,
        table: text(table[usize::from(NFTA_CHAIN_TABLE)])?,
        name: text(table[usize::from(NFTA_CHAIN_NAME)])?,
        hook,
        comment: user_comment(table[usize::from(NFTA_CHAIN_USERDATA)], NFTNL_UDATA_COMMENT),
        fingerprint: table[usize::from(NFTA_CHAIN_USERDATA)]
            .and_then(|user| user_value(user.payload, UDATA_FINGERPRINT)?.try_into().ok())
            .map(u64::from_be_bytes),
    })
}

fn decode_set(attributes: Attributes<'_>) -> Result<SetObject, Malformed> {
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
    let form = element::Form {
        key_type: number(NFTA_SET_KEY_TYPE)?,
        key_length: number(NFTA_SET_KEY_LEN)?,
        interval: number(NFTA_SET_FLAGS)? & NFT_SET_INTERVAL != 0,
        verdicts: number(NFTA_SET_DATA_TYPE)? == NFT_DATA_VERDICT,
        counters: table[usize::from(NFTA_SET_EXPR)]
            .as_ref()
            .is_some_and(Instruction::is_counter),
    };
    Ok(SetObject {
        table: text(table[usize::from(NFTA_SET_TABLE)])?,
        name: text(table[usize::from(NFTA_SET_NAME)])?,
        elements: form
            .empty()
            .filter(|_| number(NFTA_SET_FLAGS) == Ok(form.flags())),
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

fn decode_rule(attributes: Attributes<'_>) -> Result<RuleObject, Malformed> {
    let table = attributes.table::<8>()?;
    let (mut instructions, mut raw, mut counter) = (Vec::new(), Vec::new(), None);
    if let Some(list) = table[usize::from(NFTA_RULE_EXPRESSIONS)] {
        for element in list.nested() {
            let element = element?;
            let [_, name, data] = element.nested().table::<3>()?;
            let data = data.map_or_else(Vec::new, |data| data.payload.to_vec());
            raw.push((text(name)?, data));
            counter = counter.or_else(|| Instruction::counter_values(&element));
            instructions.push(Instruction::decode(&element)?);
        }
    }
    Ok(RuleObject {
        table: text(table[usize::from(NFTA_RULE_TABLE)])?,
        chain: text(table[usize::from(NFTA_RULE_CHAIN)])?,
        handle: table[usize::from(NFTA_RULE_HANDLE)].map_or(Ok(0), |handle| handle.be64())?,
        rule: Rule {
            expressions: raise(&instructions, &raw),
            comment: user_comment(table[usize::from(NFTA_RULE_USERDATA)], NFTNL_UDATA_COMMENT),
        },
        counter,
    })
}

fn text(attribute: Option<Attribute<'_>>) -> Result<String, Malformed> {
    attribute
        .ok_or(Malformed("a name is missing"))?
        .string()
        .map(str::to_owned)
}

/// The families of nf_tables by name, as nft writes them.
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

/// Whether a base chain of a family sees the packets that dfw's chain on `hook` sees.
#[must_use]
pub fn shares_hook(family: u8, number: u32, hook: Hook) -> bool {
    matches!(family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6) && number == hook_number(hook)
}

/// Whether this is the family of dfw's table.
#[must_use]
pub fn is_inet(family: u8) -> bool {
    family == NFPROTO_INET
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Input => NF_INET_LOCAL_IN,
        Hook::Forward => NF_INET_FORWARD,
        Hook::Output => NF_INET_LOCAL_OUT,
    }
}

fn hook(number: u32) -> Option<Hook> {
    [Hook::Input, Hook::Forward, Hook::Output]
        .into_iter()
        .find(|hook| hook_number(*hook) == number)
}
