//! What must be done for one ruleset to become another: pure, total and deterministic.
//!
//! [`diff`] compares what is [`Installed`] with what is wanted and says which [`Operation`]s lead
//! from the one to the other. What stays is not touched and keeps its counters; a rule of which
//! only the comment changes takes its counter along.
//!
//! No packet of an allowed source may be lost on the way, and the kernel's interval sets are the
//! difficulty: their new contents can become visible a moment later (Linux 6.18) or their old ones
//! disappear a moment earlier (before) than the rest of the transaction. So
//!
//! - a set that stays gets and loses single elements;
//! - a set that cannot stay (of another type, with another comment, too small, or with ranges that
//!   overlap those that they replace) is filled anew under [another name](kernel_names), and the
//!   rules are led to it;
//! - what is new is made in a transaction of its own, where nothing leads to it yet
//!   ([`Plan::before`]), and comes into force with the next one ([`Plan::main`]).
//!
//! Nor may a packet be lost that is on its way through the old rules while the new ones take effect:
//! the kernel shows it the old rules to their end, but the new contents of sets. So a set is filled
//! anew, too, unless it is all that changes for the packets that are looked up in it (`around`). A
//! set that goes goes with its elements in it, and a map, which loses its elements when it goes, goes
//! in a transaction behind the others ([`Plan::after`]).
//!
//! Where connections that were judged bear a mark, each change makes a mark of its own, at random. The
//! rules that look for the old one go with the change, and those for the new one come in a transaction
//! behind it, when all packets have passed that were on their way: until then a set may still show its
//! old contents to the new rules, and whom these let through would be let through until the next change.
//!
//! A crash in between leaves the old rules in force or the new ones, and beside them what nothing
//! leads to, which the next plan uses or takes away.
//!
//! Within a transaction everything goes before anything comes, so that no name is taken twice and
//! no jump leads in a circle through what is going.

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
    Facts, Installed, STAMP, SetFacts, Stray, kernel_names, ruleset_name, sketch_name, sketch_of,
};
pub use operation::{Operation, Place};
pub use rules::align;
pub use sets::SetChange;
pub use sketch::{BIG, Sketch};

/// What leads from one ruleset to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// A first transaction, of which no packet takes notice; may be empty.
    pub before: Vec<Operation<'a>>,
    /// The transaction that makes the difference.
    pub main: Vec<Operation<'a>>,
    /// A last transaction, for what nothing leads to any more but packets that are on their way, and
    /// for rules about marks, which must come when those have passed; empty otherwise. If it fails, the
    /// next plan does it.
    pub after: Vec<Operation<'a>>,
    /// What becomes of the sets that are wanted or there, by name.
    pub sets: BTreeMap<&'a str, SetChange>,
}

impl Plan<'_> {
    /// Whether there is nothing to do.
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

    /// What takes [`before`](Self::before) back, if the main transaction cannot be.
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

/// Compares what is installed, if anything is, with what is wanted. `seed` is a random number for
/// what is to be remembered of big sets.
#[must_use]
pub fn diff<'a>(installed: Option<&'a Installed>, wanted: &'a Ruleset, seed: u128) -> Plan<'a> {
    match installed {
        None => Diff::new(&NOTHING, wanted, seed).first(false),
        Some(installed) => {
            let diff = Diff::new(installed, wanted, seed);
            if diff.cannot_be_mended() {
                Diff::new(&NOTHING, wanted, seed).first(true)
            } else {
                diff.change()
            }
        }
    }
}

/// What the elements of each set begin with when they come back: those of ports that were in force
/// all the time with what they have counted by now, others where they had stopped.
#[must_use]
pub fn counted(installed: Option<&Installed>, former: &Installed) -> BTreeMap<String, Counted> {
    let mut counted = former.counted.clone();
    for (set, now) in installed.into_iter().flat_map(|now| &now.counted) {
        let ports = counted.entry(set.clone()).or_default();
        ports.extend(now.iter().map(|(port, counter)| (*port, *counter)));
    }
    counted
}

