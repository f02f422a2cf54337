//! Rules.

use crate::netlink::message::{APPEND, Attributes, CREATE, Malformed, Writer};
use crate::ruleset::{Counter, Rule, TABLE};

use super::super::expression;
use super::super::instruction::Instruction;
use super::super::message::{message, text};
use super::super::number::*;
use super::userdata::{user_comment, user_text};

/// The position of a new rule in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// In front of all others.
    First,
    /// In front of the rule with this number.
    Before(u64),
    /// Behind all others.
    Last,
}

/// Writes the message that adds a rule to a chain. Its first counter begins with `counter`.
pub(crate) fn create(
    w: &mut Writer,
    sequence: u32,
    chain: &str,
    rule: &Rule,
    position: Position,
    counter: Option<Counter>,
) -> usize {
    let append = if position == Position::Last {
        APPEND
    } else {
        0
    };
    message(w, NFT_MSG_NEWRULE, CREATE | append, sequence, |w| {
        w.string(NFTA_RULE_TABLE, TABLE);
        w.string(NFTA_RULE_CHAIN, chain);
        let mut instructions = Vec::new();
        rule.expressions
            .iter()
            .for_each(|expression| expression::encode(expression, &mut instructions));
        let mut counter = counter;
        w.nest(NFTA_RULE_EXPRESSIONS, |w| {
            for instruction in &instructions {
                match (instruction, counter) {
                    (Instruction::Counter, Some(start)) => {
                        Instruction::encode_counter(w, NFTA_LIST_ELEM, start);
                        counter = None;
                    }
                    _ => instruction.encode(w),
                }
            }
        });
        if let Some(comment) = &rule.comment {
            w.attribute(NFTA_RULE_USERDATA, &user_text(NFTNL_UDATA_COMMENT, comment));
        }
        if let Position::Before(handle) = position {
            w.be64(NFTA_RULE_POSITION, handle);
        }
    })
}

/// Writes the message that deletes a rule by its number, or all rules of a chain.
pub(crate) fn delete(w: &mut Writer, sequence: u32, chain: &str, handle: Option<u64>) -> usize {
    message(w, NFT_MSG_DELRULE, 0, sequence, |w| {
        w.string(NFTA_RULE_TABLE, TABLE);
        w.string(NFTA_RULE_CHAIN, chain);
        if let Some(handle) = handle {
            w.be64(NFTA_RULE_HANDLE, handle);
        }
    })
}

/// A rule as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleObject {
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// Its number; 0 if it has none yet.
    pub handle: u64,
    /// The expressions and the comment.
    pub rule: Rule,
    /// The values of its first counter.
    pub counter: Option<Counter>,
}

/// Reads a rule.
pub(super) fn decode(attributes: Attributes<'_>) -> Result<RuleObject, Malformed> {
    let table = attributes.table::<8>()?;
    let (mut instructions, mut raw, mut counter) = (Vec::new(), Vec::new(), None);
    if let Some(list) = table[usize::from(NFTA_RULE_EXPRESSIONS)] {
        for element in list.nested() {
            let element = element?;
            let [_, name, data] = element.nested().table::<3>()?;
            let data = data.map_or_else(Vec::new, |data| data.payload.to_vec());
            raw.push((text(name)?, data));
            counter = counter.or_else(|| Instruction::counter_values(&element));
            instructions.push(Instruction::decode(&element)?);
        }
    }
    Ok(RuleObject {
        table: text(table[usize::from(NFTA_RULE_TABLE)])?,
        chain: text(table[usize::from(NFTA_RULE_CHAIN)])?,
        handle: table[usize::from(NFTA_RULE_HANDLE)].map_or(Ok(0), |handle| handle.be64())?,
        rule: Rule {
            expressions: expression::decode(&instructions, &raw),
            comment: user_comment(table[usize::from(NFTA_RULE_USERDATA)], NFTNL_UDATA_COMMENT),
        },
        counter,
    })
}
