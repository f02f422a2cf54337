//! One ruleset becomes another by what is different only.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use dfw::kernel::{Kernel, Outcome};
use dfw::plan::{self, Installed, Operation, Plan, align};
use dfw::ruleset::{Counter, Elements, Expression, Interval, Ruleset, Statement};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::Named;
use crate::arbitrary::{Style, ruleset};
use crate::namespace::{Sandbox, compiled, policies};
use crate::property::{property, same};

pub(crate) const TRIALS: &[Named] = &[
    (
        "any_ruleset_becomes_any_other",
        any_ruleset_becomes_any_other,
    ),
    ("a_little_change_is_little", a_little_change_is_little),
    ("any_policy_becomes_any_other", any_policy_becomes_any_other),
    ("big_sets_change_in_place", big_sets_change_in_place),
    (
        "a_crash_between_the_phases_does_no_harm",
        a_crash_between_the_phases_does_no_harm,
    ),
];

const SEED: u128 = 7;

fn installed(kernel: &Kernel) -> Result<Installed> {
    let installed = kernel.snapshot()?.installed;
    installed.context("nothing is installed")
}

/// Changes what is installed to what is wanted; says how many operations that took.
fn change(kernel: &Kernel, desired: &Ruleset) -> Result<usize> {
    let snapshot = kernel.survey()?;
    let plan = plan::diff(snapshot.installed.as_ref(), desired, SEED);
    let count = plan.before.len() + plan.main.len();
    ensure!(kernel.carry_out(&plan, "a test", snapshot.generation)? == Outcome::Done);
    arrived(kernel, desired).with_context(|| format!("{plan:#?}"))?;
    Ok(count)
}

/// What is installed is what is wanted, and nothing more is to be done.
fn arrived(kernel: &Kernel, desired: &Ruleset) -> Result<()> {
    let installed = installed(kernel)?;
    same(&installed.ruleset, desired)?;
    let surveyed = kernel.survey()?.installed.context("nothing")?;
    for found in [&installed, &surveyed] {
        let rest = plan::diff(Some(found), desired, SEED);
        ensure!(rest.is_empty(), "still to be done: {rest:#?}");
    }
    Ok(())
}

fn any_ruleset_becomes_any_other() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let rulesets = proptest::collection::vec(ruleset(Style::Wild), 2..5);
    property(40, &rulesets, |rulesets| {
        sandbox.kernel(|kernel| {
            kernel.remove(None)?;
            for desired in &rulesets {
                change(kernel, desired)?;
            }
            Ok(())
        })
    })
}

fn any_policy_becomes_any_other() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let mut all = Vec::new();
    for path in policies()? {
        all.push(compiled(&path)?);
    }
    let count = all.len();
    sandbox.kernel(|kernel| {
        // Each step is another distance, so that no two are next to each other twice.
        for step in (1..count).take(6) {
            for at in 0..count {
                change(kernel, &all[at * step % count])?;
            }
        }
        Ok(())
    })
}

/// Counters in the order of the rules, by chain.
pub(crate) type Counters = BTreeMap<String, Vec<Option<Counter>>>;

/// Installs a ruleset with a number in each counter.
pub(crate) fn install_counting(kernel: &Kernel, desired: &Ruleset) -> Result<Counters> {
    let snapshot = kernel.survey()?;
    let mut plan = plan::diff(snapshot.installed.as_ref(), desired, SEED);
    let mut number = 0;
    let Plan { before, main, .. } = &mut plan;
    for operation in before.iter_mut().chain(main) {
        if let Operation::NewRule { counter, .. } = operation {
            number += 1;
            *counter = Some(Counter {
                packets: number,
                bytes: number * 100,
            });
        }
    }
    ensure!(kernel.carry_out(&plan, "", snapshot.generation)? == Outcome::Done);
    Ok(installed(kernel)?.counters)
}

