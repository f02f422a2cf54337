//! The table that enables packet tracing, as a transaction.
//!
//! It is not part of the [`ruleset`](crate::ruleset): it exists for one run of `dfw trace` and has no
//! verdicts.

use std::net::IpAddr;

use crate::net::Family;
use crate::netlink::message::{APPEND, CREATE, TooLong, Writer};
use crate::ruleset::{End, L4Protocol, Tuple};

use super::expression::{PACKET_PORT, load_address, load_protocol};
use super::instruction::Instruction;
use super::message::message;
use super::number::*;
use super::object::table;
use super::transaction;

/// The prefix of tracer tables' names; the port ID of the netlink socket follows.
pub const PREFIX: &str = "dfw-trace-";
/// The priority: after defragmentation (`NF_IP_PRI_CONNTRACK_DEFRAG`, -400), before all filter chains.
const PRIORITY: i32 = -399;
/// The rate limit of traced packets, per second, and the burst.
const RATE: (u64, u32) = (50, 50);

/// Selects the packets to trace: those that match every field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// The source address to match, if any.
    pub source: Option<IpAddr>,
    /// The destination address, before NAT.
    pub destination: Option<IpAddr>,
    /// The protocol and the destination port, before NAT.
    pub port: Option<(L4Protocol, u16)>,
}

impl Filter {
    fn encode(&self) -> Vec<Instruction> {
        let mut out = Vec::new();
        let ends = [
            (self.source, End::Source),
            (self.destination, End::Destination),
        ];
        for (address, end) in ends {
            let Some(address) = address else { continue };
            let (family, bytes) = match address {
                IpAddr::V4(v4) => (Family::V4, v4.octets().to_vec()),
                IpAddr::V6(v6) => (Family::V6, v6.octets().to_vec()),
            };
            load_address(Tuple::Packet, family, end, &mut out);
            out.push(Instruction::equal(bytes));
        }
        if let Some((protocol, port)) = self.port {
            load_protocol(protocol, &mut out);
            out.push(PACKET_PORT);
            out.push(Instruction::equal(port.to_be_bytes().to_vec()));
        }
        let (rate, burst) = RATE;
        out.push(Instruction::Limit {
            rate,
            unit: 1,
            burst,
            over: false,
        });
        out.extend([load_one(), set_trace()]);
        out
    }
}

/// `[ immediate reg 1 1 ]`
fn load_one() -> Instruction {
    let mut w = Writer::new();
    w.be32(NFTA_IMMEDIATE_DREG, NFT_REG_1);
    w.nest(NFTA_IMMEDIATE_DATA, |w| w.attribute(NFTA_DATA_VALUE, &[1]));
    Instruction::Raw {
        name: "immediate".to_owned(),
        data: w.bytes().to_vec(),
    }
}

/// `[ meta set nftrace with reg 1 ]`
fn set_trace() -> Instruction {
    let mut w = Writer::new();
    w.be32(NFTA_META_KEY, NFT_META_NFTRACE);
    w.be32(NFTA_META_SREG, NFT_REG_1);
    Instruction::Raw {
        name: "meta".to_owned(),
        data: w.bytes().to_vec(),
    }
}

/// Returns the transaction that enables tracing, in a table of this name. An `owned` table is deleted with
/// the socket that sends this, however its process ends; it needs Linux 5.12, and older kernels reject it.
///
/// # Errors
/// If the name is too long.
pub fn begin(name: &str, filter: &Filter, owned: bool) -> Result<Vec<u8>, TooLong> {
    whole(|w| {
        table::create(w, 2, name, Some(if owned { NFT_TABLE_F_OWNER } else { 0 }));
        let hooks = [
            ("prerouting", NF_INET_PRE_ROUTING),
            ("output", NF_INET_LOCAL_OUT),
        ];
        let mut last = 0;
        for ((chain, hook), sequence) in hooks.into_iter().zip([3, 5]) {
            message(w, NFT_MSG_NEWCHAIN, CREATE, sequence, |w| {
                w.string(NFTA_CHAIN_TABLE, name);
                w.string(NFTA_CHAIN_NAME, chain);
                w.string(NFTA_CHAIN_TYPE, "filter");
                w.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
                w.nest(NFTA_CHAIN_HOOK, |w| {
                    w.be32(NFTA_HOOK_HOOKNUM, hook);
                    w.be32(NFTA_HOOK_PRIORITY, PRIORITY.cast_unsigned());
                });
            });
            last = message(w, NFT_MSG_NEWRULE, CREATE | APPEND, sequence + 1, |w| {
                w.string(NFTA_RULE_TABLE, name);
                w.string(NFTA_RULE_CHAIN, chain);
                w.nest(NFTA_RULE_EXPRESSIONS, |w| {
                    filter.encode().iter().for_each(|i| i.encode(w));
                });
            });
        }
        last
    })
}

/// Returns the transaction that removes such a table.
///
/// # Errors
/// If the name is too long.
pub fn end(name: &str) -> Result<Vec<u8>, TooLong> {
    whole(|w| table::delete(w, 2, name))
}

/// Returns a transaction of messages, the last of which `write` returns; that one is acknowledged.
fn whole(write: impl FnOnce(&mut Writer) -> usize) -> Result<Vec<u8>, TooLong> {
    let mut w = Writer::new();
    transaction::begin(&mut w, 1, None);
    let last = write(&mut w);
    transaction::end(&mut w, 0, last);
    w.finish()
}
