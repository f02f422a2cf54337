//! libnftnl as a witness of every expression and every kind of set, in both directions.

use std::ffi::CStr;

use anyhow::{Context, Result, ensure};
use dfw::ruleset::{
    Base, Chain, Counting, Elements, Hook, Interval, L4Protocol, MapTo, Rule, Ruleset, Set, Verdict,
};
use nftnl::nftnl_sys as sys;
use nftnl::{MsgType, ProtoFamily};

use crate::Named;
use crate::cases::{ACCEPT, DROP, GOTO, JUMP, RETURN, cases};
use crate::encoded;
use crate::libnftnl::{self, Element};
use crate::namespace::Sandbox;
use crate::property::same;

pub(crate) const TRIALS: &[Named] = &[
    (
        "libnftnl_reads_every_expression",
        libnftnl_reads_every_expression,
    ),
    ("libnftnl_reads_every_set", libnftnl_reads_every_set),
    (
        "dfw_reads_what_libnftnl_writes",
        dfw_reads_what_libnftnl_writes,
    ),
];

/// A set of dfw, its attributes as numbers, and its elements as the kernel has them.
struct SetCase {
    name: &'static str,
    elements: Elements,
    flags: u32,
    key: (u32, u32),
    size: u32,
    verdicts: bool,
    raw: Vec<Element>,
}

fn key(key: &[u8]) -> Element {
    Element {
        key: key.to_vec(),
        end: false,
        verdict: None,
    }
}

fn end(key: &[u8]) -> Element {
    Element {
        key: key.to_vec(),
        end: true,
        verdict: None,
    }
}

fn leads(key: &[u8], code: u32, chain: Option<&'static CStr>) -> Element {
    Element {
        key: key.to_vec(),
        end: false,
        verdict: Some((code, chain)),
    }
}

/// `NFT_SET_INTERVAL`, `NFT_SET_MAP`, `NFT_SET_TIMEOUT` and `NFT_SET_EVAL`.
const INTERVAL: u32 = 4;
const MAP: u32 = 8;
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
/// The least that a hash is made for.
const ROOM: u32 = 16;

fn sets() -> Vec<SetCase> {
    let mut sets = address_sets();
    sets.extend(port_sets());
    sets.extend(added_sets());
    sets
}

/// Sets to which rules add sources.
fn added_sets() -> Vec<SetCase> {
    let set = |name, elements, flags, key| SetCase {
        name,
        elements,
        flags,
        key,
        size: 65_535,
        verdicts: false,
        raw: Vec::new(),
    };
    let until = DYNAMIC | TIMEOUT;
    vec![
        set("rate4", Elements::Ipv4AddedUntil(Vec::new()), until, (7, 4)),
        set(
            "rate6",
            Elements::Ipv6AddedUntil(Vec::new()),
            until,
            (8, 16),
        ),
        set("open4", Elements::Ipv4Added(Vec::new()), DYNAMIC, (7, 4)),
        set("open6", Elements::Ipv6Added(Vec::new()), DYNAMIC, (8, 16)),
    ]
}

