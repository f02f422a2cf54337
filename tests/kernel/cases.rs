//! Every expression of a rule three times: as dfw has it, as libnftnl 1.2 prints it
//! (`nft --debug=netlink` shows the same), and as libnftnl is told to build it.

use dfw::net::Family;
use std::ffi::CStr;

use dfw::ruleset::{
    Address, Conntrack, Direction, End, Expression, Interface, L4Protocol, MARK, NameMatch, Port,
    Reject, Side, Statement, Tuple, Verdict,
};
use nftnl::nftnl_sys as sys;

use crate::libnftnl::{Raw, Value};

/// What dfw says, the same in the words of libnftnl, and the same built with libnftnl.
pub(crate) struct Case {
    pub(crate) says: Expression,
    pub(crate) printed: Vec<String>,
    pub(crate) built: Vec<Raw>,
}

fn case(says: Expression, steps: Vec<(String, Raw)>) -> Case {
    let (printed, built) = steps.into_iter().unzip();
    Case {
        says,
        printed,
        built,
    }
}

/// One of the kernel's expressions, as it is printed and as it is built.
fn step(printed: &str, name: &'static CStr, attributes: &[(u32, Value)]) -> (String, Raw) {
    (
        printed.to_owned(),
        Raw {
            name,
            attributes: attributes.to_vec(),
        },
    )
}

const REGISTER: Value = Value::U32(1);

fn meta(word: &str, key: u32) -> (String, Raw) {
    let attributes = [
        (sys::NFTNL_EXPR_META_KEY, Value::U32(key)),
        (sys::NFTNL_EXPR_META_DREG, REGISTER),
    ];
    step(&format!("meta load {word} => reg 1"), c"meta", &attributes)
}

fn ct(word: &str, key: u32) -> (String, Raw) {
    let attributes = [
        (sys::NFTNL_EXPR_CT_KEY, Value::U32(key)),
        (sys::NFTNL_EXPR_CT_DREG, REGISTER),
    ];
    step(&format!("ct load {word} => reg 1"), c"ct", &attributes)
}

fn ct_original(word: &str, key: u32) -> (String, Raw) {
    let (_, mut raw) = ct(word, key);
    raw.attributes.push((sys::NFTNL_EXPR_CT_DIR, Value::U8(0)));
    (format!("ct load {word} => reg 1 , dir original"), raw)
}

fn payload(base: (&str, u32), offset: u32, length: u32) -> (String, Raw) {
    step(
        &format!(
            "payload load {length}b @ {} header + {offset} => reg 1",
            base.0
        ),
        c"payload",
        &[
            (sys::NFTNL_EXPR_PAYLOAD_DREG, REGISTER),
            (sys::NFTNL_EXPR_PAYLOAD_BASE, Value::U32(base.1)),
            (sys::NFTNL_EXPR_PAYLOAD_OFFSET, Value::U32(offset)),
            (sys::NFTNL_EXPR_PAYLOAD_LEN, Value::U32(length)),
        ],
    )
}

const NETWORK: (&str, u32) = ("network", 1);
const TRANSPORT: (&str, u32) = ("transport", 2);

fn cmp(word: &str, op: u32, hex: &str, bytes: &[u8]) -> (String, Raw) {
    step(
        &format!("cmp {word} reg 1 {hex}"),
        c"cmp",
        &[
            (sys::NFTNL_EXPR_CMP_SREG, REGISTER),
            (sys::NFTNL_EXPR_CMP_OP, Value::U32(op)),
            (sys::NFTNL_EXPR_CMP_DATA, Value::Bytes(bytes.to_vec())),
        ],
    )
}

fn eq(hex: &str, bytes: &[u8]) -> (String, Raw) {
    cmp("eq", 0, hex, bytes)
}

fn masked(hex: &str, mask: &[u8]) -> (String, Raw) {
    step(
        &format!("bitwise reg 1 = ( reg 1 & {hex} ) ^ 0x00000000"),
        c"bitwise",
        &[
            (sys::NFTNL_EXPR_BITWISE_SREG, REGISTER),
            (sys::NFTNL_EXPR_BITWISE_DREG, REGISTER),
            (
                sys::NFTNL_EXPR_BITWISE_LEN,
                Value::U32(u32::try_from(mask.len()).unwrap_or(0)),
            ),
            (sys::NFTNL_EXPR_BITWISE_MASK, Value::Bytes(mask.to_vec())),
            (
                sys::NFTNL_EXPR_BITWISE_XOR,
                Value::Bytes(vec![0; mask.len()]),
            ),
        ],
    )
}

