//! Limits per source.

use std::ffi::CStr;

use dfw::net::{Family, Per, Rate};
use dfw::ruleset::{Expression, PerSource, Tuple};
use nftnl::nftnl_sys as sys;

use super::address::address;
use super::{Case, REGISTER, all_masked, case, lookup, step};
use crate::libnftnl::{Raw, Value};

/// `NFTNL_EXPR_CONNLIMIT_COUNT` and `NFTNL_EXPR_CONNLIMIT_FLAGS` of libnftnl 1.1.0 and later.
const COUNT: u32 = 1;
const FLAGS: u32 = 2;
/// `NFT_DYNSET_OP_ADD` and `NFT_DYNSET_OP_UPDATE`.
const ADD: u32 = 0;
const UPDATE: u32 = 1;

/// The source of a connection, of IPv6 the network.
fn source(family: Family) -> Vec<(String, Raw)> {
    let mut steps = address(Tuple::Original, family, true);
    if family == Family::V6 {
        let mask = [[0xff; 8], [0; 8]].concat();
        let hex = "0xffffffff 0xffffffff 0x00000000 0x00000000";
        steps.push(all_masked(hex, &mask));
    }
    steps
}

fn dynset(
    (word, operation): (&str, u32),
    set: &'static CStr,
    timeout: Option<u64>,
    (printed, limit): (String, Raw),
) -> (String, Raw) {
    let mut attributes = vec![
        (sys::NFTNL_EXPR_DYNSET_SET_NAME, Value::Text(set)),
        (sys::NFTNL_EXPR_DYNSET_OP, Value::U32(operation)),
        (sys::NFTNL_EXPR_DYNSET_SREG_KEY, REGISTER),
    ];
    attributes.extend(timeout.map(|ms| (sys::NFTNL_EXPR_DYNSET_TIMEOUT, Value::U64(ms))));
    attributes.push((
        sys::NFTNL_EXPR_DYNSET_EXPR,
        Value::Expression(Box::new(limit)),
    ));
    let timeout = timeout.map_or_else(String::new, |ms| format!(" timeout {ms}ms"));
    let set = set.to_string_lossy();
    step(
        &format!("dynset {word} reg_key 1 set {set}{timeout} expr [ {printed} ]"),
        c"dynset",
        &attributes,
    )
}

fn rate(count: u32, unit: (&str, u64)) -> (String, Raw) {
    step(
        &format!(
            "limit rate {count}/{} burst {count} type packets flags 0x1",
            unit.0
        ),
        c"limit",
        &[
            (sys::NFTNL_EXPR_LIMIT_RATE, Value::U64(count.into())),
            (sys::NFTNL_EXPR_LIMIT_UNIT, Value::U64(unit.1)),
            (sys::NFTNL_EXPR_LIMIT_BURST, Value::U32(count)),
            (sys::NFTNL_EXPR_LIMIT_TYPE, Value::U32(0)),
            (sys::NFTNL_EXPR_LIMIT_FLAGS, Value::U32(1)),
        ],
    )
}

fn connections(count: u32) -> (String, Raw) {
    step(
        &format!("connlimit count {count} flags 1"),
        c"connlimit",
        &[(COUNT, Value::U32(count)), (FLAGS, Value::U32(1))],
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, rates, open) in [
        (Family::V4, c"rate4", c"open4"),
        (Family::V6, c"rate6", c"open6"),
    ] {
        let name = |set: &CStr| set.to_string_lossy().into_owned();
        for (per, unit, memory) in [
            (Per::Second, ("second", 1), 10_000),
            (Per::Minute, ("minute", 60), 60_000),
            (Per::Hour, ("hour", 3600), 3_600_000),
        ] {
            let mut steps = source(family);
            let update = ("update", UPDATE);
            steps.push(dynset(update, rates, Some(memory), rate(30, unit)));
            cases.push(case(
                Expression::PerSource(PerSource::OverRate {
                    family,
                    set: name(rates),
                    rate: Rate { count: 30, per },
                }),
                steps,
            ));
        }
        let mut steps = source(family);
        steps.push(dynset(("add", ADD), open, None, connections(20)));
        cases.push(case(
            Expression::PerSource(PerSource::OverCount {
                family,
                set: name(open),
                count: 20,
            }),
            steps,
        ));
        for set in [rates, open] {
            let mut steps = source(family);
            steps.push(lookup(set, false));
            cases.push(case(
                Expression::PerSource(PerSource::Absent {
                    family,
                    set: name(set),
                }),
                steps,
            ));
        }
    }
    cases
}
