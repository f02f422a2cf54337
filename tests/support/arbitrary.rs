//! Random rulesets that the kernel must accept.
//!
//! A ruleset is built from a [`Plan`] that refers to sets and chains by choice instead of by name,
//! so that whatever a failing plan is shrunk to is a sound ruleset again. No verdict leads back:
//! chains have ranks, and everything leads to a chain of a higher rank only.

use dfw::net::{Family, Per, Rate};
use std::collections::{BTreeMap, BTreeSet};

use dfw::ruleset::{
    Address, Base, Chain, Conntrack, Counting, Direction, Elements, End as PacketEnd, Expression,
    Hook, Interface, Interval, L4Protocol, MapTo, NameMatch, PerSource, Port, Reject, Rule,
    Ruleset, Set, Side, Statement, Tuple, Verdict,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// How rules are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Any expressions in any order.
    Wild,
    /// As a person would write them for nft, which merges what two matches have in common and
    /// refuses contradictions: at most one match of the packet's own header in a rule.
    Plain,
}

/// Any ruleset of a style.
pub(crate) fn ruleset(style: Style) -> impl Strategy<Value = Ruleset> {
    plan(style).prop_map(|plan| plan.build())
}

/// Names that nft can read, of every allowed character and of the greatest length.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => "[a-zA-Z0-9/_.-]{0,12}",
        1 => "[a-z0-9]{240}",
    ]
}

/// The greatest length in bytes, quotes of every other sort, and more than ASCII.
pub(crate) fn comment() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => Just(None),
        3 => "[a-z]{1,8}\\.yaml:[1-9][0-9]{0,4}".prop_map(Some),
        1 => "[ -!#-~]{1,127}".prop_map(Some),
        1 => "[a-zü€]{1,42}".prop_map(Some),
    ]
}

/// The kernel allows almost anything; here are the characters that interfaces do have.
fn interface(length: usize) -> impl Strategy<Value = String> {
    "[a-z][a-z0-9._@-]{0,14}".prop_map(move |mut name| {
        name.truncate(length);
        name
    })
}

fn number4() -> impl Strategy<Value = u32> {
    prop_oneof![6 => any::<u32>(), 2 => 0x0a00_0000..0x0a00_0020_u32, 1 => Just(0), 1 => Just(u32::MAX)]
}

fn number6() -> impl Strategy<Value = u128> {
    let near = 0..32_u128;
    prop_oneof![6 => any::<u128>(), 2 => near, 1 => Just(0), 1 => Just(u128::MAX)]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![6 => any::<u16>(), 3 => 1000..1020_u16, 1 => Just(0), 1 => Just(u16::MAX)]
}

/// Where a verdict leads, as a choice among what is there.
#[derive(Debug, Clone)]
enum To {
    Accept,
    Drop,
    Return,
    Jump(Index),
    Goto(Index),
}

impl To {
    /// `targets` are the chains that it may lead to.
    fn build(&self, targets: &[String]) -> Verdict {
        let pick = |index: &Index| (!targets.is_empty()).then(|| index.get(targets).clone());
        match self {
            Self::Accept => Verdict::Accept,
            Self::Drop => Verdict::Drop,
            Self::Return => Verdict::Return,
            Self::Jump(index) => pick(index).map_or(Verdict::Accept, Verdict::Jump),
            Self::Goto(index) => pick(index).map_or(Verdict::Drop, Verdict::Goto),
        }
    }
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        Just(To::Accept),
        Just(To::Drop),
        Just(To::Return),
        any::<Index>().prop_map(To::Jump),
        any::<Index>().prop_map(To::Goto),
    ]
}

/// The contents of a set, verdicts as choices.
#[derive(Debug, Clone)]
enum Contents {
    Ipv4(BTreeSet<u32>),
    Ipv4Ranges(BTreeSet<u32>),
    Ipv6(BTreeSet<u128>),
    Ipv6Ranges(BTreeSet<u128>),
    Interfaces(BTreeSet<String>),
    PortIpv4(BTreeSet<(u16, u32)>),
    PortIpv6(BTreeSet<(u16, u128)>),
    PortCounters(BTreeMap<(L4Protocol, u16), Option<String>>),
    Ports(BTreeMap<u16, (bool, To)>),
    PortIpv4Verdicts(BTreeMap<(u16, u32), To>),
    PortIpv6Verdicts(BTreeMap<(u16, u128), To>),
    Ipv4Verdicts(BTreeMap<u32, To>),
    Ipv6Verdicts(BTreeMap<u128, To>),
    /// A set to which rules add sources.
    Added(Elements),
}

