//! Who else translates the destinations of packets before they are routed, and whether a port is among
//! them.
//!
//! Nothing is guessed: a port is [`Judgement::NotTranslated`] only where every rule was read and followed,
//! and none of them can match its packets.

mod extension;
mod rule;
mod walk;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::engine::Transport;
use crate::netlink::foreign::NatRules;

/// The rules of others that translate destinations. The default knows nothing of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nat {
    /// What was read of nf_tables; `None` if that could not be done.
    pub rules: Option<NatRules>,
    /// Whether iptables-legacy may translate, whose rules nf_tables does not know: in IPv4, and in IPv6.
    pub legacy: [bool; 2],
}

/// The first packet of a connection that comes in from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The address that it is for. An unspecified one is any of its family: then a rule for one address is
    /// a condition.
    pub address: IpAddr,
    /// Whether this is an address of the host, loopback included; `None` if that is not known.
    pub local: Option<bool>,
    /// The protocol.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// The client; `None` for any.
    pub source: Option<IpAddr>,
    /// The interface that it comes in through, by name and number; `None` for any.
    pub interface: Option<(String, u32)>,
}

impl Question {
    /// Asks for a port of the host, at an address of the host, for any client and through any interface.
    #[must_use]
    pub fn of_host(address: IpAddr, transport: Transport, port: u16) -> Self {
        Self {
            address,
            local: Some(true),
            transport,
            port,
            source: None,
            interface: None,
        }
    }

    /// The same through one interface. Engines' rules leave out their own bridge, so that most of them can
    /// be answered only then.
    #[must_use]
    pub fn through(self, name: &str, index: u32) -> Self {
        Self {
            interface: Some((name.to_owned(), index)),
            ..self
        }
    }
}

/// What becomes of the destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is translated.
    Translated {
        /// To what.
        to: Target,
    },
    /// It stays.
    NotTranslated,
    /// It may be translated or not: that depends on what is not asked for, or cannot be seen.
    Unknown,
}

/// What a destination is translated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Another address, which may be one of the host.
    Address(IpAddr, Option<u16>),
    /// The host itself (`redirect`), at this port or at that which was asked for.
    Host(Option<u16>),
    /// One of several, or what is not known.
    Somewhere,
}

/// A rule that translates destinations, found by its place and not by a packet. Rules before it may keep
/// packets from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Translation {
    /// The address that is asked, with the length of its prefix; `None` for any of the family.
    pub destination: Option<(IpAddr, u8)>,
    /// Whether the family is IPv6.
    pub v6: bool,
    /// The number of the protocol; `None` for any.
    pub protocol: Option<u8>,
    /// Ranges of ports, first and last; empty for any.
    pub ports: Vec<(u16, u16)>,
    /// What they are translated to.
    pub to: Target,
    /// The table, as `FAMILY TABLE`; its name is cleaned, and so is the chain's.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Whether something else must hold, such as a client or an interface. That a packet must not come in
    /// through one interface, or must be for an address of the host, does not count.
    pub conditional: bool,
}

impl Nat {
    /// Whether a packet's destination is translated. What depends on a client or an interface is unknown
    /// where the question does not name them.
    #[must_use]
    pub fn judge(&self, question: &Question) -> Judgement {
        let legacy = self.legacy[usize::from(question.address.is_ipv6())];
        match &self.rules {
            Some(rules) if !legacy => walk::judge(rules, question),
            _ => Judgement::Unknown,
        }
    }

    /// The same for a packet that may come in through each of these interfaces.
    #[must_use]
    pub fn judge_from(&self, question: &Question, interfaces: &[(String, u32)]) -> Judgement {
        let through = |(name, index): &(String, u32)| question.clone().through(name, *index);
        let mut judgements = interfaces.iter().map(|at| self.judge(&through(at)));
        let Some(first) = judgements.next() else {
            return self.judge(question);
        };
        judgements.fold(first, |all, one| match (all, one) {
            (all, one) if all == one => all,
            (Judgement::Translated { .. }, Judgement::Translated { .. }) => Judgement::Translated {
                to: Target::Somewhere,
            },
            _ => Judgement::Unknown,
        })
    }

    /// All translations that were found, in no order that means anything. iptables-legacy's are not among
    /// them.
    #[must_use]
    pub fn translations(&self) -> BTreeSet<Translation> {
        self.rules
            .as_ref()
            .map(walk::translations)
            .unwrap_or_default()
    }
}
