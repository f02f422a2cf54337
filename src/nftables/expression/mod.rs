//! Expressions of the ruleset as the kernel's instructions, and back.
//!
//! Both directions stand side by side so that one cannot change without the other;
//! `raise(lower(rule)) == rule` is a property test.

use crate::net::Family;
use crate::ruleset::{
    Direction, EPHEMERAL, End, Expression, L4Protocol, NameMatch, OPENED, Reject, Side, Tuple,
};

mod load;
mod port;

use self::port::{ORIGINAL_PORT, load_port};
use super::instruction::Instruction;
use super::number::*;

pub(super) use self::load::{PACKET_PORT, equal, lower_address, lower_protocol};

/// `IFNAMSIZ`.
const NAME_SIZE: usize = 16;
/// What `meta oifkind` says of a bridge.
const BRIDGE: &str = "bridge";
/// The first byte of 127.0.0.0/8.
const LOOPBACK: u8 = 127;

/// The instructions for an expression.
#[expect(clippy::too_many_lines, reason = "one arm for each expression")]
pub(super) fn lower(expression: &Expression, out: &mut Vec<Instruction>) {
    match expression {
        Expression::Interface { side, name, equal } => {
            out.push(Instruction::Meta(interface_key(*side)));
            let data = match name {
                NameMatch::Exact(name) => padded(name),
                NameMatch::Prefix(prefix) => prefix.clone().into_bytes(),
            };
            out.push(Instruction::Cmp {
                op: if *equal { NFT_CMP_EQ } else { NFT_CMP_NEQ },
                data,
            });
        }
        Expression::InterfaceIn { side, set, member } => {
            out.push(Instruction::Meta(interface_key(*side)));
            out.push(Instruction::Lookup {
                set: set.clone(),
                inverted: !member,
                verdict: false,
            });
        }
        Expression::OutBridge => {
            out.push(Instruction::Meta(NFT_META_OIFKIND));
            out.push(equal(padded(BRIDGE)));
        }
        Expression::Protocol(protocol) => lower_protocol(*protocol, out),
        Expression::Direction(direction) => {
            out.push(Instruction::Ct {
                key: NFT_CT_DIRECTION,
                direction: None,
            });
            out.push(equal(vec![match direction {
                Direction::Original => IP_CT_DIR_ORIGINAL,
                Direction::Reply => IP_CT_DIR_REPLY,
            }]));
        }
        Expression::DestinationNat => lower_bit(NFT_CT_STATUS, IPS_DST_NAT, out),
        Expression::Related => lower_bit(NFT_CT_STATE, STATE_RELATED, out),
        Expression::Mark(mark) => {
            out.push(Instruction::Ct {
                key: NFT_CT_MARK,
                direction: None,
            });
            out.push(equal(mark.to_ne_bytes().to_vec()));
        }
        Expression::SetMark(mark) => {
            out.push(Instruction::Value(mark.to_ne_bytes().to_vec()));
            out.push(Instruction::SetCt(NFT_CT_MARK));
        }
        Expression::SourceIn { tuple, family, set } => {
            lower_address(*tuple, *family, End::Source, out);
            out.push(Instruction::Lookup {
                set: set.clone(),
                inverted: false,
                verdict: false,
            });
        }
        Expression::DestinationIn { family, set } => {
            lower_address(Tuple::Packet, *family, End::Destination, out);
            out.push(Instruction::Lookup {
                set: set.clone(),
                inverted: false,
                verdict: false,
            });
        }
        Expression::PortSourceIn {
            tuple,
            protocol,
            family,
            length,
            set,
        } => port::lower_source((*tuple, *protocol, *family), *length, set, out),
        Expression::PortIn { tuple, set } => port::lower_counted(*tuple, set, out),
        Expression::ToLoopback(tuple) => {
            lower_address(*tuple, Family::V4, End::Destination, out);
            if let Some(Instruction::Payload { length, .. }) = out.last_mut() {
                *length = 1;
            }
            out.push(equal(vec![LOOPBACK]));
        }
        Expression::SameInterface => {
            out.push(Instruction::Fib {
                result: NFT_FIB_RESULT_OIF,
                flags: FIB_SAME_INTERFACE,
            });
            out.push(equal(1u32.to_ne_bytes().to_vec()));
        }
        Expression::Resumed => lower_resumed(out),
        Expression::Family(family) => {
            out.push(Instruction::Meta(NFT_META_NFPROTO));
            out.push(equal(vec![match family {
                Family::V4 => NFPROTO_IPV4,
                Family::V6 => NFPROTO_IPV6,
            }]));
        }
        Expression::NoteOpening => lower_opening(out),
        Expression::Opened => lower_opened(out),
        Expression::PortMap {
            tuple,
            protocol,
            map,
        } => {
            lower_protocol(*protocol, out);
            out.push(load_port(*tuple));
            out.push(Instruction::Lookup {
                set: map.clone(),
                inverted: false,
                verdict: true,
            });
        }
        Expression::DestinationMap { tuple, family, map } => {
            lower_address(*tuple, *family, End::Destination, out);
            out.push(Instruction::Lookup {
                set: map.clone(),
                inverted: false,
                verdict: true,
            });
        }
        Expression::PortAddressMap {
            end,
            protocol,
            family,
            map,
        } => port::lower_end(*end, *protocol, *family, map, out),
        Expression::Limit { per_second, burst } => {
            out.push(Instruction::Limit {
                rate: *per_second,
                unit: 1,
                burst: *burst,
            });
        }
        Expression::Log { prefix, group } => out.push(Instruction::Log {
            prefix: prefix.clone(),
            group: *group,
        }),
        Expression::Counter => out.push(Instruction::Counter),
        Expression::Reject(Reject::TcpReset) => {
            out.push(Instruction::Reject {
                kind: NFT_REJECT_TCP_RST,
                code: 0,
            });
        }
        Expression::Reject(Reject::PortUnreachable) => out.push(Instruction::Reject {
            kind: NFT_REJECT_ICMPX_UNREACH,
            code: NFT_REJECT_ICMPX_PORT_UNREACH,
        }),
        Expression::Verdict(verdict) => out.push(Instruction::Immediate(verdict.clone())),
        Expression::Unknown { name, data } => {
            out.push(Instruction::Raw {
                name: name.clone(),
                data: data.clone(),
            });
        }
    }
}