/// The same for a whole register.
fn all_masked(hex: &str, mask: &[u8]) -> (String, Raw) {
    let (text, raw) = masked(hex, mask);
    (text + &" 0x00000000".repeat(3), raw)
}

/// The same for the second part of a concatenated key.
fn beside((printed, mut raw): (String, Raw)) -> (String, Raw) {
    let registers: &[u32] = match raw.name.to_bytes() {
        b"bitwise" => &[sys::NFTNL_EXPR_BITWISE_SREG, sys::NFTNL_EXPR_BITWISE_DREG],
        b"ct" => &[sys::NFTNL_EXPR_CT_DREG],
        _ => &[sys::NFTNL_EXPR_PAYLOAD_DREG],
    };
    let attributes = raw.attributes.iter_mut();
    for (_, value) in attributes.filter(|(key, _)| registers.contains(key)) {
        *value = Value::U32(9);
    }
    (printed.replace("reg 1", "reg 9"), raw)
}

fn bit(hex: &str, mask: u32) -> [(String, Raw); 2] {
    let bitwise = masked(hex, &mask.to_ne_bytes());
    [bitwise, cmp("neq", 1, "0x00000000", &[0; 4])]
}

fn lookup(set: &'static CStr, member: bool) -> (String, Raw) {
    let mut attributes = vec![
        (sys::NFTNL_EXPR_LOOKUP_SREG, REGISTER),
        (sys::NFTNL_EXPR_LOOKUP_SET, Value::Text(set)),
    ];
    if !member {
        attributes.push((sys::NFTNL_EXPR_LOOKUP_FLAGS, Value::U32(1)));
    }
    let flags = if member { "" } else { " 0x1" };
    step(
        &format!("lookup reg 1 set {}{flags}", set.to_string_lossy()),
        c"lookup",
        &attributes,
    )
}

fn lookup_map(map: &'static CStr) -> (String, Raw) {
    let (printed, mut raw) = lookup(map, true);
    raw.attributes
        .push((sys::NFTNL_EXPR_LOOKUP_DREG, Value::U32(0)));
    (format!("{printed} dreg 0"), raw)
}

/// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO` and `NFT_RETURN`.
pub(crate) const DROP: u32 = 0;
pub(crate) const ACCEPT: u32 = 1;
pub(crate) const JUMP: u32 = (-3_i32).cast_unsigned();
pub(crate) const GOTO: u32 = (-4_i32).cast_unsigned();
pub(crate) const RETURN: u32 = (-5_i32).cast_unsigned();

fn verdict(printed: &str, code: u32, chain: Option<&'static CStr>) -> (String, Raw) {
    let mut attributes = vec![
        (sys::NFTNL_EXPR_IMM_DREG, Value::U32(0)),
        (sys::NFTNL_EXPR_IMM_VERDICT, Value::U32(code)),
    ];
    attributes.extend(chain.map(|chain| (sys::NFTNL_EXPR_IMM_CHAIN, Value::Text(chain))));
    step(
        &format!("immediate reg 0 {printed}"),
        c"immediate",
        &attributes,
    )
}

/// Keys of `enum nft_meta_keys` and `enum nft_ct_keys`.
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const OIFKIND: u32 = 27;
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_MARK: u32 = 3;
const CT_PROTO_DST: u32 = 12;
const CT_LABELS: u32 = 13;