fn contents() -> impl Strategy<Value = Contents> {
    use proptest::collection::btree_map;
    const MOST: usize = 24;
    prop_oneof![
        btree_set(number4(), 0..MOST).prop_map(Contents::Ipv4),
        btree_set(number4(), 0..MOST).prop_map(Contents::Ipv4Ranges),
        btree_set(number6(), 0..MOST).prop_map(Contents::Ipv6),
        btree_set(number6(), 0..MOST).prop_map(Contents::Ipv6Ranges),
        btree_set(interface(15), 0..MOST).prop_map(Contents::Interfaces),
        btree_set((port(), number4()), 0..MOST).prop_map(Contents::PortIpv4),
        btree_set((port(), number6()), 0..MOST).prop_map(Contents::PortIpv6),
        btree_map((ported(), port()), comment(), 0..MOST).prop_map(Contents::PortCounters),
        btree_map(port(), (any::<bool>(), to()), 0..MOST).prop_map(Contents::Ports),
        btree_map((port(), number4()), to(), 0..MOST).prop_map(Contents::PortIpv4Verdicts),
        btree_map((port(), number6()), to(), 0..MOST).prop_map(Contents::PortIpv6Verdicts),
        btree_map(number4(), to(), 0..MOST).prop_map(Contents::Ipv4Verdicts),
        btree_map(number6(), to(), 0..MOST).prop_map(Contents::Ipv6Verdicts),
        select(added()).prop_map(Contents::Added),
    ]
}

/// Pairs of numbers as ranges; what would touch the range before it is left out.
fn ranges<T: Copy + PartialOrd>(
    numbers: &BTreeSet<T>,
    next: impl Fn(T) -> Option<T>,
) -> Vec<Interval<T>> {
    let numbers: Vec<T> = numbers.iter().copied().collect();
    let mut ranges: Vec<Interval<T>> = Vec::new();
    for pair in numbers.chunks(2) {
        let (first, last) = (pair[0], *pair.last().unwrap_or(&pair[0]));
        let apart = ranges
            .last()
            .is_none_or(|before| next(before.last).is_some_and(|n| n < first));
        if apart {
            ranges.push(Interval::new(first, last));
        }
    }
    ranges
}

impl Contents {
    fn build(&self, targets: &[String]) -> Elements {
        match self {
            Self::Added(elements) => elements.clone(),
            Self::Ipv4(all) => Elements::Ipv4(all.iter().copied().collect()),
            Self::Ipv4Ranges(all) => Elements::Ipv4Ranges(ranges(all, |n| n.checked_add(1))),
            Self::Ipv6(all) => Elements::Ipv6(all.iter().copied().collect()),
            Self::Ipv6Ranges(all) => Elements::Ipv6Ranges(ranges(all, |n| n.checked_add(1))),
            Self::Interfaces(all) => Elements::Interfaces(all.iter().cloned().collect()),
            Self::PortIpv4(all) => Elements::PortIpv4(all.iter().copied().collect()),
            Self::PortIpv6(all) => Elements::PortIpv6(all.iter().copied().collect()),
            Self::PortCounters(all) => {
                let all = all.iter();
                let element =
                    |((protocol, port), comment): (&(L4Protocol, u16), &Option<String>)| Counting {
                        key: (*protocol, *port),
                        comment: comment.clone(),
                    };
                Elements::PortCounters(all.map(element).collect())
            }
            Self::Ports(all) => {
                let firsts: Vec<u16> = all.keys().copied().collect();
                let ends = firsts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
                // A range is one port, or reaches as far as it can: to the next, to the end.
                let build = |((first, (wide, to)), end): ((&u16, &(bool, To)), u16)| {
                    let last = if *wide { end } else { *first };
                    MapTo::new(Interval::new(*first, last), to.build(targets))
                };
                Elements::PortVerdicts(all.iter().zip(ends).map(build).collect())
            }
            Self::PortIpv4Verdicts(all) => {
                let all = all.iter();
                let all = all.map(|(key, to)| MapTo::new(*key, to.build(targets)));
                Elements::PortIpv4Verdicts(all.collect())
            }
            Self::PortIpv6Verdicts(all) => {
                let all = all.iter();
                let all = all.map(|(key, to)| MapTo::new(*key, to.build(targets)));
                Elements::PortIpv6Verdicts(all.collect())
            }
            Self::Ipv4Verdicts(all) => Elements::Ipv4Verdicts(
                all.iter()
                    .map(|(a, to)| MapTo::new(*a, to.build(targets)))
                    .collect(),
            ),
            Self::Ipv6Verdicts(all) => Elements::Ipv6Verdicts(
                all.iter()
                    .map(|(a, to)| MapTo::new(*a, to.build(targets)))
                    .collect(),
            ),
        }
    }
}

