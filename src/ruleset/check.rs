//! What every ruleset must fulfil before it is sent, found without a kernel.
//!
//! The kernel checks the same and refuses with a bare errno. A failure here is a mistake of dfw,
//! never of the user, but it must not reach the kernel as a half-understood refusal.

use super::{Elements, Expression, Rule, Ruleset, Verdict};

/// The longest name of a table, chain or set, in bytes (`NFT_NAME_MAXLEN` less its NUL).
pub const NAME_MAX: usize = 255;
/// The longest comment, in bytes (`NFTNL_UDATA_COMMENT_MAXLEN` of libnftnl less its NUL).
pub const COMMENT_MAX: usize = 127;
/// The longest log prefix, in bytes (`NF_LOG_PREFIXLEN` less its NUL).
pub const LOG_PREFIX_MAX: usize = 127;
/// How deep chains may jump (`NFT_JUMP_STACK_SIZE`).
pub const JUMP_MAX: usize = 16;

/// Says what is wrong with a ruleset, a line each; empty if nothing is.
#[must_use]
pub fn check(ruleset: &Ruleset) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, set) in &ruleset.sets {
        check_name(name, &mut wrong);
        check_comment(name, set.comment.as_deref(), &mut wrong);
        for verdict in set.elements.verdicts() {
            check_verdict(ruleset, name, verdict, &mut wrong);
        }
    }
    for (name, chain) in &ruleset.chains {
        check_name(name, &mut wrong);
        for rule in &chain.rules {
            check_comment(name, rule.comment.as_deref(), &mut wrong);
            for expression in &rule.expressions {
                check_expression(ruleset, name, expression, &mut wrong);
            }
        }
        // They go and come by themselves, and always to the front.
        if chain.rules.iter().skip(1).any(Rule::is_about_marks) {
            wrong.push(format!("chain {name} has a rule about marks behind others"));
        }
        if chain.base.is_some() && depth(ruleset, name, JUMP_MAX).is_none() {
            wrong.push(format!(
                "chain {name} jumps deeper than {JUMP_MAX} or in a circle"
            ));
        }
    }
    wrong
}

fn check_name(name: &str, wrong: &mut Vec<String>) {
    let fine = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c));
    if !fine {
        wrong.push(format!("{name:?} is no name that nft can read"));
    }
}

fn check_comment(name: &str, comment: Option<&str>, wrong: &mut Vec<String>) {
    if comment.is_some_and(|c| c.len() > COMMENT_MAX || c.contains(['"', '\0', '\n'])) {
        wrong.push(format!("{name} has a comment that nft cannot print"));
    }
}

fn check_verdict(ruleset: &Ruleset, name: &str, verdict: &Verdict, wrong: &mut Vec<String>) {
    match verdict
        .chain()
        .map(|target| (target, ruleset.chains.get(target)))
    {
        Some((target, None)) => wrong.push(format!("{name} leads to {target}, which is missing")),
        Some((target, Some(chain))) if chain.base.is_some() => {
            wrong.push(format!("{name} leads to the base chain {target}"));
        }
        _ => {}
    }
}

fn check_expression(
    ruleset: &Ruleset,
    chain: &str,
    expression: &Expression,
    wrong: &mut Vec<String>,
) {
    let elements = |set: &str| ruleset.sets.get(set).map(|set| &set.elements);
    let fits = match expression {
        Expression::InterfaceIn { set, .. } => {
            matches!(elements(set), Some(Elements::Interfaces(_)))
        }
        Expression::SourceIn { family, set, .. } | Expression::DestinationIn { family, set } => {
            matches!(
                (family, elements(set)),
                (
                    super::Family::V4,
                    Some(Elements::Ipv4(_) | Elements::Ipv4Ranges(_))
                ) | (
                    super::Family::V6,
                    Some(Elements::Ipv6(_) | Elements::Ipv6Ranges(_))
                )
            )
        }
        Expression::PortSourceIn {
            family,
            length,
            set,
            ..
        } => match (family, elements(set)) {
            (super::Family::V4, Some(Elements::PortIpv4(_))) => u32::from(*length) <= u32::BITS,
            (super::Family::V6, Some(Elements::PortIpv6(_))) => u32::from(*length) <= u128::BITS,
            _ => false,
        },
        Expression::PortIn { set, .. } => {
            matches!(elements(set), Some(Elements::PortCounters(_)))
        }
        Expression::PortMap { map, .. } => {
            matches!(elements(map), Some(Elements::PortVerdicts(_)))
        }
        Expression::DestinationMap { family, map, .. } => matches!(
            (family, elements(map)),
            (super::Family::V4, Some(Elements::Ipv4Verdicts(_)))
                | (super::Family::V6, Some(Elements::Ipv6Verdicts(_)))
        ),
        Expression::PortAddressMap { family, map, .. } => matches!(
            (family, elements(map)),
            (super::Family::V4, Some(Elements::PortIpv4Verdicts(_)))
                | (super::Family::V6, Some(Elements::PortIpv6Verdicts(_)))
        ),
        Expression::Log { prefix, .. } => {
            prefix.len() <= LOG_PREFIX_MAX && !prefix.contains(['"', '\0'])
        }
        Expression::Verdict(verdict) => {
            check_verdict(ruleset, chain, verdict, wrong);
            true
        }
        Expression::Unknown { .. } | Expression::Mark(0) | Expression::SetMark(0) => false,
        Expression::Interface { .. }
        | Expression::OutBridge
        | Expression::Protocol(_)
        | Expression::Direction(_)
        | Expression::DestinationNat
        | Expression::Related
        | Expression::Mark(_)
        | Expression::SetMark(_)
        | Expression::ToLoopback(_)
        | Expression::SameInterface
        | Expression::Resumed
        | Expression::NoteOpening
        | Expression::Opened
        | Expression::Family(_)
        | Expression::Limit { .. }
        | Expression::Counter
        | Expression::Reject(_) => true,
    };
    if !fits {
        wrong.push(format!(
            "chain {chain}: {expression:?} does not fit its set or limits"
        ));
    }
}

/// How many jumps deep a chain goes; `None` past the limit.
fn depth(ruleset: &Ruleset, chain: &str, limit: usize) -> Option<usize> {
    let limit = limit.checked_sub(1)?;
    let mut deepest = 0;
    for expression in ruleset
        .chains
        .get(chain)?
        .rules
        .iter()
        .flat_map(|rule| &rule.expressions)
    {
        let mut follow = |verdict: &Verdict| -> Option<()> {
            if let Some(target) = verdict.chain() {
                deepest = deepest.max(1 + depth(ruleset, target, limit)?);
            }
            Some(())
        };
        match expression {
            Expression::Verdict(verdict) => follow(verdict)?,
            Expression::PortMap { map, .. }
            | Expression::DestinationMap { map, .. }
            | Expression::PortAddressMap { map, .. } => {
                let mut targets: Vec<&Verdict> =
                    ruleset.sets.get(map)?.elements.verdicts().collect();
                targets.sort_unstable();
                targets.dedup();
                targets.into_iter().try_for_each(follow)?;
            }
            _ => {}
        }
    }
    Some(deepest)
}