fn interfaces() -> Vec<Case> {
    let named = |side, name, equal| Expression::Interface(Interface::Name { side, name, equal });
    let member = |side, member| {
        Expression::Interface(Interface::In {
            side,
            set: "names".to_owned(),
            member,
        })
    };
    let exact = NameMatch::Exact("eth0".to_owned());
    let prefix = NameMatch::Prefix("br-".to_owned());
    let eth0 = "0x30687465 0x00000000 0x00000000 0x00000000";
    let mut padded = *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0";
    let eth0_cmp = |word, op| cmp(word, op, eth0, &padded);
    let mut cases = vec![
        case(
            named(Side::In, exact.clone(), true),
            vec![meta("iifname", IIFNAME), eth0_cmp("eq", 0)],
        ),
        case(
            named(Side::Out, exact, false),
            vec![meta("oifname", OIFNAME), eth0_cmp("neq", 1)],
        ),
        case(
            named(Side::In, prefix.clone(), true),
            vec![meta("iifname", IIFNAME), eq("0x002d7262", b"br-")],
        ),
        case(
            named(Side::Out, prefix, false),
            vec![
                meta("oifname", OIFNAME),
                cmp("neq", 1, "0x002d7262", b"br-"),
            ],
        ),
        case(
            member(Side::In, true),
            vec![meta("iifname", IIFNAME), lookup(c"names", true)],
        ),
        case(
            member(Side::Out, false),
            vec![meta("oifname", OIFNAME), lookup(c"names", false)],
        ),
    ];
    padded[..6].copy_from_slice(b"bridge");
    let bridge = "0x64697262 0x00006567 0x00000000 0x00000000";
    cases.push(case(
        Expression::Interface(Interface::OutBridge),
        vec![meta("oifkind", OIFKIND), eq(bridge, &padded)],
    ));
    cases
}

fn l4proto(protocol: L4Protocol) -> [(String, Raw); 2] {
    let (hex, number) = match protocol {
        L4Protocol::Icmp => ("0x00000001", 1),
        L4Protocol::Tcp => ("0x00000006", 6),
        L4Protocol::Udp => ("0x00000011", 17),
        L4Protocol::Icmp6 => ("0x0000003a", 58),
        L4Protocol::Sctp => ("0x00000084", 132),
    };
    [meta("l4proto", L4PROTO), eq(hex, &[number])]
}

fn connections() -> Vec<Case> {
    let mut cases: Vec<Case> = L4Protocol::ALL
        .into_iter()
        .map(|p| case(Expression::Port(Port::Protocol(p)), l4proto(p).to_vec()))
        .collect();
    let direction = |hex, number| vec![ct("direction", CT_DIRECTION), eq(hex, &[number])];
    let with_bit = |load, [mask, test]: [(String, Raw); 2]| vec![load, mask, test];
    cases.extend([
        case(
            Expression::Conntrack(Conntrack::Direction(Direction::Original)),
            direction("0x00000000", 0),
        ),
        case(
            Expression::Conntrack(Conntrack::Direction(Direction::Reply)),
            direction("0x00000001", 1),
        ),
        case(
            Expression::Conntrack(Conntrack::DestinationNat),
            with_bit(ct("status", CT_STATUS), bit("0x00000020", 1 << 5)),
        ),
        case(
            Expression::Conntrack(Conntrack::Related),
            with_bit(ct("state", CT_STATE), bit("0x00000004", 1 << 2)),
        ),
        case(Expression::Conntrack(Conntrack::Resumed), resumed()),
        case(
            Expression::Address(Address::Family(Family::V4)),
            vec![meta("nfproto", NFPROTO), eq("0x00000002", &[2])],
        ),
        case(
            Expression::Address(Address::Family(Family::V6)),
            vec![meta("nfproto", NFPROTO), eq("0x0000000a", &[10])],
        ),
        case(Expression::Conntrack(Conntrack::NoteOpening), opening()),
        case(Expression::Conntrack(Conntrack::Opened), opened()),
        case(
            Expression::Conntrack(Conntrack::Mark(MARK)),
            vec![
                ct("mark", CT_MARK),
                eq("0x00000001", &PLANNED.to_ne_bytes()),
            ],
        ),
        case(Expression::Conntrack(Conntrack::SetMark(MARK)), set_mark()),
    ]);
    cases
}

/// The mark of a plan whose random number is 0.
const PLANNED: u32 = 1;

fn set_mark() -> Vec<(String, Raw)> {
    let number = step(
        "immediate reg 1 0x00000001",
        c"immediate",
        &[
            (sys::NFTNL_EXPR_IMM_DREG, REGISTER),
            (
                sys::NFTNL_EXPR_IMM_DATA,
                Value::Bytes(PLANNED.to_ne_bytes().to_vec()),
            ),
        ],
    );
    let set = step(
        "ct set mark with reg 1",
        c"ct",
        &[
            (sys::NFTNL_EXPR_CT_KEY, Value::U32(CT_MARK)),
            (sys::NFTNL_EXPR_CT_SREG, REGISTER),
        ],
    );
    vec![number, set]
}

