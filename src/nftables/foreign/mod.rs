//! Rules, sets and chains of other tables, decoded as far as the translation of destinations needs it:
//! instructions with any register, not only the forms that dfw writes itself.
//!
//! Sources: `linux/netfilter/nf_tables.h`, `linux/netfilter/nf_tables_compat.h`.

mod decode;

use std::collections::BTreeMap;

use crate::net::Family;

use super::message::dump;
use super::number::*;

pub use decode::decode;

/// The size of all registers, in bytes (`NFT_REG_SIZE`, 16 of 4 bytes).
pub const REGISTERS: usize = 64;

/// A table, and something in it by name. The family is a number of `NFPROTO_*`.
pub type Name = (u8, String, String);

/// A base chain of type `nat` on the prerouting hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatChain {
    /// Family, table and chain.
    pub name: Name,
    /// Its priority: lower ones come first.
    pub priority: i32,
    /// Whether its policy is `accept`.
    pub accepts: bool,
}

/// The rules that can rewrite a destination before routing, with the chains and sets that they use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatRules {
    /// The base chains.
    pub bases: Vec<NatChain>,
    /// The rules of each chain, each a list of instructions. A chain without rules may be missing.
    pub rules: BTreeMap<Name, Vec<Vec<Step>>>,
    /// The sets and maps that these rules look up.
    pub sets: BTreeMap<Name, ForeignSet>,
    /// Whether a rule excludes packets from connection tracking (`notrack`): NAT rules do not apply to them.
    pub untracks: bool,
}

impl NatRules {
    /// Returns whether a rule of a table calls the chain of this name, in a family.
    #[must_use]
    pub fn is_called(&self, table: &str, chain: &str, family: Family) -> bool {
        let calls = |step: &Step| match step {
            Step::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => to == chain,
            _ => false,
        };
        let mut rules = self
            .rules
            .iter()
            .filter(|((number, name, _), _)| name == table && is_of(*number, family));
        rules.any(|(_, rules)| rules.iter().flatten().any(calls))
    }

    /// Returns whether one of these tables has a base chain, in a family.
    #[must_use]
    pub fn has_base(&self, tables: &[&str], family: Family) -> bool {
        let mut bases = self.bases.iter();
        bases.any(|base| tables.contains(&&*base.name.1) && is_of(base.name.0, family))
    }
}

/// Returns whether a table of a protocol family (`NFPROTO_*`) sees packets of a family.
fn is_of(number: u8, family: Family) -> bool {
    number == NFPROTO_INET
        || match family {
            Family::V4 => number == NFPROTO_IPV4,
            Family::V6 => number == NFPROTO_IPV6,
        }
}

/// A byte offset into the registers.
pub type Register = usize;

/// One instruction of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Loads something of the packet into registers.
    Load {
        /// What is loaded.
        field: Field,
        /// Where it goes.
        to: Register,
    },
    /// `to = from & mask ^ xor`.
    Bitwise {
        /// Where the value is.
        from: Register,
        /// Where the result goes.
        to: Register,
        /// As long as the value.
        mask: Vec<u8>,
        /// As long as the value.
        xor: Vec<u8>,
    },
    /// Goes on if a register compares so with a value.
    Compare {
        /// The register.
        register: Register,
        /// How.
        order: Order,
        /// With what.
        value: Vec<u8>,
    },
    /// Goes on if a register is in a range, or is not.
    Range {
        /// The register.
        register: Register,
        /// Whether it must not be in the range.
        inverted: bool,
        /// The first value.
        first: Vec<u8>,
        /// The last value.
        last: Vec<u8>,
    },
    /// Goes on if a set has the key.
    Lookup {
        /// The set's name.
        set: String,
        /// Where the key is.
        register: Register,
        /// Whether the set must not have it.
        inverted: bool,
        /// The use of the element's data.
        into: Into,
    },
    /// Loads a constant.
    Value {
        /// Where it goes.
        to: Register,
        /// The constant.
        value: Vec<u8>,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// `dnat`; nothing for packets of another family.
    Dnat {
        /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, or `NFPROTO_INET` for both.
        family: u8,
        /// First and last address.
        address: Option<(Register, Register)>,
        /// First and last port.
        port: Option<(Register, Register)>,
        /// Whether a network is mapped onto another (`NF_NAT_RANGE_NETMAP`).
        network: bool,
    },
    /// `redirect`: to this host itself.
    Redirect {
        /// First and last port.
        port: Option<(Register, Register)>,
    },
    /// A match of xtables.
    Match(Extension),
    /// A target of xtables.
    Target(Extension),
    /// Takes the packet out of connection tracking, so that nothing translates it (`notrack`).
    Untrack,
    /// Sets the connection's mark (`ct mark set`), which decides nothing about the packet.
    SetConnectionMark,
    /// Neither decides anything nor loads anything: a counter, a log line, a packet's mark that is set.
    Nothing,
    /// May end the rule, and loads anything into any register.
    Condition,
    /// May do anything.
    Unknown,
}