/// An expression, sets and maps as choices.
#[derive(Debug, Clone)]
enum Part {
    Ready(Expression),
    InterfaceIn {
        side: Side,
        set: Index,
        member: bool,
    },
    SourceIn {
        tuple: Tuple,
        family: Family,
        set: Index,
    },
    PortSourceIn {
        tuple: Tuple,
        protocol: L4Protocol,
        family: Family,
        length: Index,
        set: Index,
    },
    PortIn {
        tuple: Tuple,
        set: Index,
    },
    PortMap {
        tuple: Tuple,
        protocol: L4Protocol,
        map: Index,
    },
    DestinationMap {
        tuple: Tuple,
        family: Family,
        map: Index,
    },
    DestinationIn {
        family: Family,
        set: Index,
    },
    PortAddressMap {
        end: PacketEnd,
        protocol: L4Protocol,
        family: Family,
        map: Index,
    },
    /// About a set like this one that is still to be chosen.
    PerSource(PerSource, Elements, Index),
}

fn side() -> impl Strategy<Value = Side> {
    select(vec![Side::In, Side::Out])
}

fn tuple() -> impl Strategy<Value = Tuple> {
    select(vec![Tuple::Original, Tuple::Packet])
}

fn family() -> impl Strategy<Value = Family> {
    select(vec![Family::V4, Family::V6])
}

fn interface_match(side: Side) -> impl Strategy<Value = Part> {
    let name = prop_oneof![
        interface(15).prop_map(NameMatch::Exact),
        interface(14).prop_map(NameMatch::Prefix),
    ];
    prop_oneof![
        (name, any::<bool>()).prop_map(move |(name, equal)| Part::Ready(Expression::Interface(
            Interface::Name { side, name, equal }
        ))),
        (any::<Index>(), any::<bool>()).prop_map(move |(set, member)| Part::InterfaceIn {
            side,
            set,
            member
        }),
    ]
}

fn ready(expressions: Vec<Expression>) -> impl Strategy<Value = Part> {
    select(expressions).prop_map(Part::Ready)
}

fn protocol_match() -> impl Strategy<Value = Part> {
    select(L4Protocol::ALL.to_vec()).prop_map(|p| Part::Ready(Expression::Port(Port::Protocol(p))))
}

fn connection_match() -> impl Strategy<Value = Part> {
    ready(vec![
        Expression::Conntrack(Conntrack::Direction(Direction::Original)),
        Expression::Conntrack(Conntrack::Direction(Direction::Reply)),
        Expression::Conntrack(Conntrack::DestinationNat),
        Expression::Conntrack(Conntrack::Related),
    ])
}

fn source_match(tuple: impl Strategy<Value = Tuple>) -> impl Strategy<Value = Part> {
    (tuple, family(), any::<Index>()).prop_map(|(tuple, family, set)| Part::SourceIn {
        tuple,
        family,
        set,
    })
}

