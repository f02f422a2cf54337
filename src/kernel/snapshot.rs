//! Builds a ruleset from the objects read of dfw's table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock;
use crate::netlink::message::Malformed;
use crate::nftables::object::element::Collector;
use crate::nftables::object::memory::Memory;
use crate::nftables::object::{ChainObject, HookObject, Object, RuleObject, SetObject, is_inet};
use crate::plan::{
    Installed, STAMP, SetState, Sketch, Stray, ruleset_name, sketch_name, sketch_of,
};
use crate::ruleset::{
    Conntrack, Elements, Expression, MARK, Ruleset, Set, Statement, TABLE, Verdict,
};
use crate::untrusted::clean;

/// A base chain of another table. Its names are cleaned for display; do not use them in requests to the
/// kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBaseChain {
    /// The protocol family (`NFPROTO_*`).
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// The number of its hook.
    pub hook: u32,
    /// Its priority.
    pub priority: i32,
    /// Its type.
    pub kind: String,
    /// Whether its policy is `accept`.
    pub accepts: bool,
}

/// Collects objects in any order.
#[derive(Debug, Default)]
pub struct Builder {
    table: bool,
    installed: Installed,
    /// By the kernel's names.
    sets: BTreeMap<String, Found>,
    /// By the names of their sets.
    memories: BTreeMap<String, Memory>,
    foreign_chains: Vec<ForeignBaseChain>,
    /// The time since boot at which elements are read; `None` for the time of the clock.
    now: Option<Duration>,
}

/// A set as far as it is known.
#[derive(Debug)]
struct Found {
    set: Set,
    size: Option<u32>,
    count: Option<u32>,
    elements: Collector,
    read: bool,
}

impl Builder {
    /// Takes all elements for read at this time since boot.
    #[must_use]
    pub fn at(now: Duration) -> Self {
        Self {
            now: Some(now),
            ..Self::default()
        }
    }

    /// Adds an object of any table.
    ///
    /// # Errors
    /// If elements are malformed.
    pub fn add(&mut self, object: Object) -> Result<(), Malformed> {
        let unknown = &mut self.installed.ruleset.unknown;
        match object {
            Object::Table(table) if is_inet(table.family) && table.name == TABLE => {
                self.table = true;
                self.installed.comment = table.comment;
                // The flags owner and persist protect the table; dormant disables it, which is drift.
                if table.flags & 1 != 0 {
                    unknown.push("the table has the flag `dormant`".to_owned());
                    self.installed.facts.dormant = true;
                }
            }
            Object::Chain(chain) if is_inet(chain.family) && chain.table == TABLE => {
                self.add_chain(chain);
            }
            Object::Chain(chain) => {
                let foreign = chain.hook.map(|hook| ForeignBaseChain {
                    family: chain.family,
                    table: clean(&chain.table),
                    chain: clean(&chain.name),
                    hook: hook.number,
                    priority: hook.priority,
                    kind: hook.kind,
                    accepts: hook.accepts,
                });
                self.foreign_chains.extend(foreign);
            }
            Object::Set(set) if set.table == TABLE => self.add_set(set),
            Object::Elements { table, set, list } if table == TABLE => {
                match sketch_of(&set).and_then(|of| self.memories.get_mut(of)) {
                    Some(memory) => memory.add(&list)?,
                    None => {
                        if let Some(found) = self.sets.get_mut(&set)
                            && !found.set.elements.set_type().dynamic
                        {
                            let now = self.now.unwrap_or_else(clock::since_boot);
                            found.elements.add(&list, now)?;
                        }
                    }
                }
            }
            Object::Rule(rule) if rule.table == TABLE => self.add_rule(rule),
            Object::Stateful { table, kind, name } if table == TABLE => {
                self.add_stray(Stray::Object(kind, name));
            }
            Object::Flowtable { table, name } if table == TABLE => {
                self.add_stray(Stray::Flowtable(name));
            }
            _ => {}
        }
        Ok(())
    }

    fn add_stray(&mut self, stray: Stray) {
        let Installed { ruleset, facts, .. } = &mut self.installed;
        ruleset
            .unknown
            .push("a stateful object or a flowtable".to_owned());
        facts.strays.push(stray);
    }

    fn add_chain(&mut self, chain: ChainObject) {
        let Installed {
            ruleset,
            facts,
            comment,
            ..
        } = &mut self.installed;
        if chain.name == STAMP && chain.hook.is_none() {
            *comment = chain.comment;
            facts.fingerprint = chain.fingerprint;
            facts.stamped = true;
            return;
        }
        let base = chain.hook.as_ref().and_then(HookObject::base);
        if chain.hook.is_some() && base.is_none() {
            ruleset.unknown.push(format!(
                "chain {} has a foreign hook, type or policy",
                clean(&chain.name)
            ));
            facts.foreign_bases.push(chain.name.clone());
        }
        ruleset.chains.entry(chain.name).or_default().base = base;
    }