/// The expressions that a rule's instructions make; what fits none becomes
/// [`Expression::Unknown`], one for each instruction.
pub(super) fn raise(instructions: &[Instruction], raw: &[(String, Vec<u8>)]) -> Vec<Expression> {
    let mut expressions = Vec::new();
    let mut at = 0;
    while at < instructions.len() {
        if let Some((expression, used)) = raise_first(&instructions[at..]) {
            expressions.push(expression);
            at += used;
        } else {
            let (name, data) = raw.get(at).cloned().unwrap_or_default();
            expressions.push(Expression::Unknown { name, data });
            at += 1;
        }
    }
    expressions
}

/// The expression that the first instructions make and how many they are.
#[expect(clippy::too_many_lines, reason = "one arm for each expression")]
fn raise_first(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    use Instruction::{
        Beside, Cmp, Counter, Ct, Fib, Immediate, Limit, Log, Lookup, Mask, Meta, Raw, SetCt, Value,
    };
    // The third is what tells those of many instructions from others.
    let whole = match instructions.get(2) {
        Some(Instruction::Payload { offset: 0, .. }) => Some(Expression::Resumed),
        Some(Instruction::Payload { offset: 13, .. }) => Some(Expression::NoteOpening),
        Some(Instruction::Ct {
            key: NFT_CT_LABELS, ..
        }) => Some(Expression::Opened),
        _ => None,
    };
    if let Some(expression) = whole {
        let mut whole = Vec::new();
        lower(&expression, &mut whole);
        if instructions.starts_with(&whole) {
            return Some((expression, whole.len()));
        }
    }
    Some(match instructions {
        [
            Meta(NFT_META_L4PROTO),
            Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            rest @ ..,
        ] => {
            let protocol = protocol(data)?;
            match rest {
                [
                    port,
                    Lookup {
                        set,
                        inverted: false,
                        verdict: true,
                    },
                    ..,
                ] if *port == ORIGINAL_PORT || *port == PACKET_PORT => {
                    let tuple = if *port == ORIGINAL_PORT {
                        Tuple::Original
                    } else {
                        Tuple::Packet
                    };
                    (
                        Expression::PortMap {
                            tuple,
                            protocol,
                            map: set.clone(),
                        },
                        4,
                    )
                }
                _ => port::raise_source(instructions, protocol)
                    .or_else(|| port::raise_end(instructions, protocol))
                    .unwrap_or((Expression::Protocol(protocol), 2)),
            }
        }
        [Meta(NFT_META_L4PROTO), Beside(_), ..] => return port::raise_counted(instructions),
        [
            Meta(NFT_META_OIFKIND),
            Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] if *data == padded(BRIDGE) => (Expression::OutBridge, 2),
        [
            Meta(key @ (NFT_META_IIFNAME | NFT_META_OIFNAME)),
            Cmp { op, data },
            ..,
        ] => {
            let equal = match *op {
                NFT_CMP_EQ => true,
                NFT_CMP_NEQ => false,
                _ => return None,
            };
            (
                Expression::Interface {
                    side: side(*key),
                    name: name(data)?,
                    equal,
                },
                2,
            )
        }
        [
            Meta(key @ (NFT_META_IIFNAME | NFT_META_OIFNAME)),
            Lookup {
                set,
                inverted,
                verdict: false,
            },
            ..,
        ] => {
            let (side, set) = (side(*key), set.clone());
            (
                Expression::InterfaceIn {
                    side,
                    set,
                    member: !inverted,
                },
                2,
            )
        }
        [
            Ct {
                key: NFT_CT_DIRECTION,
                direction: None,
            },
            Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] => {
            let direction = match data[..] {
                [IP_CT_DIR_ORIGINAL] => Direction::Original,
                [IP_CT_DIR_REPLY] => Direction::Reply,
                _ => return None,
            };
            (Expression::Direction(direction), 2)
        }
        [
            Ct {
                key: NFT_CT_MARK,
                direction: None,
            },
            Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] => (Expression::Mark(host_order(data)?), 2),
        [Value(data), SetCt(NFT_CT_MARK), ..] => (Expression::SetMark(host_order(data)?), 2),
        [
            Ct {
                key,
                direction: None,
            },
            Mask(mask),
            Cmp {
                op: NFT_CMP_NEQ,
                data,
            },
            ..,
        ] if *data == [0; 4] => match (*key, host_order(mask)?) {
            (NFT_CT_STATUS, IPS_DST_NAT) => (Expression::DestinationNat, 3),
            (NFT_CT_STATE, STATE_RELATED) => (Expression::Related, 3),
            _ => return None,
        },
        [
            Fib {
                result: NFT_FIB_RESULT_OIF,
                flags,
            },
            Cmp {
                op: NFT_CMP_EQ,
                data,
            },
            ..,
        ] if *flags == FIB_SAME_INTERFACE && *data == 1u32.to_ne_bytes() => {
            (Expression::SameInterface, 2)
        }
        [
            Limit {
                rate,
                unit: 1,
                burst,
            },
            ..,
        ] => (
            Expression::Limit {
                per_second: *rate,
                burst: *burst,
            },
            1,
        ),
        [Log { prefix, group }, ..] => (
            Expression::Log {
                prefix: prefix.clone(),
                group: *group,
            },
            1,
        ),
        [Counter, ..] => (Expression::Counter, 1),
        [Instruction::Reject { kind, code }, ..] => {
            let reject = match (*kind, *code) {
                (NFT_REJECT_TCP_RST, _) => Reject::TcpReset,
                (NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH) => {
                    Reject::PortUnreachable
                }
                _ => return None,
            };
            (Expression::Reject(reject), 1)
        }
        [Immediate(verdict), ..] => (Expression::Verdict(verdict.clone()), 1),
        [Raw { name, data }, ..] => (
            Expression::Unknown {
                name: name.clone(),
                data: data.clone(),
            },
            1,
        ),
        _ => return raise_address(instructions).or_else(|| raise_family(instructions)),
    })
}