/// The label that says that this host opened a connection, as libnftnl prints it and as it is.
fn label() -> (&'static str, Vec<u8>) {
    let text = "0x00000000 0x00000000 0x20000000 0x00000000";
    let words = [0u32, 0, 1 << 29, 0];
    (
        text,
        words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
    )
}

/// TCP, of SYN and ACK only SYN, new to connection tracking.
fn opening() -> Vec<(String, Raw)> {
    let mut steps = l4proto(L4Protocol::Tcp).to_vec();
    steps.push(payload(TRANSPORT, 13, 1));
    steps.push(masked("0x00000012", &[0x12]));
    steps.push(eq("0x00000002", &[2]));
    steps.push(ct("state", CT_STATE));
    steps.extend(bit("0x00000008", 1 << 3));
    let (text, label) = label();
    steps.push(step(
        &format!("immediate reg 1 {text}"),
        c"immediate",
        &[
            (sys::NFTNL_EXPR_IMM_DREG, REGISTER),
            (sys::NFTNL_EXPR_IMM_DATA, Value::Bytes(label)),
        ],
    ));
    steps.push(step(
        "ct set label with reg 1",
        c"ct",
        &[
            (sys::NFTNL_EXPR_CT_KEY, Value::U32(CT_LABELS)),
            (sys::NFTNL_EXPR_CT_SREG, REGISTER),
        ],
    ));
    steps
}

/// Replies, on a connection that bears the label.
fn opened() -> Vec<(String, Raw)> {
    let (text, label) = label();
    vec![
        ct("direction", CT_DIRECTION),
        eq("0x00000001", &[1]),
        ct("label", CT_LABELS),
        all_masked(text, &label),
        cmp(
            "neq",
            1,
            "0x00000000 0x00000000 0x00000000 0x00000000",
            &[0; 16],
        ),
    ]
}

/// TCP from below port 32768, new to connection tracking, of SYN and ACK not SYN alone.
fn resumed() -> Vec<(String, Raw)> {
    let mut steps = l4proto(L4Protocol::Tcp).to_vec();
    steps.push(payload(TRANSPORT, 0, 2));
    steps.push(cmp("lt", 2, "0x00000080", &[0x80, 0]));
    steps.push(ct("state", CT_STATE));
    steps.extend(bit("0x00000008", 1 << 3));
    steps.push(payload(TRANSPORT, 13, 1));
    steps.push(masked("0x00000012", &[0x12]));
    steps.push(cmp("neq", 1, "0x00000002", &[2]));
    steps
}

/// How an address is loaded.
fn address(tuple: Tuple, family: Family, source: bool) -> Vec<(String, Raw)> {
    match (tuple, family, source) {
        (Tuple::Original, Family::V4, true) => vec![ct_original("src_ip", 19)],
        (Tuple::Original, Family::V4, false) => vec![ct_original("dst_ip", 20)],
        (Tuple::Original, Family::V6, true) => vec![ct_original("src_ip6", 21)],
        (Tuple::Original, Family::V6, false) => vec![ct_original("dst_ip6", 22)],
        (Tuple::Packet, Family::V4, source) => vec![
            meta("nfproto", NFPROTO),
            eq("0x00000002", &[2]),
            payload(NETWORK, if source { 12 } else { 16 }, 4),
        ],
        (Tuple::Packet, Family::V6, source) => vec![
            meta("nfproto", NFPROTO),
            eq("0x0000000a", &[10]),
            payload(NETWORK, if source { 8 } else { 24 }, 16),
        ],
    }
}