impl Step {
    /// Returns whether it changes the marks of connections: `ct mark set`, or xtables' `CONNMARK`.
    ///
    /// `CONNMARK --restore-mark`, which only reads them, counts too: where it is, another rule sets what it reads.
    #[must_use]
    pub fn uses_connection_mark(&self) -> bool {
        match self {
            Self::SetConnectionMark => true,
            Self::Target(target) => target.name == "CONNMARK",
            _ => false,
        }
    }

    /// Returns whether it takes packets out of connection tracking: `notrack`, or xtables' `CT
    /// --notrack` and `NOTRACK`.
    #[must_use]
    pub fn untracks(&self) -> bool {
        /// `XT_CT_NOTRACK` of `linux/netfilter/xt_CT.h`, in the 16 bits that its data begins with.
        const NOTRACK: u16 = 1;
        match self {
            Self::Untrack => true,
            Self::Target(target) if target.name == "NOTRACK" => true,
            Self::Target(target) if target.name == "CT" => {
                let flags = target.data.get(..2).and_then(|flags| flags.try_into().ok());
                flags.is_none_or(|flags| u16::from_ne_bytes(flags) & NOTRACK != 0)
            }
            _ => false,
        }
    }
}

/// A match or a target of xtables, as iptables-nft writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The name.
    pub name: String,
    /// Its revision, which decides on the layout of its data.
    pub revision: u32,
    /// Its data, a structure of `linux/netfilter/xt_*.h`.
    pub data: Vec<u8>,
}

/// The packet field that a rule loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Bytes of the network header.
    Network {
        /// Where they begin.
        offset: usize,
        /// How many.
        length: usize,
    },
    /// Bytes of the transport header.
    Transport {
        /// Where they begin.
        offset: usize,
        /// How many.
        length: usize,
    },
    /// The transport protocol's number, one byte.
    Protocol,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, one byte.
    Family,
    /// The Ethernet type, two bytes, big-endian.
    EtherType,
    /// The name of the incoming interface, 16 bytes.
    InterfaceName,
    /// The number of the incoming interface, four bytes, host byte order.
    InterfaceIndex,
    /// Bits of the connection's state, four bytes, host byte order.
    State,
    /// `RTN_*` of the destination, four bytes, host byte order.
    AddressType,
    /// Anything else, at most 16 bytes.
    Other,
}

/// The operator of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// The use of the data of a set's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// It has none.
    Nothing,
    /// It is loaded.
    Register(Register),
    /// It is a verdict, which ends the rule.
    Verdict,
}

/// The final action of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ends the base chain.
    Accept,
    /// Calls a chain.
    Jump(String),
    /// Goes on in a chain, and not after this rule.
    Goto(String),
    /// Ends the chain.
    Return,
    /// Goes on with the next rule.
    Continue,
    /// Drops the packet, queues it or whatever else there is.
    Other,
}

/// A set or map of another table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignSet {
    /// The lengths of the parts of its key, in bytes, each of which takes a multiple of 4; empty if it has
    /// one part.
    pub parts: Vec<usize>,
    /// How long its key is, in bytes.
    pub length: usize,
    /// Whether its elements are the ends of ranges.
    pub interval: bool,
    /// The elements; `None` if they were not read, or packets or timeouts change them.
    pub elements: Option<Vec<ForeignElement>>,
    /// Whether packets or timeouts change the elements.
    pub changes: bool,
}

/// An element of a set of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignElement {
    /// The key, or the first of a range; `None` is what all other keys match.
    pub key: Option<Vec<u8>>,
    /// The last key of a range, where each part has a range of its own.
    pub last: Option<Vec<u8>>,
    /// Whether it is the first key behind a range.
    pub ends: bool,
    /// The value in a map.
    pub data: Data,
}

/// The value of a key in a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing that can be read.
    None,
    /// A value.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

/// An object of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// A base chain that packets come through before connection tracking.
    Early(Name),
    /// A table that is switched off.
    Dormant(u8, String),
    /// A base chain that may translate destinations.
    Base(NatChain),
    /// A rule.
    Rule(Name, Vec<Step>),
    /// A set without its elements.
    Set(Name, ForeignSet),
    /// Some elements of a set.
    Elements(Vec<ForeignElement>),
}

/// Writes the request for the rules of a table.
#[must_use]
pub fn rules(family: u8, table: &str) -> Vec<u8> {
    dump(NFT_MSG_GETRULE, family, |w| {
        w.string(NFTA_RULE_TABLE, table);
    })
}

/// Writes the request for the rules of all tables.
#[must_use]
pub fn all_rules() -> Vec<u8> {
    dump(NFT_MSG_GETRULE, NFPROTO_UNSPEC, |_| {})
}

/// Writes the request for the sets of a table, without their elements.
#[must_use]
pub fn sets(family: u8, table: &str) -> Vec<u8> {
    dump(NFT_MSG_GETSET, family, |w| w.string(NFTA_SET_TABLE, table))
}

/// Writes the request for the elements of a set.
#[must_use]
pub fn elements((family, table, set): &Name) -> Vec<u8> {
    dump(NFT_MSG_GETSETELEM, *family, |w| {
        w.string(NFTA_SET_ELEM_LIST_TABLE, table);
        w.string(NFTA_SET_ELEM_LIST_SET, set);
    })
}
