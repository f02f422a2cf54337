//! Interfaces.

use dfw::ruleset::{Expression, Interface, NameMatch, Side};
use nftnl::nftnl_sys as sys;

use super::{Case, IIFNAME, OIFKIND, OIFNAME, REGISTER, case, cmp, eq, lookup, meta, step};
use crate::libnftnl::Value;

pub(super) fn cases() -> Vec<Case> {
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
    let fib = |text, side| {
        let flags = side | IIF | PRESENT;
        step(
            text,
            c"fib",
            &[
                (sys::NFTNL_EXPR_FIB_DREG, REGISTER),
                (sys::NFTNL_EXPR_FIB_RESULT, Value::U32(1)),
                (sys::NFTNL_EXPR_FIB_FLAGS, Value::U32(flags)),
            ],
        )
    };
    cases.push(case(
        Expression::Interface(Interface::SameInterface),
        vec![
            fib("fib daddr . iif oif present => reg 1", DADDR),
            eq("0x00000001", &1_u32.to_ne_bytes()),
        ],
    ));
    cases.push(case(
        Expression::Interface(Interface::NoReversePath),
        vec![
            fib("fib saddr . mark . iif oif present => reg 1", SADDR | MARK),
            eq("0x00000000", &0_u32.to_ne_bytes()),
        ],
    ));
    cases
}

/// `NFTA_FIB_F_SADDR` and the like of `linux/netfilter/nf_tables.h`.
const SADDR: u32 = 1;
const DADDR: u32 = 2;
const MARK: u32 = 4;
const IIF: u32 = 8;
const PRESENT: u32 = 32;
