//! Statements and verdicts.

use std::ffi::CStr;

use dfw::ruleset::{Expression, Reject, Statement, Verdict};
use nftnl::nftnl_sys as sys;

use super::{ACCEPT, Case, DROP, GOTO, JUMP, RETURN, case, step};
use crate::libnftnl::{Raw, Value};

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

fn logs() -> Vec<Case> {
    let log = step(
        "log prefix dfw denied:",
        c"log",
        &[(sys::NFTNL_EXPR_LOG_PREFIX, Value::Text(c"dfw denied:"))],
    );
    let log_group = step(
        "log prefix dfw denied: group 223 snaplen 0 qthreshold 0",
        c"log",
        &[
            (sys::NFTNL_EXPR_LOG_PREFIX, Value::Text(c"dfw denied:")),
            (sys::NFTNL_EXPR_LOG_GROUP, Value::U16(223)),
        ],
    );
    let expression = |group| {
        Expression::Statement(Statement::Log {
            prefix: "dfw denied:".to_owned(),
            group,
        })
    };
    vec![
        case(expression(None), vec![log]),
        case(expression(Some(223)), vec![log_group]),
    ]
}

pub(super) fn cases() -> Vec<Case> {
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
    let mut cases = logs();
    cases.extend([
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
    ]);
    cases
}
