//! Evaluates the destination NAT rules of other tables: whether a port is translated.
//!
//! The result is exact: a port is [`Answer::NotTranslated`] only if every rule was read and evaluated, and
//! none of them can match its packets.

mod extension;
mod index;
mod packet;
mod register;
mod rule;
mod set;
mod walk;

use std::net::IpAddr;

use crate::net::{Family, Ports, Protocol};
use crate::nftables::foreign::NatRules;

use index::Index;

/// The tables of Docker's nftables backend, and of netavark.
const ENGINE_TABLES: [&str; 2] = ["docker-bridges", "netavark"];

/// The destination NAT rules of other tables. In the default they are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nat {
    /// The rules of nf_tables; `None` if they could not be read.
    pub rules: Option<NatRules>,
    /// Whether iptables-legacy may translate, whose rules are not in nf_tables: for IPv4 and for IPv6.
    pub legacy: [bool; 2],
    index: Index,
}

/// The first packet of a connection from another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its destination address. An unspecified address is any of its family: then a match on one
    /// address is a condition.
    pub address: IpAddr,
    /// Whether this is an address of the host, loopback included; `None` if unknown.
    pub local: Option<bool>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The client; `None` for any.
    pub source: Option<IpAddr>,
    /// The incoming interface, by name and index; `None` for any.
    pub interface: Option<(String, u32)>,
}

impl Question {
    /// Creates a query about a port at an address of the host, for any client and any interface.
    #[must_use]
    pub fn of_host(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self {
            address,
            local: Some(true),
            protocol,
            port,
            source: None,
            interface: None,
        }
    }

    /// Returns the same query for one interface. Engines' rules exclude their own bridge, so most of
    /// them need it for a definite answer.
    #[must_use]
    pub fn through(self, name: &str, index: u32) -> Self {
        Self {
            interface: Some((name.to_owned(), index)),
            ..self
        }
    }
}

/// The effect of NAT rules on a packet's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is translated.
    Translated {
        /// To what.
        to: Target,
    },
    /// The destination is unchanged.
    NotTranslated,
    /// It depends on properties that the query leaves open, or on unknown rules.
    Unknown,
}

/// The new destination of a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An address, which may be one of the host.
    Address(IpAddr, Option<u16>),
    /// The host itself (`redirect`), at this port or the original one.
    Host(Option<u16>),
    /// One of several, or unknown.
    Somewhere,
}

/// A rule that translates destinations, found by enumeration. Earlier rules may keep packets from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The original destination address, with its prefix length; `None` for any of the family.
    pub destination: Option<(IpAddr, u8)>,
    /// The family.
    pub family: Family,
    /// The number of the protocol; `None` for any.
    pub protocol: Option<u8>,
    /// The original destination ports; `None` for any.
    pub ports: Option<Ports>,
    /// The new destination.
    pub to: Target,
    /// The table, as `FAMILY TABLE`; its name is cleaned, and so is the chain's.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Whether there are other conditions, such as a client or an interface. The exclusion of one
    /// interface, and a local destination, do not count.
    pub conditional: bool,
}

impl Nat {
    /// Creates it from rules of nf_tables, if they could be read, and whether iptables-legacy may translate.
    #[must_use]
    pub fn new(rules: Option<NatRules>, legacy: [bool; 2]) -> Self {
        Self {
            rules,
            legacy,
            index: Index::default(),
        }
    }

    /// Returns whether a packet's destination is translated. A dependency on a client or an interface
    /// is unknown unless the query names it.
    #[must_use]
    pub fn judge(&self, question: &Question) -> Answer {
        let legacy = self.legacy[usize::from(question.address.is_ipv6())];
        match &self.rules {
            Some(rules) if !legacy && !rules.untracks => {
                walk::judge(rules, Some(&self.index), question)
            }
            _ => Answer::Unknown,
        }
    }

    /// Returns the combined answer for a packet that may come in through any of these interfaces.
    #[must_use]
    pub fn judge_from(&self, question: &Question, interfaces: &[(String, u32)]) -> Answer {
        let by = |(name, index): &(String, u32)| question.clone().through(name, *index);
        let mut judgements = interfaces.iter().map(|at| self.judge(&by(at)));
        let Some(first) = judgements.next() else {
            return self.judge(question);
        };
        judgements.fold(first, |all, one| match (all, one) {
            (all, one) if all == one => all,
            (Answer::Translated { .. }, Answer::Translated { .. }) => Answer::Translated {
                to: Target::Somewhere,
            },
            _ => Answer::Unknown,
        })
    }