/// A family for its own sake, and not in front of an address.
fn raise_family(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    [Family::V4, Family::V6].into_iter().find_map(|family| {
        let mut whole = Vec::new();
        lower(&Expression::Family(family), &mut whole);
        let is_so = instructions.starts_with(&whole);
        is_so.then_some((Expression::Family(family), whole.len()))
    })
}

/// Lookups and comparisons of an address.
fn raise_address(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    for tuple in [Tuple::Original, Tuple::Packet] {
        for family in [Family::V4, Family::V6] {
            for end in [End::Source, End::Destination] {
                let mut load = Vec::new();
                lower_address(tuple, family, end, &mut load);
                let used = load.len() + 1;
                let expression = match (instructions.strip_prefix(&load[..]), end) {
                    (
                        Some(
                            [
                                Instruction::Lookup {
                                    set,
                                    inverted: false,
                                    verdict,
                                },
                                ..,
                            ],
                        ),
                        end,
                    ) => {
                        let set = set.clone();
                        match (end, verdict) {
                            (End::Source, false) => Expression::SourceIn { tuple, family, set },
                            (End::Destination, false) if tuple == Tuple::Packet => {
                                Expression::DestinationIn { family, set }
                            }
                            (End::Destination, true) => Expression::DestinationMap {
                                tuple,
                                family,
                                map: set,
                            },
                            _ => continue,
                        }
                    }
                    _ => continue,
                };
                return Some((expression, used));
            }
        }
        let mut loopback = Vec::new();
        lower(&Expression::ToLoopback(tuple), &mut loopback);
        if instructions.starts_with(&loopback) {
            return Some((Expression::ToLoopback(tuple), loopback.len()));
        }
    }
    None
}