/// A change of one thing somewhere.
#[derive(Debug, Clone)]
enum Edit {
    RemoveRule(Index, Index),
    DoubleRule(Index, Index),
    ChangeComment(Index, Index),
    RemoveElement(Index, Index),
    MovePriority(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let two = || (any::<Index>(), any::<Index>());
    prop_oneof![
        two().prop_map(|(a, b)| Edit::RemoveRule(a, b)),
        two().prop_map(|(a, b)| Edit::DoubleRule(a, b)),
        two().prop_map(|(a, b)| Edit::ChangeComment(a, b)),
        two().prop_map(|(a, b)| Edit::RemoveElement(a, b)),
        any::<Index>().prop_map(Edit::MovePriority),
    ]
}

fn edited(mut ruleset: Ruleset, edit: &Edit) -> Ruleset {
    let pick_rules = |ruleset: &mut Ruleset, chain: &Index, work: &dyn Fn(&mut Vec<_>)| {
        let mut chains: Vec<_> = ruleset.chains.values_mut().collect();
        if !chains.is_empty() {
            let at = chain.index(chains.len());
            let rules = &mut chains[at].rules;
            if !rules.is_empty() {
                work(rules);
            }
        }
    };
    match edit {
        Edit::RemoveRule(chain, at) => pick_rules(&mut ruleset, chain, &|rules| {
            rules.remove(at.index(rules.len()));
        }),
        Edit::DoubleRule(chain, at) => pick_rules(&mut ruleset, chain, &|rules| {
            let at = at.index(rules.len());
            rules.insert(at, rules[at].clone());
        }),
        Edit::ChangeComment(chain, at) => pick_rules(&mut ruleset, chain, &|rules| {
            let at = at.index(rules.len());
            rules[at].comment = Some("another".to_owned());
        }),
        Edit::RemoveElement(set, at) => {
            let mut sets: Vec<_> = ruleset.sets.values_mut().collect();
            if !sets.is_empty() {
                let sandbox = set.index(sets.len());
                remove_element(&mut sets[sandbox].elements, *at);
            }
        }
        Edit::MovePriority(chain) => {
            let chains = ruleset.chains.values_mut();
            let mut bases: Vec<_> = chains.filter_map(|chain| chain.base.as_mut()).collect();
            if !bases.is_empty() {
                let at = chain.index(bases.len());
                bases[at].priority += 1;
            }
        }
    }
    ruleset
}

fn remove_element(elements: &mut Elements, at: Index) {
    fn remove<T>(all: &mut Vec<T>, at: Index) {
        if !all.is_empty() {
            all.remove(at.index(all.len()));
        }
    }
    match elements {
        Elements::Ipv4(all) => remove(all, at),
        Elements::Ipv4Ranges(all) => remove(all, at),
        Elements::Ipv6(all) => remove(all, at),
        Elements::Ipv6Ranges(all) => remove(all, at),
        Elements::Interfaces(all) => remove(all, at),
        Elements::PortIpv4(all) => remove(all, at),
        Elements::PortIpv6(all) => remove(all, at),
        Elements::PortCounters(all) => remove(all, at),
        Elements::PortVerdicts(all) => remove(all, at),
        Elements::PortIpv4Verdicts(all) => remove(all, at),
        Elements::PortIpv6Verdicts(all) => remove(all, at),
        Elements::Ipv4Verdicts(all) => remove(all, at),
        Elements::Ipv6Verdicts(all) => remove(all, at),
        Elements::Ipv4Until(all) => remove(all, at),
        Elements::Ipv6Until(all) => remove(all, at),
        Elements::Ipv4Added(all) => remove(all, at),
        Elements::Ipv6Added(all) => remove(all, at),
        Elements::Ipv4AddedUntil(all) => remove(all, at),
        Elements::Ipv6AddedUntil(all) => remove(all, at),
    }
}

/// Back and forth between two rulesets that differ in one thing; every rule that is in both keeps
/// what it has counted.
fn a_little_change_is_little() -> Result<()> {
    let sandbox = Sandbox::new()?;
    property(80, &(ruleset(Style::Wild), edit()), |(first, edit)| {
        let second = edited(first.clone(), &edit);
        sandbox.kernel(|kernel| {
            kernel.remove(None)?;
            let before = install_counting(kernel, &first)?;
            let expected = if first == second { 0 } else { 8 };
            let count = change(kernel, &second)?;
            let moved = matches!(edit, Edit::MovePriority(_));
            ensure!(count <= expected || moved, "{count} operations");
            let between = installed(kernel)?.counters;
            same_counters(&before, &between, &first, &second)?;
            change(kernel, &first)?;
            let after = installed(kernel)?.counters;
            same_counters(&between, &after, &second, &first)
        })
    })
}

pub(crate) fn same_counters(
    before: &Counters,
    after: &Counters,
    from: &Ruleset,
    to: &Ruleset,
) -> Result<()> {
    for (name, chain) in &to.chains {
        let Some(old) = from.chains.get(name) else {
            continue;
        };
        for (old_at, new_at) in align(&old.rules, &chain.rules) {
            let counts = |rule: &dfw::ruleset::Rule| {
                rule.expressions
                    .contains(&Expression::Statement(Statement::Counter))
            };
            let (old, new) = (before[name][old_at], after[name][new_at]);
            ensure!(
                old == new && old.is_some() == counts(&chain.rules[new_at]),
                "{name} {new_at}: {old:?} is now {new:?}"
            );
        }
    }
    Ok(())
}

fn big(offset: u32) -> Ruleset {
    const MANY: u32 = 20_000;
    let wide = |n: u32| u128::from(n) << 64;
    let sets = [
        Elements::Ipv4((offset..MANY + offset).map(|n| n * 5).collect()),
        Elements::Ipv4Ranges(
            (offset..MANY + offset)
                .map(|n| Interval::new(n * 9, n * 9 + n % 8))
                .collect(),
        ),
        Elements::Ipv6((offset..MANY + offset).map(wide).collect()),
        Elements::Ipv6Ranges(
            (offset..MANY + offset)
                .map(|n| Interval::new(wide(n), wide(n) + 7))
                .collect(),
        ),
    ];
    let mut ruleset = Ruleset::default();
    for (number, elements) in sets.into_iter().enumerate() {
        let comment = None;
        let set = dfw::ruleset::Set { elements, comment };
        ruleset.sets.insert(format!("s{number}"), set);
    }
    ruleset
}

/// They are not read for it, and what others do to them is seen nevertheless.
fn big_sets_change_in_place() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.kernel(|kernel| {
        change(kernel, &big(0))?;
        for offset in [1, 100, 50] {
            let snapshot = kernel.survey()?;
            let installed = snapshot.installed.context("nothing")?;
            ensure!(installed.ruleset.sets["s1"].elements.is_empty(), "was read");
            let desired = big(offset);
            let plan = plan::diff(Some(&installed), &desired, SEED);
            ensure!(plan.before.is_empty(), "a set is filled anew");
            ensure!(kernel.carry_out(&plan, "", snapshot.generation)? == Outcome::Done);
            arrived(kernel, &desired)?;
        }
        // Too much to tell what: filled anew, and the former one goes.
        change(kernel, &big(10_000))?;
        change(kernel, &big(0))
    })?;
    for by in [
        "delete element inet dfw-nft s0 { 0.0.0.5 }",
        "flush set inet dfw-nft s1",
        "delete set inet dfw-nft s2/sketch",
        "flush set inet dfw-nft s3/sketch",
    ] {
        sandbox.nft(by)?;
        sandbox
            .kernel(|kernel| change(kernel, &big(0)))
            .context(by)?;
    }
    Ok(())
}