    fn add_set(&mut self, set: SetObject) {
        let Installed { ruleset, facts, .. } = &mut self.installed;
        match (set.elements, set.sketch, sketch_of(&set.name)) {
            (_, Some(header), Some(of)) => {
                let memory = self.memories.entry(of.to_owned()).or_default();
                memory.header = header;
            }
            (Some(elements), _, _) => {
                let found = Found {
                    set: Set {
                        elements,
                        comment: set.comment,
                    },
                    size: set.size,
                    count: set.count,
                    elements: Collector::default(),
                    read: false,
                };
                self.sets.insert(set.name, found);
            }
            (None, _, _) => {
                ruleset
                    .unknown
                    .push(format!("set {} of a foreign type", clean(&set.name)));
                facts.strays.push(Stray::Set(set.name));
            }
        }
    }

    fn add_rule(&mut self, rule: RuleObject) {
        let Installed {
            ruleset,
            counters,
            facts,
            ..
        } = &mut self.installed;
        counters
            .entry(rule.chain.clone())
            .or_default()
            .push(rule.counter);
        let handles = facts.handles.entry(rule.chain.clone()).or_default();
        handles.push(rule.handle);
        let chain = ruleset.chains.entry(rule.chain).or_default();
        chain.rules.push(rule.rule);
    }

    /// Returns whether dfw's table was seen.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.table
    }

    /// Returns the sets that hold sketches.
    #[must_use]
    pub fn memories(&self) -> Vec<String> {
        self.memories.keys().map(|of| sketch_name(of)).collect()
    }

    /// Returns the sets of dfw's table whose elements have counters, and marks them as read.
    pub fn counting(&mut self) -> Vec<String> {
        let sets = self.sets.iter_mut();
        sets.filter(|(_, found)| matches!(found.set.elements, Elements::PortCounters(_)))
            .map(|(name, found)| {
                found.read = true;
                name.clone()
            })
            .collect()
    }

    /// Returns the sets of dfw's table whose elements are to be read: those without a sketch, and
    /// others by the type of their elements. Marks them as read.
    pub fn to_be_read(&mut self, others: impl Fn(&Elements) -> bool) -> Vec<String> {
        let memories = &self.memories;
        let sets = self.sets.iter_mut();
        let sets = sets.filter(|(_, found)| !found.set.elements.set_type().dynamic);
        sets.filter(|(name, set)| !memories.contains_key(*name) || others(&set.set.elements))
            .map(|(name, found)| {
                found.read = true;
                name.clone()
            })
            .collect()
    }

    /// Returns dfw's table, if it exists, and the base chains of all others.
    #[must_use]
    pub fn finish(mut self) -> (Option<Installed>, Vec<ForeignBaseChain>) {
        self.name_sets();
        self.name_marks();
        let Installed { ruleset, facts, .. } = &mut self.installed;
        if ruleset.chains.contains_key(STAMP) {
            // Another program added rules there.
            facts.stamped = false;
        }
        (self.table.then_some(self.installed), self.foreign_chains)
    }

    /// Replaces the mark of a plan by [`MARK`], if rules match and set only one mark.
    fn name_marks(&mut self) {
        let Installed { ruleset, facts, .. } = &mut self.installed;
        let (mut looked_for, mut set) = (BTreeSet::new(), BTreeSet::new());
        let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
        for expression in rules.flat_map(|rule| &rule.expressions) {
            match expression {
                Expression::Conntrack(Conntrack::Mark(mark)) => _ = looked_for.insert(*mark),
                Expression::Conntrack(Conntrack::SetMark(mark)) => _ = set.insert(*mark),
                _ => {}
            }
        }
        facts.marks = looked_for.union(&set).copied().collect();
        if looked_for != set || facts.marks.len() != 1 || facts.marks.contains(&0) {
            return;
        }
        let rules = ruleset.chains.values_mut();
        let rules = rules.flat_map(|chain| &mut chain.rules);
        let expressions = rules.flat_map(|rule| &mut rule.expressions);
        for mark in expressions.filter_map(Expression::mark_mut) {
            *mark = MARK;
        }
    }

    /// Gives each set its name in the ruleset. Of several candidates it is the one that rules look up,
    /// preferably rules that packets reach; the others are not part of the ruleset.
    fn name_sets(&mut self) {
        let found = std::mem::take(&mut self.sets);
        let mut memories = std::mem::take(&mut self.memories);
        let Installed {
            ruleset,
            facts,
            counted,
            ..
        } = &mut self.installed;
        let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
        let expressions = rules.flat_map(|rule| &rule.expressions);
        let used: BTreeSet<String> = expressions
            .filter_map(|e| e.set())
            .map(str::to_owned)
            .collect();
        let mut finished = BTreeMap::new();
        for (kernel_name, found) in found {
            if found.elements.has_counters() {
                counted.insert(kernel_name.clone(), found.elements.counted());
            }
            let memory = memories.remove(&kernel_name);
            let set = finish_set(&kernel_name, found, memory.as_ref(), &mut ruleset.unknown);
            finished.insert(kernel_name, set);
        }
        let reached = reached(ruleset, &finished);
        let rank = |name: &String| (reached.contains(name.as_str()), used.contains(name));
        let mut chosen: BTreeMap<&str, &String> = BTreeMap::new();
        for name in finished.keys() {
            let best = chosen.entry(ruleset_name(name)).or_insert(name);
            if rank(name) > rank(best) {
                *best = name;
            }
        }
        let renamed: BTreeMap<String, String> = chosen
            .into_iter()
            .map(|(name, kernel_name)| (kernel_name.clone(), name.to_owned()))
            .collect();
        *counted = std::mem::take(counted)
            .into_iter()
            .map(|(name, counted)| (renamed.get(&name).cloned().unwrap_or(name), counted))
            .collect();
        for (kernel_name, (set, set_facts)) in finished {
            match renamed.get(&kernel_name) {
                Some(name) => {
                    ruleset.sets.insert(name.clone(), set);
                    facts.sets.insert(name.clone(), set_facts);
                }
                None if used.contains(&kernel_name) => {
                    ruleset.sets.insert(kernel_name.clone(), set);
                    facts.sets.insert(kernel_name, set_facts);
                }
                None => {
                    facts.spares.insert(kernel_name, (set, set_facts));
                }
            }
        }
        // Of sets that are no more.
        let orphans = memories.keys().map(|of| Stray::Set(sketch_name(of)));
        facts.strays.extend(orphans);
        let rules = ruleset.chains.values_mut();
        let rules = rules.flat_map(|chain| &mut chain.rules);
        for expression in rules.flat_map(|rule| &mut rule.expressions) {
            if let Some(set) = expression.set_mut()
                && let Some(name) = renamed.get(set)
            {
                name.clone_into(set);
            }
        }
    }
}