/// The same as [`diff`] towards what was installed before: rules that come back go on counting where
/// they had stopped, elements as [`counted`] says, and what told drift then tells it again.
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
                let found = rules.iter().skip(*from).position(is_it);
                let Some(place) = found.map(|offset| *from + offset) else {
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

/// Whether two rules are the same but for the names by which the kernel knows their sets.
fn alike(one: &Rule, other: &Rule) -> bool {
    let pairs = one.expressions.iter().zip(&other.expressions);
    one.expressions.len() == other.expressions.len()
        && pairs.into_iter().all(|(a, b)| {
            a == b || matches!((a.set(), b.set()), (Some(a), Some(b)) if a == ruleset_name(b))
        })
}

/// Makes a whole table in place of whatever is there, in one transaction, come what may: for those
/// who are overtaken time and again. New connections may be rejected while it takes effect.
#[must_use]
pub fn replace(wanted: &Ruleset, seed: u128) -> Plan<'_> {
    Diff::new(&NOTHING, wanted, seed).first(true)
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
    facts: Facts {
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

/// A plan in the making; the main transaction is put together of these at the end.
struct Diff<'a> {
    installed: &'a Installed,
    wanted: &'a Ruleset,
    seed: u128,
    plan: Plan<'a>,
    /// What goes, in the order in which nothing depends on what has gone.
    rules_go: Vec<Operation<'a>>,
    elements_go: Vec<Operation<'a>>,
    objects_go: Vec<Operation<'a>>,
    chains_go: Vec<Operation<'a>>,
    /// What comes, in the order in which everything finds what it depends on.
    new_chains: Vec<Operation<'a>>,
    new_sets: Vec<Operation<'a>>,
    new_rules: Vec<Operation<'a>>,
    chains_come: Vec<Operation<'a>>,
    sets_come: Vec<Operation<'a>>,
    elements_come: Vec<Operation<'a>>,
    rules_come: Vec<Operation<'a>>,
    /// The rules about marks that stay but for the mark, if anything else changes.
    marks_go: Vec<Operation<'a>>,
    marks_come: Vec<Operation<'a>>,
    /// The kernel's names of wanted sets where they differ from their own.
    names: BTreeMap<&'a str, String>,
    /// Wanted sets that are not those that were there.
    renewed: BTreeSet<&'a str>,
    /// Whether something new must be filled before rules lead to it.
    two_phases: bool,
    renamed: Renamed<'a>,
}

impl<'a> Diff<'a> {
    fn new(installed: &'a Installed, wanted: &'a Ruleset, seed: u128) -> Self {
        Self {
            installed,
            wanted,
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
            renamed: Renamed::between(&installed.ruleset, wanted),
        }
    }

    /// Whether it is simpler and no less safe to make the table anew: it is switched off, or a
    /// base chain of others has the name of a chain that others lead to.
    fn cannot_be_mended(&self) -> bool {
        let Installed { ruleset, facts, .. } = self.installed;
        facts.dormant
            || self.wanted.chains.iter().any(|(name, chain)| {
                let base = ruleset
                    .chains
                    .get(name)
                    .is_some_and(|found| found.base.is_some())
                    || facts.foreign_bases.contains(name);
                chain.base.is_none() && base
            })
    }

    /// The whole ruleset, where there is nothing or what is there goes.
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
        // Elements of what stays may lead to what is new, and new rules anywhere.
        main.append(&mut come);
        main.append(&mut self.elements_come);
        main.append(&mut self.rules_come);
        // A map that goes later still leads there.
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
            fingerprint: fingerprint(self.wanted),
        }
    }

    fn chains(&mut self) {
        for (name, chain) in self.wanted.chains_in_order() {
            match self.installed.ruleset.chains.get(name) {
                None => self.new_chain(name, chain),
                Some(found) if found.base == chain.base && !self.is_foreign_base(name) => {
                    self.change_chain(name, found, chain);
                }
                Some(found) => self.move_chain(name, found, chain),
            }
        }
        let gone = self.installed.ruleset.chains.keys();
        let gone = gone.filter(|name| !self.wanted.chains.contains_key(*name));
        for name in gone {
            self.rules_go.push(Operation::FlushChain(name));
            self.chains_go.push(Operation::DeleteChain(name));
        }
    }

    fn is_foreign_base(&self, name: &String) -> bool {
        self.installed.facts.foreign_bases.contains(name)
    }

    /// A base chain comes empty, which judges nothing, and gets its rules last of all.
    fn new_chain(&mut self, name: &'a str, chain: &'a Chain) {
        let base = chain.base;
        self.new_chains.push(Operation::NewChain { name, base });
        let former = self.renamed.chain(name).and_then(|former| {
            let found = self.installed.ruleset.chains.get(former)?;
            let pairs = align(&found.rules, &chain.rules);
            let pairs = self.renamed.counting(&found.rules, &chain.rules, pairs);
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
    fn move_chain(&mut self, name: &'a str, found: &'a Chain, chain: &'a Chain) {
        let base = chain.base;
        self.rules_go.push(Operation::FlushChain(name));
        self.objects_go.push(Operation::DeleteChain(name));
        self.chains_come.push(Operation::NewChain { name, base });
        let pairs = align(&found.rules, &chain.rules);
        let kept = self.renamed.counting(&found.rules, &chain.rules, pairs);
        let mut kept = kept.into_iter().peekable();
        for (at, rule) in chain.rules.iter().enumerate() {
            let old = kept.next_if(|(_, new)| *new == at);
            let counter = old.and_then(|(old, _)| self.counter(name, old));
            let operation = self.rule(name, rule, Place::Last, counter);
            self.rules_come.push(operation);
        }
    }

    fn change_chain(&mut self, name: &'a str, found: &'a Chain, chain: &'a Chain) {
        let handles = self.installed.facts.handles.get(name);
        let handle = |at: usize| handles.and_then(|all| all.get(at)).copied();
        let pairs = align(&found.rules, &chain.rules);
        let pairs = self.renamed.counting(&found.rules, &chain.rules, pairs);
        // Those that need not be touched, by their places in both chains.
        let (kept, renewed): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|&(old, new)| {
            found.rules[old] == chain.rules[new] && !self.uses_renewed(&chain.rules[new])
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
        for at in 0..found.rules.len() {
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

    /// A rule comes; one about marks, with the mark of this plan, in front of its chain.
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

    /// The mark of this plan: none that the rules before it know, and not 0, which connections bear
    /// that have none.
    fn mark(&self) -> u32 {
        let [a, b, c, d, ..] = self.seed.to_be_bytes();
        let mut mark = u32::from_ne_bytes([a, b, c, d]);
        while mark == 0 || self.installed.facts.marks.contains(&mark) {
            mark = mark.wrapping_add(1);
        }
        mark
    }
}

/// Whether a rule about marks comes; no other comes first.
fn is_about_marks(operation: &Operation<'_>) -> bool {
    matches!(
        operation,
        Operation::NewRule {
            place: Place::First,
            ..
        }
    )
}
