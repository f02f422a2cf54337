//! Trace messages of nf_tables (`NFT_MSG_TRACE`): one for each rule that matched and for the end of each
//! chain.

use std::fmt;

use super::header::Headers;
use super::message::{Attribute, Malformed, Message};
use super::number::*;

/// The multicast group that traces are sent to.
pub const GROUP: u32 = NFNLGRP_NFTRACE;

/// A trace message of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Of the packet; the kernel takes it again for later ones.
    pub id: u32,
    /// The protocol family of the table (`NFPROTO_*`).
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// The event.
    pub event: Event,
    /// The verdict.
    pub verdict: Outcome,
    /// The packet as it came into the base chain, which only the first message from there has.
    pub headers: Option<Headers>,
    /// The index of the interface that it came in through.
    pub incoming: Option<u32>,
    /// The index of the interface that it leaves through.
    pub outgoing: Option<u32>,
}

/// The event in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A rule matched, by its number.
    Rule(u64),
    /// A chain ended without a verdict.
    Return,
    /// A base chain ended, and its policy was applied.
    Policy,
    /// An unknown type.
    Unknown,
}

/// The verdict about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on to the next base chain.
    Accept,
    /// It is gone.
    Drop,
    /// It goes on in this chain.
    Continue,
    /// It goes through another chain and comes back.
    Jump(String),
    /// It goes through another chain and does not come back.
    Goto(String),
    /// It goes back to where the chain was called from.
    Return,
    /// A program decides.
    Queue,
    /// The packet was stolen by another part of the kernel.
    Stolen,
    /// An unknown verdict, by its number.
    Unknown(u32),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Return => f.write_str("return"),
            Self::Queue => f.write_str("queue"),
            Self::Stolen => f.write_str("stolen"),
            Self::Unknown(code) => write!(f, "verdict {code}"),
        }
    }
}

/// Reads a message about a packet; `None` for any other message.
///
/// # Errors
/// If it is malformed.
pub fn decode(message: &Message<'_>) -> Result<Option<Traced>, Malformed> {
    if message.kind != NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE {
        return Ok(None);
    }
    let table = message.attributes()?.table::<17>()?;
    let get = |kind: u16| table[usize::from(kind)];
    let text = |kind: u16| -> Result<String, Malformed> {
        let text = get(kind).map_or(Ok(""), |a| a.string())?;
        Ok(text.to_owned())
    };
    let number = |kind: u16| get(kind).map(|a| a.be32()).transpose();
    let event = match number(NFTA_TRACE_TYPE)? {
        Some(NFT_TRACETYPE_RULE) => match get(NFTA_TRACE_RULE_HANDLE) {
            Some(handle) => Event::Rule(handle.be64()?),
            // The end-of-chain marker, which kernels report as a rule (`nf_trace_fill_rule_info` in
            // net/netfilter/nf_tables_trace.c).
            None => Event::Return,
        },
        Some(NFT_TRACETYPE_RETURN) => Event::Return,
        Some(NFT_TRACETYPE_POLICY) => Event::Policy,
        _ => Event::Unknown,
    };
    let verdict = match (event, get(NFTA_TRACE_VERDICT), number(NFTA_TRACE_POLICY)?) {
        (Event::Policy, _, Some(code)) => outcome(code, None)?,
        (_, Some(verdict), _) => {
            let [_, code, chain] = verdict.nested().table::<3>()?;
            outcome(code.ok_or(Malformed("an empty verdict"))?.be32()?, chain)?
        }
        _ => Outcome::Continue,
    };
    let headers = get(NFTA_TRACE_NETWORK_HEADER).and_then(|network| {
        let transport = get(NFTA_TRACE_TRANSPORT_HEADER);
        Headers::of_parts(
            network.payload,
            transport.map_or(&[][..], |transport| transport.payload),
        )
    });
    Ok(Some(Traced {
        id: number(NFTA_TRACE_ID)?.ok_or(Malformed("a trace without a number"))?,
        family: message.family()?,
        table: text(NFTA_TRACE_TABLE)?,
        chain: text(NFTA_TRACE_CHAIN)?,
        event,
        verdict,
        headers,
        incoming: number(NFTA_TRACE_IIF)?,
        outgoing: number(NFTA_TRACE_OIF)?,
    }))
}

fn outcome(code: u32, chain: Option<Attribute<'_>>) -> Result<Outcome, Malformed> {
    /// `NF_VERDICT_MASK`; above it a queue has its number, a drop its errno.
    const MASK: u32 = 0xff;
    let chain = || -> Result<String, Malformed> {
        Ok(chain.map_or(Ok(""), |chain| chain.string())?.to_owned())
    };
    Ok(match code {
        NFT_CONTINUE | NFT_BREAK => Outcome::Continue,
        NFT_JUMP => Outcome::Jump(chain()?),
        NFT_GOTO => Outcome::Goto(chain()?),
        NFT_RETURN => Outcome::Return,
        code => match code & MASK {
            NF_DROP => Outcome::Drop,
            NF_ACCEPT => Outcome::Accept,
            NF_STOLEN => Outcome::Stolen,
            NF_QUEUE => Outcome::Queue,
            _ => Outcome::Unknown(code),
        },
    })
}