/// Returns the sets that packets are looked up in: by chains that base chains lead to.
fn reached<'a>(
    ruleset: &'a Ruleset,
    sets: &'a BTreeMap<String, (Set, SetState)>,
) -> BTreeSet<&'a str> {
    let bases = ruleset.chains.iter().filter(|(_, c)| c.base.is_some());
    let mut next: Vec<&str> = bases.map(|(name, _)| name.as_str()).collect();
    let (mut seen, mut reached) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = next.pop() {
        let chain = ruleset.chains.get(name).filter(|_| seen.insert(name));
        let rules = chain.map_or(&[][..], |chain| &chain.rules);
        for expression in rules.iter().flat_map(|rule| &rule.expressions) {
            if let Expression::Statement(Statement::Verdict(verdict)) = expression {
                next.extend(verdict.chain());
            }
            if let Some(set) = expression.set() {
                reached.insert(set);
                let verdicts = sets.get(set).map(|(set, _)| set.elements.verdicts());
                next.extend(verdicts.into_iter().flatten().filter_map(Verdict::chain));
            }
        }
    }
    reached
}

fn finish_set(
    kernel_name: &str,
    found: Found,
    memory: Option<&Memory>,
    unknown: &mut Vec<String>,
) -> (Set, SetState) {
    let Found {
        mut set,
        size,
        count,
        elements,
        mut read,
    } = found;
    if set.elements.set_type().dynamic {
        // What rules add is no part of the ruleset.
        let facts = SetState {
            name: kernel_name.to_owned(),
            size,
            read: true,
            added: count,
            ..SetState::default()
        };
        return (set, facts);
    }
    // A set with another number of elements than its sketch was changed by another program.
    let counted = |sketch_count: u64| count.is_none_or(|count| u64::from(count) == sketch_count);
    let sketch = memory
        .and_then(|memory| Sketch::read(&memory.header, &memory.table()?, &set.elements))
        .filter(|sketch| counted(sketch.count()));
    if read {
        let finished = elements.finish(&set.elements);
        if finished.is_none() {
            unknown.push(format!("foreign elements in set {kernel_name}"));
        }
        read = finished.as_ref().is_some_and(|(_, exact)| *exact);
        set.elements = finished.map_or(set.elements, |(elements, _)| elements);
    }
    let facts = SetState {
        name: kernel_name.to_owned(),
        size,
        read,
        sketched: memory.is_some(),
        sketch: sketch.map(Box::new),
        added: None,
    };
    (set, facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_clean() {
        let chain = |family, table: &str, name: &str| {
            Object::Chain(ChainObject {
                family,
                table: table.to_owned(),
                name: name.to_owned(),
                hook: Some(HookObject {
                    number: 9,
                    priority: 0,
                    kind: "filter".to_owned(),
                    accepts: true,
                }),
                comment: None,
                fingerprint: None,
            })
        };
        let mut builder = Builder::default();
        // `NFPROTO_IPV4` and `NFPROTO_INET`.
        builder.add(chain(2, "a\nok", "b\u{1b}[8m")).unwrap();
        builder.add(chain(1, TABLE, "c\u{202e}")).unwrap();
        let (_, foreign_chains) = builder.finish();
        assert_eq!(foreign_chains[0].table, "a\\nok");
        assert_eq!(foreign_chains[0].chain, "b\\u{1b}[8m");
        assert_eq!(foreign_chains.len(), 1);
    }
}
