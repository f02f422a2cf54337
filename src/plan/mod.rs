//! Computes the transactions that turn one ruleset into another: pure, total and deterministic.
//!
//! [`diff`] compares the [`Installed`] ruleset with the desired one and returns the [`Operation`]s that lead
//! from one to the other. Unchanged rules and elements are not touched and keep their counters; a rule of
//! which only the comment changes keeps its counter, too.
//!
//! No packet of an allowed source may be lost during the change. The difficulty is the kernel's interval
//! sets: their new elements can become visible a moment later (Linux 6.18), or their old elements disappear a
//! moment earlier (before), than the rest of the transaction. So
//!
//! - an unchanged set gets and loses single elements;
//! - a set that cannot stay (of another type, with another comment, too small, or with ranges that overlap
//!   those that they replace) is created anew under [another name](kernel_names), and the rules are changed
//!   to look it up;
//! - new sets and chains are created in a transaction of their own, where no rule refers to them yet
//!   ([`Plan::before`]), and take effect with the next one ([`Plan::main`]).
//!
//! Nor may a packet be lost that traverses the old rules while the new ones take effect: it sees the old
//! rules to their end, but the new elements of sets. So a set is also created anew unless it is the only
//! change for the packets that are looked up in it (`around`). A set that goes goes with its elements in it,
//! and a map, which loses its elements when it goes, goes in a transaction behind the others
//! ([`Plan::after`]).
//!
//! Where accepted connections have a mark, each change draws a new random mark. The rules that match the old
//! mark are deleted with the change; those for the new one are added in a later transaction, when all packets
//! in flight have passed. Until then a set may still show its old elements to the new rules, and a connection
//! accepted by them would stay accepted until the next change.
//!
//! A crash in between leaves either the old rules or the new ones in force, and beside them unreferenced sets
//! and chains, which the next plan uses or deletes.
//!
//! Within a transaction all deletions precede all additions, so that no name exists twice and no jump loop
//! arises through deleted chains.

mod around;
mod elements;
mod fingerprint;
mod former;
mod installed;
mod operation;
mod renamed;
mod rules;
mod sets;
mod sketch;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::ruleset::{Chain, Counted, Counter, MARK, Rule, Ruleset};

use renamed::Renamed;

pub use elements::Delta;
pub use fingerprint::fingerprint;
pub use installed::{
    Installed, STAMP, SetState, Stray, TableState, kernel_names, ruleset_name, sketch_name,
    sketch_of,
};
pub use operation::{Operation, Place};
pub use rules::align;
pub use sets::SetChange;
pub use sketch::{BIG, Sketch};

/// The transactions that lead from one ruleset to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The first transaction, which no packet notices; may be empty.
    pub before: Vec<Operation<'a>>,
    /// The transaction that changes verdicts.
    pub main: Vec<Operation<'a>>,
    /// The last transaction: deletes what only packets in flight still use, and adds rules that match
    /// marks, which must wait for those packets; empty otherwise. If it fails, the next plan repeats
    /// it.
    pub after: Vec<Operation<'a>>,
    /// The change of each desired or installed set, by name.
    pub sets: BTreeMap<&'a str, SetChange>,
}

impl Plan<'_> {
    /// Returns whether the plan is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.main.is_empty() && self.after.is_empty()
    }

    /// Yields the transactions that are not empty, in order.
    pub fn transactions(&self) -> impl Iterator<Item = &[Operation<'_>]> {
        let all = [&self.before, &self.main, &self.after];
        all.into_iter()
            .map(Vec::as_slice)
            .filter(|operations| !operations.is_empty())
    }

    /// Returns the operations that undo [`before`](Self::before), if the main transaction fails.
    #[must_use]
    pub fn undo(&self) -> Vec<Operation<'_>> {
        if self.before.contains(&Operation::NewTable) {
            return vec![Operation::DeleteTable];
        }
        let chains = self.before.iter().filter_map(|o| match o {
            Operation::NewChain { name, .. } => Some(*name),
            _ => None,
        });
        let chains: Vec<&str> = chains.collect();
        let sets = self.before.iter().filter_map(|o| match o {
            Operation::NewSet { name, .. } => Some(Cow::Owned(name.clone().into_owned())),
            Operation::NewSketch { set, .. } => Some(Cow::Owned(sketch_name(set))),
            _ => None,
        });
        let sets: Vec<Cow<'_, str>> = sets.collect();
        let mut undo: Vec<_> = chains.iter().map(|c| Operation::FlushChain(c)).collect();
        undo.extend(sets.iter().cloned().map(Operation::FlushSet));
        undo.extend(chains.into_iter().map(Operation::DeleteChain));
        undo.extend(sets.into_iter().map(Operation::DeleteSet));
        undo
    }
}

