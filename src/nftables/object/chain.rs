//! Chains.

use crate::netlink::message::{Attribute, Attributes, CREATE, Malformed, Writer};
use crate::ruleset::{Base, Hook, TABLE};

use super::super::message::{message, text};
use super::super::number::*;
use super::userdata::{user_bytes, user_comment, user_text, user_value};

/// Writes the message that creates a chain.
pub(crate) fn create(w: &mut Writer, sequence: u32, name: &str, base: Option<Base>) -> usize {
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

/// Writes the message that creates a chain without a hook, with a comment and a fingerprint.
pub(crate) fn create_stamp(
    w: &mut Writer,
    sequence: u32,
    name: &str,
    comment: &str,
    fingerprint: u64,
) -> usize {
    message(w, NFT_MSG_NEWCHAIN, CREATE, sequence, |w| {
        w.string(NFTA_CHAIN_TABLE, TABLE);
        w.string(NFTA_CHAIN_NAME, name);
        let mut user = user_text(NFTNL_UDATA_COMMENT, comment);
        user.extend(user_bytes(UDATA_FINGERPRINT, &fingerprint.to_be_bytes()));
        w.attribute(NFTA_CHAIN_USERDATA, &user);
    })
}

/// Writes the message that deletes a chain with its rules.
pub(crate) fn delete(w: &mut Writer, sequence: u32, name: &str) -> usize {
    message(w, NFT_MSG_DELCHAIN, 0, sequence, |w| {
        w.string(NFTA_CHAIN_TABLE, TABLE);
        w.string(NFTA_CHAIN_NAME, name);
    })
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
    /// The fingerprint of the ruleset.
    pub fingerprint: Option<u64>,
}

/// The hook of a base chain, as read.
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
    /// Returns the hook as a [`Base`]; `None` if dfw never writes such a hook.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        let hook = hook(self.number)?;
        (self.accepts && self.kind == "filter").then_some(Base {
            hook,
            priority: self.priority,
        })
    }
}

/// Reads a chain.
pub(super) fn decode(family: u8, attributes: Attributes<'_>) -> Result<ChainObject, Malformed> {
    let table = attributes.table::<13>()?;
    let hook = match table[usize::from(NFTA_CHAIN_HOOK)] {
        None => None,
        Some(hook) => {
            let [_, number, priority] = hook.nested().table::<3>()?;
            let read = |a: Option<Attribute<'_>>| a.ok_or(Malformed("incomplete hook"))?.be32();
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

/// Returns whether a base chain of a family sees the packets that dfw's chain on `hook` sees.
#[must_use]
pub fn shares_hook(family: u8, number: u32, hook: Hook) -> bool {
    matches!(family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6) && number == hook_number(hook)
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => NF_INET_PRE_ROUTING,
        Hook::Input => NF_INET_LOCAL_IN,
        Hook::Forward => NF_INET_FORWARD,
        Hook::Output => NF_INET_LOCAL_OUT,
    }
}

fn hook(number: u32) -> Option<Hook> {
    Hook::ALL
        .into_iter()
        .find(|hook| hook_number(*hook) == number)
}
