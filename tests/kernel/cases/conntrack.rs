//! Connections.

use dfw::ruleset::{Conntrack, Direction, Expression, L4Protocol, MARK};
use nftnl::nftnl_sys as sys;

use super::port::l4proto;
use super::{
    CT_DIRECTION, CT_LABELS, CT_MARK, CT_STATE, CT_STATUS, Case, REGISTER, TRANSPORT, all_masked,
    bit, case, cmp, ct, eq, masked, payload, step,
};
use crate::libnftnl::{Raw, Value};

pub(super) fn cases() -> Vec<Case> {
    let direction = |hex, number| vec![ct("direction", CT_DIRECTION), eq(hex, &[number])];
    let with_bit = |load, [mask, test]: [(String, Raw); 2]| vec![load, mask, test];
    vec![
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
        case(Expression::Conntrack(Conntrack::NoteOpening), opening()),
        case(Expression::Conntrack(Conntrack::Opened), opened()),
        case(Expression::Conntrack(Conntrack::First), first()),
        case(
            Expression::Conntrack(Conntrack::Mark(MARK)),
            vec![
                ct("mark", CT_MARK),
                eq("0x00000001", &PLANNED.to_ne_bytes()),
            ],
        ),
        case(Expression::Conntrack(Conntrack::SetMark(MARK)), set_mark()),
    ]
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

/// New to connection tracking, and not confirmed.
fn first() -> Vec<(String, Raw)> {
    let mut steps = vec![ct("state", CT_STATE)];
    steps.extend(bit("0x00000008", 1 << 3));
    steps.push(ct("status", CT_STATUS));
    steps.push(masked("0x00000008", &8_u32.to_ne_bytes()));
    steps.push(eq("0x00000000", &[0; 4]));
    steps
}

/// TCP, of SYN and ACK only SYN.
fn syn() -> Vec<(String, Raw)> {
    let mut steps = l4proto(L4Protocol::Tcp).to_vec();
    steps.push(payload(TRANSPORT, 13, 1));
    steps.push(masked("0x00000012", &[0x12]));
    steps.push(eq("0x00000002", &[2]));
    steps
}

/// TCP, of SYN and ACK only SYN, new to connection tracking.
fn opening() -> Vec<(String, Raw)> {
    let mut steps = syn();
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