/// Compares the installed ruleset, if there is one, with the desired one. `seed` is the random key of the
/// sketches of big sets.
#[must_use]
pub fn diff<'a>(installed: Option<&'a Installed>, desired: &'a Ruleset, seed: u128) -> Plan<'a> {
    match installed {
        None => Diff::new(&NOTHING, desired, seed).first(false),
        Some(installed) => {
            let diff = Diff::new(installed, desired, seed);
            if diff.must_be_recreated() {
                Diff::new(&NOTHING, desired, seed).first(true)
            } else {
                diff.change()
            }
        }
    }
}

/// Returns the initial counters of the elements of each set for a rollback: those of ports that stayed in
/// force with their current values, others with the values at which they stopped.
#[must_use]
pub fn counted(installed: Option<&Installed>, former: &Installed) -> BTreeMap<String, Counted> {
    let mut counted = former.counted.clone();
    for (set, now) in installed.into_iter().flat_map(|now| &now.counted) {
        let ports = counted.entry(set.clone()).or_default();
        ports.extend(now.iter().map(|(port, counter)| (*port, *counter)));
    }
    counted
}

/// Compares towards the ruleset that was installed before, for a rollback: restored rules continue their
/// counters, elements as [`counted`] says, and drift is reported as it was.
#[must_use]
pub fn restore<'a>(
    installed: Option<&'a Installed>,
    former: &'a Installed,
    counts: &'a BTreeMap<String, Counted>,
    seed: u128,
) -> Plan<'a> {
    let mut plan = diff(installed, &former.ruleset, seed);
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    let operations = plan.before.iter_mut().chain(&mut plan.main);
    for operation in operations {
        match operation {
            Operation::NewRule {
                chain,
                rule,
                counter,
                ..
            } => {
                // The new rules of a chain come in its order.
                let rules = former
                    .ruleset
                    .chains
                    .get(*chain)
                    .map_or(&[][..], |c| &c.rules);
                let from = at.entry(*chain).or_default();
                let is_it = |own: &Rule| own.comment == rule.comment && alike(own, rule);
                let current = rules.iter().skip(*from).position(is_it);
                let Some(place) = current.map(|offset| *from + offset) else {
                    continue;
                };
                *from = place + 1;
                let counters = former.counters.get(*chain);
                *counter = counter.or(counters.and_then(|all| *all.get(place)?));
            }
            Operation::NewElements { set, counted, .. } => {
                *counted = counts.get(ruleset_name(set));
            }
            Operation::Stamp { fingerprint, .. } => {
                *fingerprint = former.facts.fingerprint.unwrap_or(*fingerprint);
            }
            _ => {}
        }
    }
    let again = installed.is_some_and(|installed| installed.facts.stamped);
    if !former.facts.stamped {
        let main = &mut plan.main;
        main.retain(|operation| !matches!(operation, Operation::Stamp { .. }));
        if again && !main.contains(&Operation::DeleteTable) {
            main.push(Operation::DeleteChain(STAMP));
        }
    } else if plan.is_empty()
        && installed.and_then(|i| i.comment.as_ref()) != former.comment.as_ref()
    {
        plan.main.push(Operation::Stamp {
            again,
            fingerprint: former.facts.fingerprint.unwrap_or_default(),
        });
    }
    plan
}

/// Returns whether two rules differ only in the kernel's names of their sets.
fn alike(one: &Rule, other: &Rule) -> bool {
    let pairs = one.expressions.iter().zip(&other.expressions);
    one.expressions.len() == other.expressions.len()
        && pairs.into_iter().all(|(a, b)| {
            a == b || matches!((a.set(), b.set()), (Some(a), Some(b)) if a == ruleset_name(b))
        })
}