fn address_sets() -> Vec<SetCase> {
    let target = || "target".to_owned();
    let set = |name, elements, flags, key, size, raw| SetCase {
        name,
        elements,
        flags,
        key,
        size,
        verdicts: flags & MAP != 0,
        raw,
    };
    // 7 is nft's number for an IPv4 address, 8 for IPv6, 13 for a port, 41 for an interface.
    let (v4, v6, port, name) = ((7, 4), (8, 16), (13, 2), (41, 16));
    let six = |last: u8| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let wide = |last: u8| u128::from_be_bytes(six(last));
    vec![
        set(
            "names",
            Elements::Interfaces(vec!["docker0".to_owned()]),
            0,
            name,
            ROOM,
            vec![key(b"docker0\0\0\0\0\0\0\0\0\0")],
        ),
        set(
            "v4",
            Elements::Ipv4(vec![0xcb00_7109, 0xcb00_710a]),
            0,
            v4,
            ROOM,
            vec![key(&[203, 0, 113, 9]), key(&[203, 0, 113, 10])],
        ),
        set(
            "ranges4",
            Elements::Ipv4Ranges(vec![
                Interval::new(0x0a00_0000, 0x0aff_ffff),
                Interval::new(0xffff_fff0, u32::MAX),
            ]),
            INTERVAL,
            v4,
            0,
            vec![
                key(&[10, 0, 0, 0]),
                end(&[11, 0, 0, 0]),
                key(&[255, 255, 255, 240]),
            ],
        ),
        set(
            "v6",
            Elements::Ipv6(vec![wide(1)]),
            0,
            v6,
            ROOM,
            vec![key(&six(1))],
        ),
        set(
            "ranges6",
            Elements::Ipv6Ranges(vec![Interval::new(wide(0), wide(15))]),
            INTERVAL,
            v6,
            0,
            vec![key(&six(0)), end(&six(16))],
        ),
        set(
            "ports",
            Elements::PortVerdicts(vec![
                MapTo::new(Interval::new(80, 80), Verdict::Goto(target())),
                MapTo::new(Interval::new(8000, 8010), Verdict::Jump(target())),
                MapTo::new(Interval::new(8011, 8011), Verdict::Drop),
                MapTo::new(Interval::new(65535, 65535), Verdict::Accept),
            ]),
            INTERVAL | MAP,
            port,
            0,
            vec![
                leads(&[0, 80], GOTO, Some(c"target")),
                end(&[0, 81]),
                leads(&[31, 64], JUMP, Some(c"target")),
                end(&[31, 75]),
                leads(&[31, 75], DROP, None),
                end(&[31, 76]),
                leads(&[255, 255], ACCEPT, None),
            ],
        ),
        set(
            "to4",
            Elements::Ipv4Verdicts(vec![MapTo::new(0xcb00_710a, Verdict::Goto(target()))]),
            MAP,
            v4,
            ROOM,
            vec![leads(&[203, 0, 113, 10], GOTO, Some(c"target"))],
        ),
        set(
            "to6",
            Elements::Ipv6Verdicts(vec![MapTo::new(wide(9), Verdict::Return)]),
            MAP,
            v6,
            ROOM,
            vec![leads(&six(9), RETURN, None)],
        ),
    ]
}

/// nft's number for the type of a key of two parts, six bits each, and the key's length.
fn concatenated(first: u32, second: u32, length: u32) -> (u32, u32) {
    (first << 6 | second, length)
}

/// Sets of ports and something else; 12 is nft's number for a protocol.
fn port_sets() -> Vec<SetCase> {
    let set = |name, elements, key, raw| SetCase {
        name,
        elements,
        flags: 0,
        key,
        size: ROOM,
        verdicts: false,
        raw,
    };
    let six = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        set(
            "port-v4",
            Elements::PortIpv4(vec![(80, 0xcb00_7100), (8080, 0)]),
            concatenated(13, 7, 8),
            vec![
                key(&[0, 80, 0, 0, 203, 0, 113, 0]),
                key(&[31, 144, 0, 0, 0, 0, 0, 0]),
            ],
        ),
        set(
            "port-v6",
            Elements::PortIpv6(vec![(80, u128::from_be_bytes(six))]),
            concatenated(13, 8, 20),
            vec![key(&[&[0, 80, 0, 0][..], &six].concat())],
        ),
        SetCase {
            flags: MAP,
            verdicts: true,
            ..set(
                "servers4",
                Elements::PortIpv4Verdicts(vec![MapTo::new((53, 0xac11_0002), Verdict::Drop)]),
                concatenated(13, 7, 8),
                vec![leads(&[0, 53, 0, 0, 172, 17, 0, 2], DROP, None)],
            )
        },
        SetCase {
            flags: MAP,
            verdicts: true,
            ..set(
                "servers6",
                Elements::PortIpv6Verdicts(vec![MapTo::new(
                    (53, u128::from_be_bytes(six)),
                    Verdict::Goto("target".to_owned()),
                )]),
                concatenated(13, 8, 20),
                vec![leads(
                    &[&[0, 53, 0, 0][..], &six].concat(),
                    GOTO,
                    Some(c"target"),
                )],
            )
        },
        set(
            "counters",
            Elements::PortCounters(vec![
                Counting {
                    key: (L4Protocol::Tcp, 80),
                    comment: None,
                },
                Counting {
                    key: (L4Protocol::Udp, 53),
                    comment: None,
                },
            ]),
            concatenated(12, 13, 8),
            vec![
                key(&[6, 0, 0, 0, 0, 80, 0, 0]),
                key(&[17, 0, 0, 0, 0, 53, 0, 0]),
            ],
        ),
    ]
}

const BASE: Base = Base {
    hook: Hook::Input,
    priority: -4,
};