/// `fib daddr . iif oif exists`
const FIB_SAME_INTERFACE: u32 = NFTA_FIB_F_DADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;
/// Flags of TCP (RFC 9293, 3.1).
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// A number of four bytes in host byte order.
fn host_order(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_ne_bytes)
}

/// Matches TCP from a port that servers use, in the middle of a connection that begins only for
/// connection tracking.
fn lower_resumed(out: &mut Vec<Instruction>) {
    lower_protocol(L4Protocol::Tcp, out);
    out.push(Instruction::Payload {
        base: NFT_PAYLOAD_TRANSPORT_HEADER,
        offset: 0,
        length: 2,
    });
    out.push(Instruction::Cmp {
        op: NFT_CMP_LT,
        data: EPHEMERAL.to_be_bytes().to_vec(),
    });
    lower_bit(NFT_CT_STATE, STATE_NEW, out);
    out.push(Instruction::Payload {
        base: NFT_PAYLOAD_TRANSPORT_HEADER,
        offset: 13,
        length: 1,
    });
    out.push(Instruction::Mask(vec![TCP_SYN | TCP_ACK]));
    out.push(Instruction::Cmp {
        op: NFT_CMP_NEQ,
        data: vec![TCP_SYN],
    });
}

/// Matches the first segment of a TCP connection, and notes on it that this host opened it.
fn lower_opening(out: &mut Vec<Instruction>) {
    lower_protocol(L4Protocol::Tcp, out);
    out.push(Instruction::Payload {
        base: NFT_PAYLOAD_TRANSPORT_HEADER,
        offset: 13,
        length: 1,
    });
    out.push(Instruction::Mask(vec![TCP_SYN | TCP_ACK]));
    out.push(equal(vec![TCP_SYN]));
    lower_bit(NFT_CT_STATE, STATE_NEW, out);
    out.push(Instruction::Value(label(OPENED)));
    out.push(Instruction::SetCt(NFT_CT_LABELS));
}

/// Matches replies on such a connection.
fn lower_opened(out: &mut Vec<Instruction>) {
    lower(&Expression::Direction(Direction::Reply), out);
    out.push(Instruction::Ct {
        key: NFT_CT_LABELS,
        direction: None,
    });
    out.push(Instruction::Mask(label(OPENED)));
    out.push(Instruction::Cmp {
        op: NFT_CMP_NEQ,
        data: vec![0; LABEL],
    });
}

/// How many bytes a label has (`NF_CT_LABELS_MAX_SIZE` of `net/netfilter/nf_conntrack_labels.h`).
const LABEL: usize = 16;

/// A label of one bit, as a bitmap of the kernel: words of the machine's size in its byte order.
fn label(bit: u8) -> Vec<u8> {
    let (word, bit) = (u32::from(bit) / usize::BITS, u32::from(bit) % usize::BITS);
    let words = LABEL / size_of::<usize>();
    let word = |at: usize| {
        if u32::try_from(at) == Ok(word) {
            1 << bit
        } else {
            0usize
        }
    };
    (0..words).flat_map(|at| word(at).to_ne_bytes()).collect()
}

/// Matches if a bit of a conntrack word is set.
fn lower_bit(key: u32, bit: u32, out: &mut Vec<Instruction>) {
    out.push(Instruction::Ct {
        key,
        direction: None,
    });
    out.push(Instruction::Mask(bit.to_ne_bytes().to_vec()));
    out.push(Instruction::Cmp {
        op: NFT_CMP_NEQ,
        data: vec![0; 4],
    });
}

fn interface_key(side: Side) -> u32 {
    match side {
        Side::In => NFT_META_IIFNAME,
        Side::Out => NFT_META_OIFNAME,
    }
}

fn side(key: u32) -> Side {
    if key == NFT_META_OIFNAME {
        Side::Out
    } else {
        Side::In
    }
}

fn protocol(data: &[u8]) -> Option<L4Protocol> {
    L4Protocol::ALL
        .into_iter()
        .find(|protocol| data == [protocol.number()])
}

/// A name as the kernel compares it as a whole.
pub(in crate::nftables) fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_SIZE, 0);
    bytes
}

/// A name from its padded form; `None` if it is none.
pub(super) fn unpadded(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&b| b == 0)?;
    let fine = bytes.len() == NAME_SIZE && bytes[end..].iter().all(|&b| b == 0);
    fine.then(|| String::from_utf8(bytes[..end].to_vec()).ok())
        .flatten()
}

fn name(data: &[u8]) -> Option<NameMatch> {
    match data.len() {
        NAME_SIZE => unpadded(data).map(NameMatch::Exact),
        _ if data.contains(&0) => None,
        _ => String::from_utf8(data.to_vec()).ok().map(NameMatch::Prefix),
    }
}
