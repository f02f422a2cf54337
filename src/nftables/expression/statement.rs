//! What a rule does: limits, logs, counts, and decides.

use crate::ruleset::{Reject, Statement};

use super::super::instruction::Instruction;
use super::super::number::*;

/// Returns the instruction for an expression.
pub(super) fn encode(expression: &Statement) -> Instruction {
    match expression {
        Statement::Limit { per_second, burst } => Instruction::Limit {
            rate: *per_second,
            unit: 1,
            burst: *burst,
            over: false,
        },
        Statement::Log { prefix, group } => Instruction::Log {
            prefix: prefix.clone(),
            group: *group,
        },
        Statement::Counter => Instruction::Counter,
        Statement::Reject(Reject::TcpReset) => Instruction::Reject {
            kind: NFT_REJECT_TCP_RST,
            code: 0,
        },
        Statement::Reject(Reject::PortUnreachable) => Instruction::Reject {
            kind: NFT_REJECT_ICMPX_UNREACH,
            code: NFT_REJECT_ICMPX_PORT_UNREACH,
        },
        Statement::Verdict(verdict) => Instruction::Immediate(verdict.clone()),
    }
}

/// Returns the expression that an instruction makes.
pub(super) fn decode(instruction: &Instruction) -> Option<Statement> {
    Some(match instruction {
        Instruction::Limit {
            rate,
            unit: 1,
            burst,
            over: false,
        } => Statement::Limit {
            per_second: *rate,
            burst: *burst,
        },
        Instruction::Log { prefix, group } => Statement::Log {
            prefix: prefix.clone(),
            group: *group,
        },
        Instruction::Counter => Statement::Counter,
        Instruction::Reject {
            kind: NFT_REJECT_TCP_RST,
            ..
        } => Statement::Reject(Reject::TcpReset),
        Instruction::Reject {
            kind: NFT_REJECT_ICMPX_UNREACH,
            code: NFT_REJECT_ICMPX_PORT_UNREACH,
        } => Statement::Reject(Reject::PortUnreachable),
        Instruction::Immediate(verdict) => Statement::Verdict(verdict.clone()),
        _ => return None,
    })
}