/// Every case as a rule of one base chain, with all sets and a chain to jump to.
fn ruleset() -> Ruleset {
    let rules = cases()
        .into_iter()
        .map(|case| Rule::new(vec![case.says], None))
        .collect();
    let set = |case: SetCase| {
        (
            case.name.to_owned(),
            Set {
                elements: case.elements,
                comment: None,
            },
        )
    };
    Ruleset {
        sets: sets().into_iter().map(set).collect(),
        chains: [
            (
                "base".to_owned(),
                Chain {
                    base: Some(BASE),
                    rules,
                },
            ),
            ("target".to_owned(), Chain::default()),
        ]
        .into(),
        unknown: Vec::new(),
    }
}

fn bytes() -> Vec<u8> {
    encoded::replacing(&ruleset(), "", 1).bytes
}

fn libnftnl_reads_every_expression() -> Result<()> {
    let printed = libnftnl::printed_rules(&bytes())?;
    let cases = cases();
    same(&printed.len(), &cases.len())?;
    for (printed, case) in printed.iter().zip(cases) {
        same(printed, &case.printed).with_context(|| format!("{:?}", case.says))?;
    }
    Ok(())
}

fn libnftnl_reads_every_set() -> Result<()> {
    let read = libnftnl::read_sets(&bytes())?;
    let mut cases = sets();
    cases.sort_by_key(|case| case.name);
    same(&read.len(), &cases.len())?;
    for (read, case) in read.iter().zip(cases) {
        let expected = built_set(&case)?;
        for number in [
            sys::NFTNL_SET_FLAGS,
            sys::NFTNL_SET_KEY_TYPE,
            sys::NFTNL_SET_KEY_LEN,
            sys::NFTNL_SET_DATA_TYPE,
            sys::NFTNL_SET_DESC_SIZE,
        ] {
            same(&read.number(number), &expected.number(number))
                .with_context(|| format!("attribute {number} of {}", case.name))?;
        }
        let printed = read.printed()?;
        same(&printed, &expected.printed()?).context(case.name)?;
        // Printed alike would be no proof if libnftnl printed nothing.
        let count = printed.matches("element ").count();
        ensure!(count == case.raw.len(), "{count} elements:\n{printed}");
    }
    Ok(())
}

fn built_set(case: &SetCase) -> Result<libnftnl::Set> {
    /// `NFT_DATA_VERDICT`.
    const VERDICT: u32 = 0xffff_ff00;
    let mut attributes = vec![
        (sys::NFTNL_SET_FAMILY, ProtoFamily::Inet as u32),
        (sys::NFTNL_SET_FLAGS, case.flags),
        (sys::NFTNL_SET_KEY_TYPE, case.key.0),
        (sys::NFTNL_SET_KEY_LEN, case.key.1),
        (sys::NFTNL_SET_ID, 1),
    ];
    if case.size > 0 {
        attributes.push((sys::NFTNL_SET_DESC_SIZE, case.size));
    }
    if case.verdicts {
        attributes.extend([
            (sys::NFTNL_SET_DATA_TYPE, VERDICT),
            (sys::NFTNL_SET_DATA_LEN, 0),
        ]);
    }
    let set = libnftnl::Set::new(c"dfw-nft", case.name, &attributes)?;
    if case.elements.set_type().counting {
        set.count();
    }
    case.raw.iter().for_each(|element| set.add(element));
    Ok(set)
}

/// The whole ruleset once more, built by libnftnl and sent by libmnl.
fn dfw_reads_what_libnftnl_writes() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.namespace().run(|| {
        let mut batch = nftnl::Batch::new();
        let table = nftnl::Table::new(c"dfw-nft", ProtoFamily::Inet);
        batch.add(&table, MsgType::Add);
        let mut base = nftnl::Chain::new(c"base", &table);
        base.set_type(nftnl::ChainType::Filter);
        base.set_hook(nftnl::Hook::In, BASE.priority);
        base.set_policy(nftnl::Policy::Accept);
        batch.add(&base, MsgType::Add);
        batch.add(&nftnl::Chain::new(c"target", &table), MsgType::Add);
        for case in sets() {
            let set = built_set(&case)?;
            batch.add(&set, MsgType::Add);
            if !case.raw.is_empty() {
                batch.add(&set.elements(), MsgType::Add);
            }
        }
        for case in cases() {
            let mut rule = nftnl::Rule::new(&base);
            case.built
                .iter()
                .for_each(|expression| rule.add_expr(expression));
            batch.add(&rule, MsgType::Add);
        }
        libnftnl::send(&mnl::Socket::new(mnl::Bus::Netfilter)?, batch)
    })?;
    same(&sandbox.installed()?, &ruleset())
}
