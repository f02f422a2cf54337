//! What every ruleset must fulfil before it is sent, found without a kernel.
//!
//! The kernel checks the same and rejects with a bare errno. A failure here is a mistake of dfw,
//! never of the user, but it must not reach the kernel as a half-understood rejection.

use super::{Expression, Rule, Ruleset, Verdict};

/// The longest name of a table, chain or set, in bytes (`NFT_NAME_MAXLEN` less its NUL).
pub const NAME_MAX: usize = 255;
/// The longest comment, in bytes (`NFTNL_UDATA_COMMENT_MAXLEN` of libnftnl less its NUL).
pub const COMMENT_MAX: usize = 127;
/// The most nested jumps (`NFT_JUMP_STACK_SIZE`).
pub const JUMP_MAX: usize = 16;

/// Returns the errors of a ruleset, one line each; empty if it is valid.
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
            wrong.push(format!(
                "chain {name} has a connection mark rule that is not its first"
            ));
        }
        if chain.base.is_some() && depth(ruleset, name, JUMP_MAX).is_none() {
            wrong.push(format!(
                "chain {name} jumps deeper than {JUMP_MAX} or in a loop"
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
        wrong.push(format!("{name:?} is not a valid nft identifier"));
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
        Some((target, None)) => {
            wrong.push(format!("{name} jumps to {target}, which does not exist"));
        }
        Some((target, Some(chain))) if chain.base.is_some() => {
            wrong.push(format!("{name} jumps to the base chain {target}"));
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
    if let Some(verdict) = expression.verdict() {
        check_verdict(ruleset, chain, verdict, wrong);
    }
    if !expression.fits(ruleset) {
        wrong.push(format!(
            "chain {chain}: {expression:?} does not fit its set or limits"
        ));
    }
}

/// Returns how many jumps deep a chain goes; `None` past the limit.
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
        let map = expression.set().and_then(|set| ruleset.sets.get(set));
        let mut targets: Vec<&Verdict> = match map {
            Some(map) => map.elements.verdicts().collect(),
            None => expression.verdict().into_iter().collect(),
        };
        targets.sort_unstable();
        targets.dedup();
        for target in targets.into_iter().filter_map(Verdict::chain) {
            deepest = deepest.max(1 + depth(ruleset, target, limit)?);
        }
    }
    Some(deepest)
}
