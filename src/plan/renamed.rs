//! Sets and chains that are renamed in the desired ruleset and keep their counters.

use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Chain, Expression, Rule, Ruleset, Statement, Verdict};

/// Former names, by the names in the desired ruleset. Each name occurs in one of the two rulesets only.
#[derive(Debug, Default)]
pub(super) struct Renamed<'a> {
    sets: BTreeMap<&'a str, &'a str>,
    chains: BTreeMap<&'a str, &'a str>,
}

impl<'a> Renamed<'a> {
    /// Finds the names by rules that differ in nothing else, in chains of one name and in those that they
    /// lead to.
    pub(super) fn between(old: &'a Ruleset, new: &'a Ruleset) -> Self {
        let mut renamed = Self::default();
        let is_new = |e: &Expression| {
            e.set().is_some_and(|set| !old.sets.contains_key(set))
                || chain_of(e).is_some_and(|chain| !old.chains.contains_key(chain))
        };
        let common = new.chains.iter();
        let mut todo: Vec<(&'a Chain, &'a Chain)> = common
            .filter_map(|(name, chain)| Some((old.chains.get(name)?, chain)))
            .collect();
        while let Some((current, chain)) = todo.pop() {
            let mut from = 0;
            for rule in chain
                .rules
                .iter()
                .filter(|rule| rule.expressions.iter().any(is_new))
            {
                let rest = current.rules.iter().enumerate().skip(from);
                let mut names = rest.filter_map(|(at, former)| Some((at, names(former, rule)?)));
                let Some((at, pairs)) = names.find(|(_, pairs)| {
                    pairs.iter().all(|pair| match pair {
                        Name::Set(was, is) => {
                            !new.sets.contains_key(*was) && !old.sets.contains_key(*is)
                        }
                        Name::Chain(was, is) => {
                            !new.chains.contains_key(*was) && !old.chains.contains_key(*is)
                        }
                    })
                }) else {
                    continue;
                };
                from = at + 1;
                for pair in pairs {
                    match pair {
                        Name::Set(was, is) => {
                            renamed.sets.entry(is).or_insert(was);
                        }
                        Name::Chain(was, is) => {
                            let both = old.chains.get(was).zip(new.chains.get(is));
                            if renamed.chains.insert(is, was).is_none() {
                                todo.extend(both);
                            }
                        }
                    }
                }
            }
        }
        renamed
    }

    /// Returns the former name of a set.
    pub(super) fn set(&self, name: &str) -> Option<&'a str> {
        self.sets.get(name).copied()
    }

    /// Returns the former name of a chain.
    pub(super) fn chain(&self, name: &str) -> Option<&'a str> {
        self.chains.get(name).copied()
    }

    /// Returns the rules that keep their counters, by their positions in both chains: those of `pairs`,
    /// and others that differ only in names.
    pub(super) fn counting(
        &self,
        current: &[Rule],
        rules: &[Rule],
        mut pairs: Vec<(usize, usize)>,
    ) -> Vec<(usize, usize)> {
        let mut stay: BTreeSet<usize> = pairs.iter().map(|(old, _)| *old).collect();
        let known: BTreeSet<usize> = pairs.iter().map(|(_, new)| *new).collect();
        for (new, rule) in rules.iter().enumerate() {
            let Some(former) = self.former(rule).filter(|_| !known.contains(&new)) else {
                continue;
            };
            let mut olds = current.iter().enumerate();
            let same = |(at, old): &(usize, &Rule)| old.expressions == former && !stay.contains(at);
            if let Some((old, _)) = olds.find(same) {
                stay.insert(old);
                pairs.push((old, new));
            }
        }
        pairs.sort_unstable_by_key(|(_, new)| *new);
        pairs
    }

    /// Returns a rule with the former names; `None` if it has no other.
    fn former(&self, rule: &Rule) -> Option<Vec<Expression>> {
        let mut expressions = rule.expressions.clone();
        let mut is_other = false;
        for expression in &mut expressions {
            let former = match (expression.set(), chain_of(expression)) {
                (Some(set), _) => self.set(set),
                (_, Some(chain)) => self.chain(chain),
                (None, None) => None,
            };
            if let (Some(former), Some(name)) = (former, name_mut(expression)) {
                former.clone_into(name);
                is_other = true;
            }
        }
        is_other.then_some(expressions)
    }
}

/// A former and a new name.
enum Name<'a> {
    Set(&'a str, &'a str),
    Chain(&'a str, &'a str),
}

fn chain_of(expression: &Expression) -> Option<&str> {
    expression.verdict().and_then(Verdict::chain)
}

/// Returns the name of the set or the chain that an expression uses.
fn name_mut(expression: &mut Expression) -> Option<&mut String> {
    match expression {
        Expression::Statement(Statement::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) => {
            Some(chain)
        }
        _ => expression.set_mut(),
    }
}

/// Returns the names in which two rules differ; `None` if they differ in anything else.
fn names<'a>(former: &'a Rule, rule: &'a Rule) -> Option<Vec<Name<'a>>> {
    if former.expressions.len() != rule.expressions.len() {
        return None;
    }
    let mut names = Vec::new();
    for (was, is) in former.expressions.iter().zip(&rule.expressions) {
        if was == is {
            continue;
        }
        let mut turned = was.clone();
        if let (Some(was), Some(is)) = (was.set(), is.set()) {
            names.push(Name::Set(was, is));
            is.clone_into(name_mut(&mut turned)?);
        } else if let (Some(was), Some(is)) = (chain_of(was), chain_of(is)) {
            names.push(Name::Chain(was, is));
            is.clone_into(name_mut(&mut turned)?);
        }
        if turned != *is {
            return None;
        }
    }
    Some(names)
}