fn destination_map(tuple: impl Strategy<Value = Tuple>) -> impl Strategy<Value = Part> {
    (tuple, family(), any::<Index>()).prop_map(|(tuple, family, map)| Part::DestinationMap {
        tuple,
        family,
        map,
    })
}

fn destination_match() -> impl Strategy<Value = Part> {
    (family(), any::<Index>()).prop_map(|(family, set)| Part::DestinationIn { family, set })
}

fn port_address_map() -> impl Strategy<Value = Part> {
    let end = select(vec![PacketEnd::Source, PacketEnd::Destination]);
    (end, ported(), family(), any::<Index>()).prop_map(|(end, protocol, family, map)| {
        Part::PortAddressMap {
            end,
            protocol,
            family,
            map,
        }
    })
}

/// A protocol that has ports.
fn ported() -> impl Strategy<Value = L4Protocol> {
    select(vec![L4Protocol::Tcp, L4Protocol::Udp, L4Protocol::Sctp])
}

fn port_source_match() -> impl Strategy<Value = Part> {
    let choice = (tuple(), ported(), family(), any::<Index>(), any::<Index>());
    choice.prop_map(
        |(tuple, protocol, family, length, set)| Part::PortSourceIn {
            tuple,
            protocol,
            family,
            length,
            set,
        },
    )
}

fn port_match() -> impl Strategy<Value = Part> {
    (tuple(), any::<Index>()).prop_map(|(tuple, set)| Part::PortIn { tuple, set })
}

fn port_map() -> impl Strategy<Value = Part> {
    (tuple(), ported(), any::<Index>()).prop_map(|(tuple, protocol, map)| Part::PortMap {
        tuple,
        protocol,
        map,
    })
}

fn added() -> Vec<Elements> {
    vec![
        Elements::Ipv4Added(Vec::new()),
        Elements::Ipv4AddedUntil(Vec::new()),
        Elements::Ipv6Added(Vec::new()),
        Elements::Ipv6AddedUntil(Vec::new()),
    ]
}

fn per_source() -> impl Strategy<Value = Part> {
    let kinds = (0..3_u8, family(), 1..70_000_u32, select(Per::ALL.to_vec()));
    (kinds, any::<Index>()).prop_map(|((kind, family, count, per), index)| {
        let (set, rate) = (String::new(), Rate { count, per });
        let asked = match kind {
            0 => PerSource::OverRate { family, set, rate },
            1 => PerSource::OverCount { family, set, count },
            _ => PerSource::Absent { family, set },
        };
        let like = usize::from(family == Family::V6) * 2 + usize::from(kind != 1);
        Part::PerSource(asked, added().swap_remove(like), index)
    })
}

fn limit() -> impl Strategy<Value = Part> {
    (1..100_000_u64, 1..10_000_u32).prop_map(|(per_second, burst)| {
        Part::Ready(Expression::Statement(Statement::Limit {
            per_second,
            burst,
        }))
    })
}

fn log() -> impl Strategy<Value = Part> {
    (
        "[a-zA-Z0-9 :./-]{1,127}",
        proptest::option::of(any::<u16>()),
    )
        .prop_map(|(prefix, group)| {
            Part::Ready(Expression::Statement(Statement::Log { prefix, group }))
        })
}

/// The end of a rule: at most one verdict or refusal.
#[derive(Debug, Clone)]
enum End {
    Nothing,
    Verdict(To),
    Reject,
    /// With the protocol in front, for which alone there is such an answer.
    TcpReset,
}

#[derive(Debug, Clone)]
struct RulePlan {
    parts: Vec<Part>,
    end: End,
    comment: Option<String>,
}

/// What a rule can ask of addresses and ports.
fn own_header() -> impl Strategy<Value = Part> {
    prop_oneof![
        source_match(Just(Tuple::Packet)),
        destination_match(),
        port_source_match(),
        ready(vec![Expression::Address(Address::ToLoopback(
            Tuple::Packet
        ))]),
        protocol_match(),
        ready(vec![Expression::Address(Address::ToLoopback(
            Tuple::Original
        ))]),
        ready(vec![
            Expression::Interface(Interface::SameInterface),
            Expression::Interface(Interface::NoReversePath),
            Expression::Interface(Interface::OutBridge)
        ]),
        family().prop_map(|family| Part::Ready(Expression::Address(Address::Family(family)))),
        ready(vec![
            Expression::Port(Port::Opens),
            Expression::Address(Address::Local)
        ]),
        source_match(Just(Tuple::Original)),
    ]
}