/// Replaces the whole table in one transaction, for use when other programs commit before every attempt. New
/// connections may be denied while it takes effect.
#[must_use]
pub fn replace(desired: &Ruleset, seed: u128) -> Plan<'_> {
    Diff::new(&NOTHING, desired, seed).first(true)
}

static NOTHING: Installed = Installed {
    ruleset: Ruleset {
        sets: BTreeMap::new(),
        chains: BTreeMap::new(),
        unknown: Vec::new(),
    },
    comment: None,
    counters: BTreeMap::new(),
    counted: BTreeMap::new(),
    facts: TableState {
        handles: BTreeMap::new(),
        sets: BTreeMap::new(),
        spares: BTreeMap::new(),
        strays: Vec::new(),
        foreign_bases: Vec::new(),
        stamped: false,
        fingerprint: None,
        dormant: false,
        marks: BTreeSet::new(),
    },
};

/// A plan under construction; the main transaction is assembled from these at the end.
struct Diff<'a> {
    installed: &'a Installed,
    desired: &'a Ruleset,
    seed: u128,
    plan: Plan<'a>,
    /// Deletions, in dependency order.
    rules_go: Vec<Operation<'a>>,
    elements_go: Vec<Operation<'a>>,
    objects_go: Vec<Operation<'a>>,
    chains_go: Vec<Operation<'a>>,
    /// Additions, in dependency order.
    new_chains: Vec<Operation<'a>>,
    new_sets: Vec<Operation<'a>>,
    new_rules: Vec<Operation<'a>>,
    chains_come: Vec<Operation<'a>>,
    sets_come: Vec<Operation<'a>>,
    elements_come: Vec<Operation<'a>>,
    rules_come: Vec<Operation<'a>>,
    /// The rules that match or set the mark and are otherwise unchanged.
    marks_go: Vec<Operation<'a>>,
    marks_come: Vec<Operation<'a>>,
    /// The kernel's names of desired sets where they differ from the ruleset's.
    names: BTreeMap<&'a str, String>,
    /// Desired sets that are created anew.
    renewed: BTreeSet<&'a str>,
    /// Whether a new set must be filled before rules look it up.
    two_phases: bool,
    renamed: Renamed<'a>,
}

impl<'a> Diff<'a> {
    fn new(installed: &'a Installed, desired: &'a Ruleset, seed: u128) -> Self {
        Self {
            installed,
            desired,
            seed,
            plan: Plan::default(),
            rules_go: Vec::new(),
            elements_go: Vec::new(),
            objects_go: Vec::new(),
            chains_go: Vec::new(),
            new_chains: Vec::new(),
            new_sets: Vec::new(),
            new_rules: Vec::new(),
            chains_come: Vec::new(),
            sets_come: Vec::new(),
            elements_come: Vec::new(),
            rules_come: Vec::new(),
            marks_go: Vec::new(),
            marks_come: Vec::new(),
            names: BTreeMap::new(),
            renewed: BTreeSet::new(),
            two_phases: false,
            renamed: Renamed::between(&installed.ruleset, desired),
        }
    }

    /// Returns whether the table must be created anew: it is dormant, or a foreign base chain has the
    /// name of a chain that rules jump to.
    fn must_be_recreated(&self) -> bool {
        let Installed { ruleset, facts, .. } = self.installed;
        facts.dormant
            || self.desired.chains.iter().any(|(name, chain)| {
                let base = ruleset
                    .chains
                    .get(name)
                    .is_some_and(|current| current.base.is_some())
                    || facts.foreign_bases.contains(name);
                chain.base.is_none() && base
            })
    }