fn addresses() -> Vec<Case> {
    let mut cases = Vec::new();
    for tuple in [Tuple::Original, Tuple::Packet] {
        for (family, sets, map) in [
            (Family::V4, [c"v4", c"ranges4"], c"to4"),
            (Family::V6, [c"v6", c"ranges6"], c"to6"),
        ] {
            for set in sets {
                let name = set.to_string_lossy().into_owned();
                let mut steps = address(tuple, family, true);
                steps.push(lookup(set, true));
                cases.push(case(
                    Expression::Address(Address::SourceIn {
                        tuple,
                        family,
                        set: name,
                    }),
                    steps,
                ));
            }
            if tuple == Tuple::Packet {
                let mut steps = address(tuple, family, false);
                steps.push(lookup(sets[0], true));
                let set = sets[0].to_string_lossy().into_owned();
                cases.push(case(
                    Expression::Address(Address::DestinationIn { family, set }),
                    steps,
                ));
            }
            let mut steps = address(tuple, family, false);
            steps.push(lookup_map(map));
            let map = map.to_string_lossy().into_owned();
            cases.push(case(
                Expression::Address(Address::DestinationMap { tuple, family, map }),
                steps,
            ));
        }
        let loopback = match tuple {
            // All four bytes are compared under a mask, or only the first is.
            Tuple::Original => vec![ct_original("dst_ip", 20), eq("0x0000007f", &[127])],
            Tuple::Packet => vec![
                meta("nfproto", NFPROTO),
                eq("0x00000002", &[2]),
                payload(NETWORK, 16, 1),
                eq("0x0000007f", &[127]),
            ],
        };
        cases.push(case(
            Expression::Address(Address::ToLoopback(tuple)),
            loopback,
        ));
        for protocol in [L4Protocol::Tcp, L4Protocol::Udp, L4Protocol::Sctp] {
            let mut steps = l4proto(protocol).to_vec();
            steps.push(match tuple {
                Tuple::Original => ct_original("proto_dst", CT_PROTO_DST),
                Tuple::Packet => payload(TRANSPORT, 2, 2),
            });
            steps.push(lookup_map(c"ports"));
            let map = "ports".to_owned();
            cases.push(case(
                Expression::Port(Port::Map {
                    tuple,
                    protocol,
                    map,
                }),
                steps,
            ));
        }
    }
    cases
}

fn ports() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tuple, protocol) in [
        (Tuple::Original, L4Protocol::Tcp),
        (Tuple::Packet, L4Protocol::Udp),
    ] {
        let port = || match tuple {
            Tuple::Original => ct_original("proto_dst", CT_PROTO_DST),
            Tuple::Packet => payload(TRANSPORT, 2, 2),
        };
        let cases_of_families = [
            (Family::V4, 24, "0x00ffffff", c"port-v4"),
            (Family::V4, 32, "", c"port-v4"),
            (
                Family::V6,
                48,
                "0xffffffff 0x0000ffff 0x00000000 0x00000000",
                c"port-v6",
            ),
        ];
        for (family, length, hex, set) in cases_of_families {
            let mut steps = l4proto(protocol).to_vec();
            steps.extend(address(tuple, family, true));
            let source = steps.pop();
            steps.push(port());
            steps.extend(source.map(beside));
            if length < family.bits() {
                let mask: Vec<u8> = match family.mask(length) {
                    std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
                    std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let (printed, raw) = beside(masked(hex, &mask));
                let zero = ["0x00000000"].repeat(mask.len() / 4).join(" ");
                steps.push((printed.replace("^ 0x00000000", &format!("^ {zero}")), raw));
            }
            steps.push(lookup(set, true));
            let set = set.to_string_lossy().into_owned();
            cases.push(case(
                Expression::Port(Port::SourceIn {
                    tuple,
                    protocol,
                    family,
                    length,
                    set,
                }),
                steps,
            ));
        }
        cases.extend(ends(protocol));
        let steps = vec![
            meta("l4proto", L4PROTO),
            beside(port()),
            lookup(c"counters", true),
        ];
        let set = "counters".to_owned();
        cases.push(case(Expression::Port(Port::In { tuple, set }), steps));
    }
    cases
}

/// The port and the address at one end of a packet.
fn ends(protocol: L4Protocol) -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, map) in [(Family::V4, c"servers4"), (Family::V6, c"servers6")] {
        for (end, offset) in [(End::Source, 0), (End::Destination, 2)] {
            let mut steps = l4proto(protocol).to_vec();
            steps.extend(address(Tuple::Packet, family, end == End::Source));
            let end_address = steps.pop();
            steps.push(payload(TRANSPORT, offset, 2));
            steps.extend(end_address.map(beside));
            steps.push(lookup_map(map));
            let map = map.to_string_lossy().into_owned();
            cases.push(case(
                Expression::Port(Port::AddressMap {
                    end,
                    protocol,
                    family,
                    map,
                }),
                steps,
            ));
        }
    }
    cases
}

