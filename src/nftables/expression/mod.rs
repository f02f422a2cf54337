//! Encodes expressions of the ruleset as instructions of the kernel, and decodes them: a file for each group
//! of them, of the same name as in [`ruleset::expression`](crate::ruleset::expression).
//!
//! Both directions stand side by side so that one cannot change without the other;
//! `decode(encode(rule)) == rule` is a property test.

mod address;
mod conntrack;
mod interface;
mod per_source;
mod port;
mod statement;

use crate::ruleset::Expression;

use super::instruction::Instruction;

pub(super) use address::load_address;
pub(super) use interface::{padded, unpadded};
pub(super) use port::{PACKET_PORT, load_protocol};

/// Appends the instructions for an expression.
pub(super) fn encode(expression: &Expression, out: &mut Vec<Instruction>) {
    match expression {
        Expression::Interface(expression) => interface::encode(expression, out),
        Expression::Conntrack(expression) => conntrack::encode(expression, out),
        Expression::Address(expression) => address::encode(expression, out),
        Expression::Port(expression) => port::encode(expression, out),
        Expression::PerSource(expression) => per_source::encode(expression, out),
        Expression::Statement(expression) => out.push(statement::encode(expression)),
        Expression::Unknown { name, data } => out.push(Instruction::Raw {
            name: name.clone(),
            data: data.clone(),
        }),
    }
}

/// Returns the expressions that a rule's instructions make; what fits none becomes
/// [`Expression::Unknown`], one for each instruction.
pub(super) fn decode(instructions: &[Instruction], raw: &[(String, Vec<u8>)]) -> Vec<Expression> {
    let mut expressions = Vec::new();
    let mut at = 0;
    while at < instructions.len() {
        if let Some((expression, used)) = decode_first(&instructions[at..]) {
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

/// Returns the expression that the first instructions make and how many they are. Those about
/// connections come first, as some of them begin like the match of a protocol.
fn decode_first(instructions: &[Instruction]) -> Option<(Expression, usize)> {
    if let Some((expression, used)) = conntrack::decode(instructions) {
        return Some((Expression::Conntrack(expression), used));
    }
    if let Some((expression, used)) = port::decode(instructions) {
        return Some((Expression::Port(expression), used));
    }
    if let Some((expression, used)) = interface::decode(instructions) {
        return Some((Expression::Interface(expression), used));
    }
    if let Some((expression, used)) = per_source::decode(instructions) {
        return Some((Expression::PerSource(expression), used));
    }
    if let Some(expression) = instructions.first().and_then(statement::decode) {
        return Some((Expression::Statement(expression), 1));
    }
    let (expression, used) = address::decode(instructions)?;
    Some((Expression::Address(expression), used))
}