    /// Plans the whole ruleset, where there is no table or it is deleted.
    fn first(mut self, replace: bool) -> Plan<'a> {
        self.sets();
        self.chains();
        let mut all = Vec::new();
        if replace {
            all.push(Operation::DeleteTable);
        }
        all.push(Operation::NewTable);
        all.append(&mut self.new_chains);
        all.append(&mut self.new_sets);
        all.append(&mut self.new_rules);
        if replace {
            all.append(&mut self.rules_come);
            all.push(self.stamp());
            self.plan.main = all;
        } else {
            self.plan.before = all;
            let stamp = self.stamp();
            self.plan.main = self.rules_come;
            self.plan.main.push(stamp);
        }
        self.plan
    }

    fn change(mut self) -> Plan<'a> {
        self.sets();
        self.chains();
        let stamp = self.stamp();
        let strays = self.installed.facts.strays.iter();
        self.objects_go.extend(strays.map(Operation::DeleteStray));
        let mut come = self.new_chains;
        come.append(&mut self.new_sets);
        come.append(&mut self.new_rules);
        let main = &mut self.plan.main;
        main.append(&mut self.rules_go);
        main.append(&mut self.elements_go);
        if self.plan.after.is_empty() {
            main.append(&mut self.chains_go);
        }
        main.append(&mut self.objects_go);
        if self.two_phases {
            self.plan.before.append(&mut come);
        }
        main.append(&mut self.chains_come);
        main.append(&mut self.sets_come);
        // Elements of existing sets may refer to new chains, and new rules to anything.
        main.append(&mut come);
        main.append(&mut self.elements_come);
        main.append(&mut self.rules_come);
        // A map that is deleted later still refers to it.
        self.plan.after.append(&mut self.chains_go);
        if !self.plan.is_empty() {
            let Plan {
                before,
                main,
                after,
                ..
            } = &mut self.plan;
            for operations in [before, &mut *main] {
                after.extend(operations.extract_if(.., |operation| is_about_marks(operation)));
            }
            after.append(&mut self.marks_come);
            main.append(&mut self.marks_go);
            main.push(stamp);
        }
        self.plan
    }

    fn stamp(&self) -> Operation<'a> {
        Operation::Stamp {
            again: self.installed.facts.stamped,
            fingerprint: fingerprint(self.desired),
        }
    }

    fn chains(&mut self) {
        for (name, chain) in self.desired.chains_in_order() {
            match self.installed.ruleset.chains.get(name) {
                None => self.new_chain(name, chain),
                Some(current) if current.base == chain.base && !self.is_foreign_base(name) => {
                    self.change_chain(name, current, chain);
                }
                Some(current) => self.move_chain(name, current, chain),
            }
        }
        let gone = self.installed.ruleset.chains.keys();
        let gone = gone.filter(|name| !self.desired.chains.contains_key(*name));
        for name in gone {
            self.rules_go.push(Operation::FlushChain(name));
            self.chains_go.push(Operation::DeleteChain(name));
        }
    }

    fn is_foreign_base(&self, name: &String) -> bool {
        self.installed.facts.foreign_bases.contains(name)
    }

    /// A base chain is created empty, which accepts everything, and gets its rules last.
    fn new_chain(&mut self, name: &'a str, chain: &'a Chain) {
        let base = chain.base;
        self.new_chains.push(Operation::NewChain { name, base });
        let former = self.renamed.chain(name).and_then(|former| {
            let current = self.installed.ruleset.chains.get(former)?;
            let pairs = align(&current.rules, &chain.rules);
            let pairs = self.renamed.counting(&current.rules, &chain.rules, pairs);
            Some((former, pairs))
        });
        for (at, rule) in chain.rules.iter().enumerate() {
            let counter = former.as_ref().and_then(|(former, pairs)| {
                let (old, _) = pairs.iter().find(|(_, new)| *new == at)?;
                self.counter(former, *old)
            });
            let operation = self.rule(name, rule, Place::Last, counter);
            if base.is_some() {
                self.rules_come.push(operation);
            } else {
                self.new_rules.push(operation);
            }
        }
    }

    /// Where a chain hooks in cannot be changed.
    fn move_chain(&mut self, name: &'a str, current: &'a Chain, chain: &'a Chain) {
        let base = chain.base;
        self.rules_go.push(Operation::FlushChain(name));
        self.objects_go.push(Operation::DeleteChain(name));
        self.chains_come.push(Operation::NewChain { name, base });
        let pairs = align(&current.rules, &chain.rules);
        let kept = self.renamed.counting(&current.rules, &chain.rules, pairs);
        let mut kept = kept.into_iter().peekable();
        for (at, rule) in chain.rules.iter().enumerate() {
            let old = kept.next_if(|(_, new)| *new == at);
            let counter = old.and_then(|(old, _)| self.counter(name, old));
            let operation = self.rule(name, rule, Place::Last, counter);
            self.rules_come.push(operation);
        }
    }

    fn change_chain(&mut self, name: &'a str, current: &'a Chain, chain: &'a Chain) {
        let handles = self.installed.facts.handles.get(name);
        let handle = |at: usize| handles.and_then(|all| all.get(at)).copied();
        let pairs = align(&current.rules, &chain.rules);
        let pairs = self.renamed.counting(&current.rules, &chain.rules, pairs);
        // Unchanged rules, by their positions in both chains.
        let (kept, renewed): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|&(old, new)| {
            current.rules[old] == chain.rules[new] && !self.uses_renewed(&chain.rules[new])
        });
        for &(old, new) in &kept {
            let rule = &chain.rules[new];
            if let Some(handle) = handle(old).filter(|_| rule.is_about_marks()) {
                let goes = Operation::DeleteRule {
                    chain: name,
                    handle,
                };
                let comes = self.rule(name, rule, Place::First, None);
                self.marks_go.push(goes);
                self.marks_come.push(comes);
            }
        }
        let mut stays = kept.iter().map(|(old, _)| *old).peekable();
        for at in 0..current.rules.len() {
            if stays.next_if_eq(&at).is_none()
                && let Some(handle) = handle(at)
            {
                self.rules_go.push(Operation::DeleteRule {
                    chain: name,
                    handle,
                });
            }
        }
        let mut next = kept.iter().peekable();
        let mut renewed = renewed.into_iter().peekable();
        for (at, rule) in chain.rules.iter().enumerate() {
            if next.next_if(|(_, new)| *new == at).is_some() {
                continue;
            }
            let old = renewed.next_if(|(_, new)| *new == at);
            let counter = old.and_then(|(old, _)| self.counter(name, old));
            let before = next.peek().and_then(|(old, _)| handle(*old));
            let place = before.map_or(Place::Last, Place::Before);
            let operation = self.rule(name, rule, place, counter);
            self.rules_come.push(operation);
        }
    }

    fn counter(&self, chain: &str, at: usize) -> Option<Counter> {
        *self.installed.counters.get(chain)?.get(at)?
    }

    fn uses_renewed(&self, rule: &Rule) -> bool {
        let mut sets = rule.expressions.iter().filter_map(|e| e.set());
        sets.any(|set| self.renewed.contains(set))
    }

    /// Plans a new rule; one that matches or sets the mark gets the mark of this plan and the first
    /// position of its chain.
    fn rule(
        &self,
        chain: &'a str,
        rule: &'a Rule,
        place: Place,
        counter: Option<Counter>,
    ) -> Operation<'a> {
        let other = |set: &str| self.names.get(set);
        let mut named = rule.expressions.iter().filter_map(|e| e.set());
        let place = if rule.is_about_marks() {
            Place::First
        } else {
            place
        };
        let rule = if named.any(|set| other(set).is_some()) || rule.is_about_marks() {
            let mut rule = rule.clone();
            let marks = rule.expressions.iter_mut().filter_map(|e| e.mark_mut());
            for mark in marks.filter(|mark| **mark == MARK) {
                *mark = self.mark();
            }
            for set in rule.expressions.iter_mut().filter_map(|e| e.set_mut()) {
                if let Some(name) = other(set) {
                    name.clone_into(set);
                }
            }
            Cow::Owned(rule)
        } else {
            Cow::Borrowed(rule)
        };
        Operation::NewRule {
            chain,
            rule,
            place,
            counter,
        }
    }

    /// Returns the mark of this plan: different from that of the rules in force, and not 0, the value
    /// of unmarked connections.
    fn mark(&self) -> u32 {
        let [a, b, c, d, ..] = self.seed.to_be_bytes();
        let mut mark = u32::from_ne_bytes([a, b, c, d]);
        while mark == 0 || self.installed.facts.marks.contains(&mark) {
            mark = mark.wrapping_add(1);
        }
        mark
    }
}

/// Returns whether the operation adds a rule that matches or sets the mark; no other is added at the first
/// position.
fn is_about_marks(operation: &Operation<'_>) -> bool {
    matches!(
        operation,
        Operation::NewRule {
            place: Place::First,
            ..
        }
    )
}