fn rule(style: Style) -> BoxedStrategy<RulePlan> {
    let verdict = || to().prop_map(End::Verdict);
    match style {
        Style::Wild => {
            let part = prop_oneof![
                4 => side().prop_flat_map(interface_match),
                1 => ready(vec![Expression::Interface(Interface::OutBridge)]),
                2 => protocol_match(),
                3 => connection_match(),
                3 => source_match(tuple()),
                1 => tuple().prop_map(|t| Part::Ready(Expression::Address(Address::ToLoopback(t)))),
                1 => ready(vec![Expression::Interface(Interface::SameInterface), Expression::Interface(Interface::NoReversePath)]),
                1 => ready(vec![Expression::Conntrack(Conntrack::Resumed), Expression::Conntrack(Conntrack::NoteOpening), Expression::Conntrack(Conntrack::Opened), Expression::Conntrack(Conntrack::First)]),
                1 => ready(vec![Expression::Port(Port::Opens), Expression::Address(Address::Local)]),
                1 => family().prop_map(|family| Part::Ready(Expression::Address(Address::Family(family)))),
                2 => port_source_match(),
                1 => port_match(),
                3 => port_map(),
                2 => destination_map(tuple()),
                1 => destination_match(),
                2 => port_address_map(),
                1 => per_source(),
                1 => limit(),
                1 => log(),
                1 => ready(vec![Expression::Statement(Statement::Counter)]),
            ];
            let end = prop_oneof![
                2 => Just(End::Nothing), 4 => verdict(), 1 => Just(End::Reject), 1 => Just(End::TcpReset)
            ];
            (vec(part, 0..6), end, comment())
                .prop_map(|(parts, end, comment)| RulePlan {
                    parts,
                    end,
                    comment,
                })
                .boxed()
        }
        Style::Plain => {
            let refused =
                prop_oneof![2 => verdict(), 1 => Just(End::Reject), 1 => Just(End::TcpReset)];
            let any_end = prop_oneof![
                // A map decides by itself, and nothing comes behind it.
                prop_oneof![port_map(), destination_map(tuple()), port_address_map()]
                    .prop_map(|map| (vec![map], End::Nothing)),
                (
                    own_header(),
                    prop_oneof![3 => verdict(), 1 => Just(End::Reject)]
                )
                    .prop_map(|(part, end)| (vec![part], end)),
                (per_source(), verdict()).prop_map(|(part, end)| (vec![part], end)),
                refused.prop_map(|end| (Vec::new(), end)),
            ];
            let optional = proptest::option::of;
            let front = (
                optional(interface_match(Side::In).boxed()),
                optional(interface_match(Side::Out).boxed()),
                optional(connection_match().boxed()),
                optional(limit().boxed()),
                optional(log().boxed()),
                any::<bool>(),
            );
            (front, any_end, comment())
                .prop_map(
                    |((input, output, connection, limit, log, counter), end, comment)| {
                        let (middle, end) = end;
                        let counter = counter
                            .then_some(Part::Ready(Expression::Statement(Statement::Counter)));
                        let front = [input, output, connection].into_iter().flatten();
                        let back = [limit, log, counter].into_iter().flatten();
                        let is_map = middle.first().is_some_and(|part| {
                            matches!(
                                part,
                                Part::PortMap { .. }
                                    | Part::DestinationMap { .. }
                                    | Part::PortAddressMap { .. }
                            )
                        });
                        let parts = if is_map {
                            front.chain(back).chain(middle).collect()
                        } else {
                            front.chain(middle).chain(back).collect()
                        };
                        RulePlan {
                            parts,
                            end,
                            comment,
                        }
                    },
                )
                .boxed()
        }
    }
}

#[derive(Debug, Clone)]
struct SetPlan {
    name: String,
    contents: Contents,
    comment: Option<String>,
    /// For a map, the lowest rank of the chains that it leads to.
    rank: Index,
}

