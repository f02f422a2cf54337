//! What rules mean.

use super::*;
use crate::ruleset::{
    Base, Chain, Direction, Elements, Hook, Interval, L4Protocol, MapTo, Set, Side, Tuple,
};

/// The expressions of the rules of a chain.
type Rules<'a> = &'a [&'a [Expression]];

const FROM: &str = "203.0.113.9";

fn packet() -> Packet {
    let flow = Flow {
        source: FROM.parse().unwrap(),
        destination: "203.0.113.1".parse().unwrap(),
        port: Some(80),
    };
    Packet {
        hook: Hook::Forward,
        incoming: "eth0".to_owned(),
        outgoing: Some(Outgoing {
            name: "docker0".to_owned(),
            bridge: true,
        }),
        protocol: L4Protocol::Tcp,
        flow: Flow {
            destination: "172.17.0.2".parse().unwrap(),
            port: Some(8080),
            ..flow
        },
        connection: Some(Connection {
            direction: Direction::Original,
            dnat: true,
            related: false,
            original: flow,
        }),
        arrival: None,
        source_port: None,
        returns: false,
        strays: false,
        resumes: false,
        opened: false,
    }
}

/// A ruleset of chains, of which `forward` and `input` are base chains.
fn ruleset(chains: &[(&str, &[&[Expression]])], sets: Vec<(&str, Elements)>) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for (name, elements) in sets {
        let comment = None;
        ruleset
            .sets
            .insert(name.to_owned(), Set { elements, comment });
    }
    for (name, rules) in chains {
        let hook = match *name {
            "forward" => Some(Hook::Forward),
            "input" => Some(Hook::Input),
            _ => None,
        };
        let rules = rules
            .iter()
            .zip(0..)
            .map(|(rule, index)| Rule::new(rule.to_vec(), format!("{name} {index}")));
        let chain = Chain {
            base: hook.map(|hook| Base { hook, priority: -4 }),
            rules: rules.collect(),
        };
        ruleset.chains.insert((*name).to_owned(), chain);
    }
    ruleset
}

fn accept() -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Accept))
}

fn drop() -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Drop))
}

fn jump(chain: &str) -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Jump(chain.to_owned())))
}

fn goto(chain: &str) -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Goto(chain.to_owned())))
}

fn back() -> Expression {
    Expression::Statement(Statement::Verdict(Verdict::Return))
}

/// The decision and the comments of the rules that led to it.
fn trace(ruleset: &Ruleset, packet: &Packet) -> (Decision, String) {
    let trace = evaluate(ruleset, packet);
    assert!(!trace.unknown, "{trace:?}");
    let comments = trace.steps.iter().filter_map(|step| step.comment.clone());
    (trace.decision, comments.collect::<Vec<_>>().join(", "))
}

/// Whether an expression matches a packet.
fn matches(expression: Expression, sets: Vec<(&str, Elements)>, packet: &Packet) -> bool {
    let hook: &[&[Expression]] = &[&[expression, drop()]];
    let ruleset = ruleset(&[("forward", hook), ("input", hook)], sets);
    evaluate(&ruleset, packet).decision == Decision::Drop
}

#[test]
fn a_jump_comes_back_and_a_goto_does_not() {
    let other: (&str, &[&[Expression]]) = (
        "other",
        &[
            &[Expression::Statement(Statement::Counter)],
            &[back()],
            &[drop()],
        ],
    );
    let jumping: &[&[Expression]] = &[&[jump("other")], &[drop()]];
    let going: &[&[Expression]] = &[&[goto("other")], &[drop()]];
    assert_eq!(
        trace(&ruleset(&[("forward", jumping), other], vec![]), &packet()),
        (Decision::Drop, "forward 1".to_owned())
    );
    assert_eq!(
        trace(&ruleset(&[("forward", going), other], vec![]), &packet()),
        (Decision::Accept, String::new())
    );
    // A goto below a jump comes back to where the jump was.
    let nested = ruleset(
        &[
            ("forward", jumping),
            ("other", &[&[goto("third")], &[accept()]]),
            ("third", &[]),
        ],
        vec![],
    );
    assert_eq!(
        trace(&nested, &packet()),
        (Decision::Drop, "forward 1".to_owned())
    );
}

