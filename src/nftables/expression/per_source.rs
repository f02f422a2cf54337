//! Limits per source: a set that rules add to, with a limit in each element.

use crate::net::{Family, Per, Rate, SOURCE_V6};
use crate::ruleset::{End, PerSource, Tuple};

use super::super::instruction::Instruction;
use super::address::load_address;

/// Appends the instructions for an expression.
pub(super) fn encode(expression: &PerSource, out: &mut Vec<Instruction>) {
    match expression {
        PerSource::OverRate { family, set, rate } => {
            load_source(*family, out);
            out.push(Instruction::Dynset {
                set: set.clone(),
                update: true,
                timeout: milliseconds(*rate),
                limit: Box::new(Instruction::Limit {
                    rate: rate.count.into(),
                    unit: rate.per.seconds(),
                    burst: rate.count,
                    over: true,
                }),
            });
        }
        PerSource::OverCount { family, set, count } => {
            load_source(*family, out);
            out.push(Instruction::Dynset {
                set: set.clone(),
                update: false,
                timeout: 0,
                limit: Box::new(Instruction::OverCount(*count)),
            });
        }
        PerSource::Absent { family, set } => {
            load_source(*family, out);
            out.push(Instruction::Lookup {
                set: set.clone(),
                inverted: true,
                verdict: false,
            });
        }
    }
}

/// Returns the expression that instructions begin with, and how many make it.
pub(super) fn decode(instructions: &[Instruction]) -> Option<(PerSource, usize)> {
    let (family, load, rest) = Family::ALL.into_iter().find_map(|family| {
        let mut load = Vec::new();
        load_source(family, &mut load);
        let rest = instructions.strip_prefix(&load[..])?;
        Some((family, load.len(), rest))
    })?;
    let expression = match rest.first()? {
        Instruction::Dynset {
            set,
            update: true,
            timeout,
            limit,
        } => {
            let set = set.clone();
            let rate = rate(limit).filter(|rate| milliseconds(*rate) == *timeout)?;
            PerSource::OverRate { family, set, rate }
        }
        Instruction::Dynset {
            set,
            update: false,
            timeout: 0,
            limit,
        } => match **limit {
            Instruction::OverCount(count) => PerSource::OverCount {
                family,
                set: set.clone(),
                count,
            },
            _ => return None,
        },
        Instruction::Lookup {
            set,
            inverted: true,
            verdict: false,
        } => PerSource::Absent {
            family,
            set: set.clone(),
        },
        _ => return None,
    };
    Some((expression, load + 1))
}

/// Returns the rate of a limit whose bucket is as large as its count.
fn rate(limit: &Instruction) -> Option<Rate> {
    let Instruction::Limit {
        rate,
        unit,
        burst,
        over: true,
    } = limit
    else {
        return None;
    };
    let mut all = Per::ALL.into_iter();
    let per = all.find(|per| per.seconds() == *unit)?;
    (u64::from(*burst) == *rate).then_some(Rate { count: *burst, per })
}

fn milliseconds(rate: Rate) -> u64 {
    rate.memory().as_secs() * 1000
}

/// Loads the source of the connection's original direction, of IPv6 the network.
fn load_source(family: Family, out: &mut Vec<Instruction>) {
    load_address(Tuple::Original, family, End::Source, out);
    if family == Family::V6 {
        let mask = u128::MAX << (u128::BITS - u32::from(SOURCE_V6));
        out.push(Instruction::Mask(mask.to_be_bytes().to_vec()));
    }
}