/// Whatever the first transaction leaves behind is used or taken away by the next plan, and judges
/// nothing.
fn a_crash_between_the_phases_does_no_harm() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let policies = [
        "policies/web.yaml",
        "examples/only-web",
        "examples/database",
    ];
    let policies = policies.map(compiled);
    let [web, only_web, database] = policies;
    let (web, only_web, database) = (web?, only_web?, database?);
    let crash = |kernel: &Kernel, desired: &Ruleset| -> Result<()> {
        let snapshot = kernel.survey()?;
        let mut plan = plan::diff(snapshot.installed.as_ref(), desired, SEED);
        ensure!(!plan.before.is_empty(), "nothing to be made first");
        plan.main = std::mem::take(&mut plan.before);
        plan.after.clear();
        ensure!(kernel.carry_out(&plan, "", snapshot.generation)? == Outcome::Done);
        Ok(())
    };
    sandbox.kernel(|kernel| {
        crash(kernel, &web)?;
        let rules = |installed: &Installed| {
            let chains = installed.ruleset.chains.values();
            let bases = chains.filter(|chain| chain.base.is_some());
            let rules = bases.map(|chain| chain.rules.clone());
            // A chain without rules is as good as none.
            rules.filter(|rules| !rules.is_empty()).collect::<Vec<_>>()
        };
        ensure!(
            rules(&installed(kernel)?).is_empty(),
            "half of it is in force"
        );
        change(kernel, &only_web)?;
        let before = rules(&installed(kernel)?);
        for target in [&web, &database] {
            crash(kernel, target)?;
            same(&rules(&installed(kernel)?), &before)?;
        }
        change(kernel, &only_web)?;
        crash(kernel, &database)?;
        change(kernel, &database)?;
        if change(kernel, &database)? != 0 {
            bail!("there was something left");
        }
        Ok(())
    })
}