#[derive(Debug, Clone)]
struct ChainPlan {
    name: String,
    base: Option<Base>,
    rules: Vec<RulePlan>,
}

/// A ruleset with choices instead of names.
#[derive(Debug, Clone)]
struct Plan {
    sets: Vec<SetPlan>,
    bases: Vec<ChainPlan>,
    chains: Vec<ChainPlan>,
}

fn plan(style: Style) -> impl Strategy<Value = Plan> {
    let priority = prop_oneof![4 => -400..400_i32, 1 => Just(0), 1 => -20..20_i32];
    let base = (
        select(vec![Hook::Prerouting, Hook::Input, Hook::Forward]),
        priority,
    )
        .prop_map(|(hook, priority)| Base { hook, priority });
    let sets = (name(), contents(), comment(), any::<Index>()).prop_map(
        |(name, contents, comment, rank)| SetPlan {
            name,
            contents,
            comment,
            rank,
        },
    );
    let rules = move || vec(rule(style), 0..6);
    let bases = (name(), base, rules()).prop_map(|(name, base, rules)| ChainPlan {
        name,
        base: Some(base),
        rules,
    });
    let chains = (name(), rules()).prop_map(|(name, rules)| ChainPlan {
        name,
        base: None,
        rules,
    });
    (vec(sets, 0..10), vec(bases, 0..4), vec(chains, 0..8)).prop_map(|(sets, bases, chains)| Plan {
        sets,
        bases,
        chains,
    })
}

impl Plan {
    fn build(&self) -> Ruleset {
        let mut ruleset = Ruleset::default();
        let names = |plans: &[ChainPlan], kind: &str| -> Vec<String> {
            let number = |(at, plan): (usize, &ChainPlan)| format!("{kind}{at}{}", plan.name);
            plans.iter().enumerate().map(number).collect()
        };
        let (base_names, chain_names) = (names(&self.bases, "b"), names(&self.chains, "c"));

        // What leads to rank n and above may be used below n only.
        let mut ranks = BTreeMap::new();
        for (at, plan) in self.sets.iter().enumerate() {
            let name = format!("s{at}{}", plan.name);
            let rank = plan.rank.index(chain_names.len() + 1);
            let elements = plan.contents.build(&chain_names[rank..]);
            ranks.insert(name.clone(), rank);
            ruleset.sets.insert(
                name,
                Set {
                    elements,
                    comment: plan.comment.clone(),
                },
            );
        }
        for (name, plan) in base_names.iter().zip(&self.bases) {
            let rules = plan
                .rules
                .iter()
                .map(|rule| rule.build(&ruleset, &ranks, 0, &chain_names));
            let rules = rules.collect();
            ruleset.chains.insert(
                name.clone(),
                Chain {
                    base: plan.base,
                    rules,
                },
            );
        }
        for ((name, plan), rank) in chain_names.iter().zip(&self.chains).zip(1..) {
            let targets = &chain_names[rank..];
            let rules = plan
                .rules
                .iter()
                .map(|rule| rule.build(&ruleset, &ranks, rank, targets));
            let rules = rules.collect();
            ruleset
                .chains
                .insert(name.clone(), Chain { base: None, rules });
        }
        ruleset
    }
}

impl RulePlan {
    /// `rank` is the lowest of the chains that the rule may lead to, `targets` their names.
    fn build(
        &self,
        ruleset: &Ruleset,
        ranks: &BTreeMap<String, usize>,
        rank: usize,
        targets: &[String],
    ) -> Rule {
        let mut expressions = Vec::new();
        for part in &self.parts {
            let pick = |index: &Index, fits: &dyn Fn(&Elements) -> bool| -> Option<String> {
                let fitting = ruleset.sets.iter().filter(|(name, set)| {
                    let leads = set.elements.set_type().map;
                    fits(&set.elements) && (!leads || ranks[*name] >= rank)
                });
                let fitting: Vec<&String> = fitting.map(|(name, _)| name).collect();
                (!fitting.is_empty()).then(|| (*index.get(&fitting)).clone())
            };
            // Without a set that fits the expression is left out.
            expressions.extend(part.build(&pick));
        }
        match &self.end {
            End::Nothing => {}
            End::Verdict(to) => {
                expressions.push(Expression::Statement(Statement::Verdict(to.build(targets))));
            }
            End::Reject => expressions.push(Expression::Statement(Statement::Reject(
                Reject::PortUnreachable,
            ))),
            End::TcpReset => expressions.extend([
                Expression::Port(Port::Protocol(L4Protocol::Tcp)),
                Expression::Statement(Statement::Reject(Reject::TcpReset)),
            ]),
        }
        if expressions.is_empty() {
            expressions.push(Expression::Statement(Statement::Counter));
        }
        Rule {
            expressions,
            comment: self.comment.clone(),
        }
    }
}