fn logs() -> Vec<Case> {
    let log = step(
        "log prefix dfw refused:",
        c"log",
        &[(sys::NFTNL_EXPR_LOG_PREFIX, Value::Text(c"dfw refused:"))],
    );
    let log_group = step(
        "log prefix dfw refused: group 223 snaplen 0 qthreshold 0",
        c"log",
        &[
            (sys::NFTNL_EXPR_LOG_PREFIX, Value::Text(c"dfw refused:")),
            (sys::NFTNL_EXPR_LOG_GROUP, Value::U16(223)),
        ],
    );
    let expression = |group| {
        Expression::Statement(Statement::Log {
            prefix: "dfw refused:".to_owned(),
            group,
        })
    };
    vec![
        case(expression(None), vec![log]),
        case(expression(Some(223)), vec![log_group]),
    ]
}

fn statements() -> Vec<Case> {
    let fib = step(
        "fib daddr . iif oif present => reg 1",
        c"fib",
        &[
            (sys::NFTNL_EXPR_FIB_DREG, REGISTER),
            (sys::NFTNL_EXPR_FIB_RESULT, Value::U32(1)),
            // `NFTA_FIB_F_DADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT`
            (sys::NFTNL_EXPR_FIB_FLAGS, Value::U32(2 | 8 | 32)),
        ],
    );
    let limit = step(
        "limit rate 10/second burst 20 type packets flags 0x0",
        c"limit",
        &[
            (sys::NFTNL_EXPR_LIMIT_RATE, Value::U64(10)),
            (sys::NFTNL_EXPR_LIMIT_UNIT, Value::U64(1)),
            (sys::NFTNL_EXPR_LIMIT_BURST, Value::U32(20)),
            (sys::NFTNL_EXPR_LIMIT_TYPE, Value::U32(0)),
            (sys::NFTNL_EXPR_LIMIT_FLAGS, Value::U32(0)),
        ],
    );
    let reject = |kind: u32, code: u8| {
        let attributes = [
            (sys::NFTNL_EXPR_REJECT_TYPE, Value::U32(kind)),
            (sys::NFTNL_EXPR_REJECT_CODE, Value::U8(code)),
        ];
        step(
            &format!("reject type {kind} code {code}"),
            c"reject",
            &attributes,
        )
    };
    let target = || "target".to_owned();
    vec![
        case(
            Expression::Interface(Interface::SameInterface),
            vec![fib, eq("0x00000001", &1_u32.to_ne_bytes())],
        ),
        case(
            Expression::Statement(Statement::Limit {
                per_second: 10,
                burst: 20,
            }),
            vec![limit],
        ),
        case(
            Expression::Statement(Statement::Counter),
            vec![step("counter pkts 0 bytes 0", c"counter", &[])],
        ),
        case(
            Expression::Statement(Statement::Reject(Reject::TcpReset)),
            vec![reject(1, 0)],
        ),
        case(
            Expression::Statement(Statement::Reject(Reject::PortUnreachable)),
            vec![reject(2, 1)],
        ),
        case(
            Expression::Statement(Statement::Verdict(Verdict::Accept)),
            vec![verdict("accept", ACCEPT, None)],
        ),
        case(
            Expression::Statement(Statement::Verdict(Verdict::Drop)),
            vec![verdict("drop", DROP, None)],
        ),
        case(
            Expression::Statement(Statement::Verdict(Verdict::Return)),
            vec![verdict("return", RETURN, None)],
        ),
        case(
            Expression::Statement(Statement::Verdict(Verdict::Jump(target()))),
            vec![verdict("jump -> target", JUMP, Some(c"target"))],
        ),
        case(
            Expression::Statement(Statement::Verdict(Verdict::Goto(target()))),
            vec![verdict("goto -> target", GOTO, Some(c"target"))],
        ),
    ]
}

/// Every expression that a rule can have.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = interfaces();
    cases.extend(connections());
    cases.extend(addresses());
    cases.extend(ports());
    cases.extend(logs());
    cases.extend(statements());
    cases
}
