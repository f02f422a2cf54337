//! Decodes notifications about ruleset changes (`NFNLGRP_NFTABLES`).

use crate::ruleset::TABLE;
use crate::untrusted::clean;

use super::message::kind;
use super::number::*;
use super::object::is_inet;
use crate::netlink::message::{Malformed, Message};

/// A process that modified a ruleset, as reported by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modifier {
    /// Its number.
    pub pid: u32,
    /// Its command name, at most 15 bytes, cleaned. A process can choose any name.
    pub name: String,
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An object of dfw's table was added, deleted or changed.
    Ours,
    /// The end of a transaction, after the notifications of its changes, with the process that
    /// committed it, if the kernel reports one.
    End(Option<Modifier>),
}

/// Decodes a notification; `None` if it is about other tables.
///
/// # Errors
/// If it is malformed.
pub fn decode(message: &Message<'_>) -> Result<Option<Notice>, Malformed> {
    if message.kind == kind(NFT_MSG_NEWGEN) {
        let table = message
            .attributes()?
            .table::<{ NFTA_GEN_PROC_NAME as usize + 1 }>()?;
        let pid = table[usize::from(NFTA_GEN_PROC_PID)];
        let name = table[usize::from(NFTA_GEN_PROC_NAME)];
        let modifier = match (pid, name) {
            (Some(pid), Some(name)) => Some(Modifier {
                pid: pid.be32()?,
                name: name_of(name.payload),
            }),
            _ => None,
        };
        return Ok(Some(Notice::End(modifier)));
    }
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES || !is_inet(message.family()?) {
        return Ok(None);
    }
    // The first attribute of every object is the name of the table.
    let [_, table] = message.attributes()?.table::<2>()?;
    let ours = table.is_some_and(|table| table.string() == Ok(TABLE));
    Ok(ours.then_some(Notice::Ours))
}

/// Returns the name of a process, which may be any bytes.
fn name_of(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    clean(&String::from_utf8_lossy(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{Messages, Writer};

    fn read(kind_: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Option<Notice> {
        let mut w = Writer::new();
        w.message(kind(kind_), 0, 0, family, 0, body);
        let message = Messages::new(w.bytes()).next().unwrap().unwrap();
        decode(&message).unwrap()
    }

    #[test]
    fn only_notifications_of_the_own_table_are_reported() {
        let named = |name: &'static str| move |w: &mut Writer| w.string(1, name);
        let notice = |name, family| read(NFT_MSG_DELTABLE, family, named(name));
        assert_eq!(notice(TABLE, NFPROTO_INET), Some(Notice::Ours));
        assert_eq!(notice(TABLE, NFPROTO_IPV4), None);
        assert_eq!(notice("filter", NFPROTO_INET), None);
    }

    #[test]
    fn the_modifier_is_reported_at_the_end() {
        let end = read(NFT_MSG_NEWGEN, NFPROTO_UNSPEC, |w| {
            w.be32(1, 7);
            w.be32(NFTA_GEN_PROC_PID, 42);
            w.string(NFTA_GEN_PROC_NAME, "nft");
        });
        let modifier = Modifier {
            pid: 42,
            name: "nft".to_owned(),
        };
        assert_eq!(end, Some(Notice::End(Some(modifier))));
        for (name, shown) in [
            (&b"a\nput back\0"[..], "a\\nput back"),
            (b"\x1b[8m\xff", "\\u{1b}[8m\u{fffd}"),
        ] {
            let end = read(NFT_MSG_NEWGEN, NFPROTO_UNSPEC, |w| {
                w.be32(NFTA_GEN_PROC_PID, 42);
                w.attribute(NFTA_GEN_PROC_NAME, name);
            });
            let Some(Notice::End(Some(modifier))) = end else {
                panic!("{end:?}");
            };
            assert_eq!(modifier.name, shown);
        }
        let silent = read(NFT_MSG_NEWGEN, NFPROTO_UNSPEC, |w| w.be32(1, 7));
        assert_eq!(silent, Some(Notice::End(None)));
    }
}