/// Chooses among the sets whose elements fit.
type Pick<'a> = dyn Fn(&Index, &dyn Fn(&Elements) -> bool) -> Option<String> + 'a;

impl Part {
    fn build(&self, pick: &Pick<'_>) -> Option<Expression> {
        Some(match self {
            Self::Ready(expression) => expression.clone(),
            Self::InterfaceIn { side, set, member } => Expression::Interface(Interface::In {
                side: *side,
                set: pick(set, &|e| matches!(e, Elements::Interfaces(_)))?,
                member: *member,
            }),
            Self::SourceIn { tuple, family, set } => Expression::Address(Address::SourceIn {
                tuple: *tuple,
                family: *family,
                set: pick(set, &|e| match family {
                    Family::V4 => matches!(e, Elements::Ipv4(_) | Elements::Ipv4Ranges(_)),
                    Family::V6 => matches!(e, Elements::Ipv6(_) | Elements::Ipv6Ranges(_)),
                })?,
            }),
            Self::PortSourceIn {
                tuple,
                protocol,
                family,
                length,
                set,
            } => Expression::Port(Port::SourceIn {
                tuple: *tuple,
                protocol: *protocol,
                family: *family,
                length: u8::try_from(length.index(usize::from(family.bits()) + 1)).ok()?,
                set: pick(set, &|e| match family {
                    Family::V4 => matches!(e, Elements::PortIpv4(_)),
                    Family::V6 => matches!(e, Elements::PortIpv6(_)),
                })?,
            }),
            Self::PortIn { tuple, set } => Expression::Port(Port::In {
                tuple: *tuple,
                set: pick(set, &|e| matches!(e, Elements::PortCounters(_)))?,
            }),
            Self::PortMap {
                tuple,
                protocol,
                map,
            } => Expression::Port(Port::Map {
                tuple: *tuple,
                protocol: *protocol,
                map: pick(map, &|e| matches!(e, Elements::PortVerdicts(_)))?,
            }),
            Self::DestinationIn { family, set } => Expression::Address(Address::DestinationIn {
                family: *family,
                set: pick(set, &|e| match family {
                    Family::V4 => matches!(e, Elements::Ipv4(_) | Elements::Ipv4Ranges(_)),
                    Family::V6 => matches!(e, Elements::Ipv6(_) | Elements::Ipv6Ranges(_)),
                })?,
            }),
            Self::PortAddressMap {
                end,
                protocol,
                family,
                map,
            } => Expression::Port(Port::AddressMap {
                end: *end,
                protocol: *protocol,
                family: *family,
                map: pick(map, &|e| match family {
                    Family::V4 => matches!(e, Elements::PortIpv4Verdicts(_)),
                    Family::V6 => matches!(e, Elements::PortIpv6Verdicts(_)),
                })?,
            }),
            Self::PerSource(asked, set, index) => {
                let mut asked = Expression::PerSource(asked.clone());
                *asked.set_mut()? = pick(index, &|e| e == set)?;
                asked
            }
            Self::DestinationMap { tuple, family, map } => {
                Expression::Address(Address::DestinationMap {
                    tuple: *tuple,
                    family: *family,
                    map: pick(map, &|e| match family {
                        Family::V4 => matches!(e, Elements::Ipv4Verdicts(_)),
                        Family::V6 => matches!(e, Elements::Ipv6Verdicts(_)),
                    })?,
                })
            }
        })
    }
}