#[test]
fn a_verdict_of_a_map_ends_the_rule_and_a_miss_does_not() {
    let map = |first| {
        vec![(
            "ports",
            Elements::PortVerdicts(vec![
                MapTo::new(Interval::new(1, 9), Verdict::Drop),
                MapTo::new(Interval::new(first, 90), Verdict::Jump("port".to_owned())),
            ]),
        )]
    };
    let lookup = Expression::Port(Port::Map {
        tuple: Tuple::Original,
        protocol: L4Protocol::Tcp,
        map: "ports".to_owned(),
    });
    let chains: [(&str, &[&[Expression]]); 2] = [
        (
            "forward",
            &[
                &[lookup, drop()],
                &[Expression::Statement(Statement::Reject(Reject::TcpReset))],
            ],
        ),
        ("port", &[&[accept()]]),
    ];
    let found = evaluate(&ruleset(&chains, map(80)), &packet());
    assert_eq!(found.decision, Decision::Accept);
    assert_eq!(found.steps.len(), 2);
    let hit = Hit {
        set: "ports".to_owned(),
        element: Element::Ports(80, 90),
        comment: None,
    };
    assert_eq!(found.steps[0].hits, [hit]);
    assert_eq!(
        trace(&ruleset(&chains, map(81)), &packet()),
        (Decision::Reject, "forward 1".to_owned())
    );
}

#[test]
fn sets_hold_what_is_between_their_ends() {
    let numbers: Vec<u32> = [7, 8, 9, 10].map(|n| 0xcb00_7100 + n).into();
    let found = |elements| {
        let expression = Expression::Address(Address::SourceIn {
            tuple: Tuple::Packet,
            family: Family::V4,
            set: "s".to_owned(),
        });
        matches(expression, vec![("s", elements)], &packet())
    };
    assert!(found(Elements::Ipv4(numbers.clone())));
    assert!(!found(Elements::Ipv4(vec![numbers[1], numbers[3]])));
    assert!(!found(Elements::Ipv4(vec![])));
    for (first, last, is) in [(0, 2, true), (2, 3, true), (0, 1, false), (3, 3, false)] {
        let range = Elements::Ipv4Ranges(vec![
            Interval::new(1, 2),
            Interval::new(numbers[first], numbers[last]),
        ]);
        assert_eq!(found(range), is);
    }
}

#[test]
fn what_a_packet_does_not_have_matches_nothing() {
    let input = Packet {
        hook: Hook::Input,
        outgoing: None,
        connection: None,
        ..packet()
    };
    let out = |equal| {
        Expression::Interface(Interface::Name {
            side: Side::Out,
            name: NameMatch::Prefix("docker".to_owned()),
            equal,
        })
    };
    for expression in [
        Expression::Interface(Interface::OutBridge),
        Expression::Conntrack(Conntrack::Direction(Direction::Original)),
        Expression::Conntrack(Conntrack::Direction(Direction::Reply)),
        Expression::Conntrack(Conntrack::DestinationNat),
        Expression::Conntrack(Conntrack::Related),
        Expression::Address(Address::ToLoopback(Tuple::Original)),
        Expression::Conntrack(Conntrack::Resumed),
        out(true),
    ] {
        assert!(
            !matches(expression.clone(), vec![], &input),
            "{expression:?}"
        );
    }
    // The name of no interface is empty, hence not equal.
    assert!(matches(out(false), vec![], &input));
    let mut icmp = packet();
    icmp.protocol = L4Protocol::Icmp;
    let map = Elements::PortVerdicts(vec![MapTo::new(Interval::new(0, u16::MAX), Verdict::Drop)]);
    let lookup = Expression::Port(Port::Map {
        tuple: Tuple::Original,
        protocol: L4Protocol::Tcp,
        map: "ports".to_owned(),
    });
    assert!(matches(
        lookup.clone(),
        vec![("ports", map.clone())],
        &packet()
    ));
    assert!(!matches(lookup, vec![("ports", map)], &icmp));
}

#[test]
fn what_cannot_be_evaluated_is_told() {
    let name = || "x".to_owned();
    let (set, tuple, family) = (name(), Tuple::Packet, Family::V4);
    let circle: &[&[Expression]] = &[&[jump("x")]];
    let cases: [(Rules, Rules); 4] = [
        (
            &[&[
                Expression::Unknown {
                    name: name(),
                    data: vec![],
                },
                drop(),
            ]],
            &[],
        ),
        (
            &[&[
                Expression::Address(Address::SourceIn { tuple, family, set }),
                drop(),
            ]],
            &[],
        ),
        (&[&[goto("y")]], &[]),
        (circle, circle),
    ];
    for (forward, x) in cases {
        let trace = evaluate(
            &ruleset(&[("forward", forward), ("x", x)], vec![]),
            &packet(),
        );
        assert_eq!((trace.decision, trace.unknown), (Decision::Accept, true));
    }
}