    /// Returns whether an engine has rules for a family: Docker with iptables or nftables, or netavark.
    /// True if unknown.
    #[must_use]
    pub fn has_engine(&self, family: Family) -> bool {
        match &self.rules {
            Some(rules) if !self.legacy[usize::from(family == Family::V6)] => {
                rules.is_called("nat", "DOCKER", family) || rules.has_base(&ENGINE_TABLES, family)
            }
            _ => true,
        }
    }

    /// Returns all translations, by table and chain; at most 65,536, without those of iptables-legacy.
    #[must_use]
    pub fn translations(&self) -> Vec<Translation> {
        self.rules
            .as_ref()
            .map(walk::translations)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nftables::foreign::{
        Data, Extension, Field, ForeignElement, ForeignSet, Into, Name, NatChain, Order, Step,
        Verdict,
    };

    fn name(chain: &str) -> Name {
        (1, "t".to_owned(), chain.to_owned())
    }

    /// Returns a load and a few possible values.
    fn field() -> impl Strategy<Value = (Field, Vec<u8>)> {
        let network = |offset, length| Field::Network { offset, length };
        let port = Field::Transport {
            offset: 2,
            length: 2,
        };
        prop_oneof![
            Just((Field::Protocol, vec![6])),
            Just((Field::Protocol, vec![17])),
            Just((Field::Family, vec![2])),
            (78..83_u8).prop_map(move |low| (port, vec![0, low])),
            Just((network(16, 4), vec![203, 0, 113, 10])),
            Just((network(16, 3), vec![203, 0, 113])),
            Just((network(12, 4), vec![198, 51, 100, 66])),
            Just((network(12, 8), vec![198, 51, 100, 66, 203, 0, 113, 10])),
            Just((
                Field::InterfaceName,
                b"eth0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()
            )),
            Just((Field::InterfaceName, b"wg".to_vec())),
            Just((Field::InterfaceIndex, 2_u32.to_ne_bytes().to_vec())),
            Just((Field::AddressType, 2_u32.to_ne_bytes().to_vec())),
            Just((Field::State, 8_u32.to_ne_bytes().to_vec())),
            Just((Field::Other, vec![7])),
        ]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let order = prop_oneof![
            Just(Order::Equal),
            Just(Order::Unequal),
            Just(Order::Less),
            Just(Order::AtMost),
            Just(Order::Greater),
            Just(Order::AtLeast),
        ];
        let to = 0..3_usize;
        let compare =
            (field(), order, to, any::<bool>()).prop_map(|((field, value), order, to, masks)| {
                let register = to * 4;
                let mut steps = vec![Step::Load {
                    field,
                    to: register,
                }];
                if masks {
                    let mut mask = vec![0xff; value.len()];
                    mask[value.len() - 1] = 0xf0;
                    let xor = vec![0; value.len()];
                    steps.push(Step::Bitwise {
                        from: register,
                        to: register,
                        mask,
                        xor,
                    });
                }
                steps.push(Step::Compare {
                    register,
                    order,
                    value,
                });
                steps
            });
        let lookup =
            (field(), any::<bool>(), 0..3_usize).prop_map(|((field, _), inverted, kind)| {
                let into = [Into::Nothing, Into::Register(0), Into::Verdict][kind];
                let set = ["set", "map", "calls"][kind];
                vec![
                    Step::Load { field, to: 0 },
                    Step::Lookup {
                        set: set.to_owned(),
                        register: 0,
                        inverted: inverted && kind == 0,
                        into,
                    },
                ]
            });
        let extension = (any::<[u8; 48]>(), 0..4_usize).prop_map(|(data, which)| {
            let name = ["tcp", "multiport", "addrtype", "mark"][which].to_owned();
            let revision = [0, 1, 1, 0][which];
            vec![Step::Match(Extension {
                name,
                revision,
                data: data.to_vec(),
            })]
        });
        let conditions = prop::collection::vec(
            prop_oneof![5 => compare, 2 => lookup, 1 => extension,
            1 => Just(vec![Step::Nothing]), 1 => Just(vec![Step::Condition])],
            0..4,
        );
        let dnat = |last: u8| {
            vec![
                Step::Value {
                    to: 0,
                    value: vec![10, 0, 0, last],
                },
                Step::Dnat {
                    family: 2,
                    address: Some((0, 0)),
                    port: None,
                    network: false,
                },
            ]
        };
        let end = prop_oneof![
            Just(dnat(1)),
            Just(dnat(2)),
            Just(vec![Step::Dnat {
                family: 1,
                address: Some((0, 4)),
                port: Some((8, 8)),
                network: false
            }]),
            Just(vec![Step::Redirect { port: None }]),
            Just(vec![Step::Verdict(Verdict::Accept)]),
            Just(vec![Step::Verdict(Verdict::Return)]),
            Just(vec![Step::Verdict(Verdict::Jump("other".to_owned()))]),
            Just(vec![Step::Verdict(Verdict::Goto("other".to_owned()))]),
            Just(vec![Step::Unknown]),
            Just(Vec::new()),
        ];
        (conditions, end).prop_map(|(conditions, end)| [conditions.concat(), end].concat())
    }

    fn rules() -> impl Strategy<Value = NatRules> {
        let element = |key: &[u8], data| ForeignElement {
            key: Some(key.to_vec()),
            last: None,
            ends: false,
            data,
        };
        let set = move |data: [Data; 2]| {
            let [a, b] = data;
            ForeignSet {
                length: 2,
                elements: Some(vec![element(&[0, 80], a), element(&[0, 81], b)]),
                ..ForeignSet::default()
            }
        };
        let chain = || prop::collection::vec(steps(), 0..6);
        // The kernel has no loops.
        let calls = |steps: &Vec<Step>| {
            let is_call = |step: &Step| {
                let set = matches!(step, Step::Lookup { set, .. } if set == "calls");
                set || matches!(step, Step::Verdict(Verdict::Jump(_) | Verdict::Goto(_)))
            };
            steps.iter().any(is_call)
        };
        (chain(), chain()).prop_map(move |(base, mut other)| NatRules {
            untracks: false,
            bases: vec![NatChain {
                name: name("base"),
                priority: -100,
                accepts: true,
            }],
            rules: [
                (name("base"), base),
                (name("other"), {
                    other.retain(|steps| !calls(steps));
                    other
                }),
            ]
            .into(),
            sets: [
                (name("set"), set([Data::None, Data::None])),
                (
                    name("map"),
                    set([
                        Data::Value(vec![10, 0, 0, 3]),
                        Data::Value(vec![10, 0, 0, 4]),
                    ]),
                ),
                (
                    name("calls"),
                    set([
                        Data::Verdict(Verdict::Accept),
                        Data::Verdict(Verdict::Jump("other".to_owned())),
                    ]),
                ),
            ]
            .into(),
        })
    }

    proptest! {
        /// A less specific query never gets a wrong answer: it holds for every packet that matches the
        /// query.
        #[test]
        fn unqueried_packets_decide_nothing(
            rules in rules(),
            port in 78..83_u16,
            tcp in any::<bool>(),
            local in any::<bool>(),
            stranger in any::<bool>(),
            card in any::<bool>(),
        ) {
            let nat = Nat::new(Some(rules), [false; 2]);
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            let exact = Question {
                local: Some(local),
                source: Some(if stranger { [198, 51, 100, 66] } else { [192, 0, 2, 1] }.into()),
                ..Question::of_host([203, 0, 113, 10].into(), protocol, port)
            }
            .through(if card { "eth0" } else { "wg0" }, if card { 2 } else { 3 });
            let judgement = nat.judge(&exact);
            for (a, b, c, d) in (0..16).map(|n| (n & 1 != 0, n & 2 != 0, n & 4 != 0, n & 8 != 0)) {
                let mut less = exact.clone();
                if a { less.local = None; }
                if b { less.source = None; }
                if c { less.interface = None; }
                if d { less.address = [0, 0, 0, 0].into(); }
                match nat.judge(&less) {
                    Answer::Unknown => {}
                    Answer::NotTranslated => {
                        prop_assert_eq!(judgement, Answer::NotTranslated);
                    }
                    Answer::Translated { to } => {
                        let is_so = matches!(judgement, Answer::Translated { to: exactly }
                            if to == exactly || to == Target::Somewhere);
                        prop_assert!(is_so, "{:?}, and {:?}", judgement, to);
                    }
                }
            }
            // A rule that is left out for its port cannot match.
            let whole = nat.rules.as_ref().map(|rules| walk::judge(rules, None, &exact));
            prop_assert_eq!(whole, Some(judgement));
            // A translated port is in the list.
            if let Answer::Translated { .. } = judgement {
                let listed = nat.translations();
                let is_listed = listed.iter().any(|one| {
                    one.ports.as_ref().is_none_or(|ports| {
                        ports.ranges().iter().any(|(a, b)| (*a..=*b).contains(&port))
                    })
                });
                prop_assert!(is_listed, "{:?}", listed);
            }
        }
    }
}
