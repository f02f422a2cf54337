//! Families and addresses.

use dfw::net::Family;
use dfw::ruleset::{Address, Expression, Tuple};

use nftnl::nftnl_sys as sys;

use super::{
    Case, NETWORK, NFPROTO, REGISTER, case, ct_original, eq, lookup, lookup_map, meta, payload,
    step,
};
use crate::libnftnl::{Raw, Value};

/// How an address is loaded.
pub(super) fn address(tuple: Tuple, family: Family, source: bool) -> Vec<(String, Raw)> {
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

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            Expression::Address(Address::Family(Family::V4)),
            vec![meta("nfproto", NFPROTO), eq("0x00000002", &[2])],
        ),
        case(
            Expression::Address(Address::Family(Family::V6)),
            vec![meta("nfproto", NFPROTO), eq("0x0000000a", &[10])],
        ),
    ];
    cases.push(case(
        Expression::Address(Address::Local),
        vec![
            step(
                "fib daddr type => reg 1",
                c"fib",
                &[
                    (sys::NFTNL_EXPR_FIB_DREG, REGISTER),
                    (sys::NFTNL_EXPR_FIB_RESULT, Value::U32(3)),
                    (sys::NFTNL_EXPR_FIB_FLAGS, Value::U32(2)),
                ],
            ),
            // `RTN_LOCAL` of `linux/rtnetlink.h`.
            eq("0x00000002", &2_u32.to_ne_bytes()),
        ],
    ));
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
    }
    cases
}
