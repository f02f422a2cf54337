//! What was read of dfw's table, put together into a ruleset.

use std::collections::BTreeMap;

use crate::ruleset::{Ruleset, Set, TABLE};

use super::element::{Collector, Form};
use super::object::{Object, is_inet};
use super::wire::Malformed;

/// Packets and bytes that a counter has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// dfw's table as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Its contents.
    pub ruleset: Ruleset,
    /// The table's comment.
    pub comment: Option<String>,
    /// The counters of its rules, by chain, in the order of the rules.
    pub counters: BTreeMap<String, Vec<Option<Counter>>>,
}

/// A base chain of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
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

/// Collects objects, in whatever order they come.
#[derive(Debug, Default)]
pub struct Builder {
    table: bool,
    installed: Installed,
    elements: BTreeMap<String, Collector>,
    neighbours: Vec<Neighbour>,
}

impl Builder {
    /// Takes what was read of any table.
    ///
    /// # Errors
    /// If elements are malformed.
    pub fn add(&mut self, object: Object) -> Result<(), Malformed> {
        let ruleset = &mut self.installed.ruleset;
        match object {
            Object::Table(table) if is_inet(table.family) && table.name == TABLE => {
                self.table = true;
                self.installed.comment = table.comment;
                // Owner and persist protect it; dormant switches it off, which must be seen.
                if table.flags & 1 != 0 {
                    ruleset
                        .unknown
                        .push("the table is switched off (flags dormant)".to_owned());
                }
            }
            Object::Chain(chain) if is_inet(chain.family) && chain.table == TABLE => {
                let base = chain
                    .hook
                    .as_ref()
                    .and_then(super::object::HookObject::base);
                if chain.hook.is_some() && base.is_none() {
                    ruleset
                        .unknown
                        .push(format!("chain {} hooks in elsewhere", chain.name));
                }
                ruleset.chains.entry(chain.name).or_default().base = base;
            }
            Object::Chain(chain) => self.neighbours.extend(chain.hook.map(|hook| Neighbour {
                family: chain.family,
                table: chain.table,
                chain: chain.name,
                hook: hook.number,
                priority: hook.priority,
                kind: hook.kind,
                accepts: hook.accepts,
            })),
            Object::Set(set) if set.table == TABLE => match set.elements {
                Some(elements) => {
                    let comment = set.comment;
                    ruleset.sets.insert(set.name, Set { elements, comment });
                }
                None => ruleset
                    .unknown
                    .push(format!("set {} of a foreign type", set.name)),
            },
            Object::Elements { table, set, list } if table == TABLE => {
                self.elements.entry(set).or_default().add(&list)?;
            }
            Object::Rule(rule) if rule.table == TABLE => {
                let counter = rule
                    .counter
                    .map(|(packets, bytes)| Counter { packets, bytes });
                self.installed
                    .counters
                    .entry(rule.chain.clone())
                    .or_default()
                    .push(counter);
                ruleset
                    .chains
                    .entry(rule.chain)
                    .or_default()
                    .rules
                    .push(rule.rule);
            }
            Object::Other(table) if table == TABLE => {
                ruleset
                    .unknown
                    .push("a stateful object or a flowtable".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether dfw's table was seen.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.table
    }

    /// The sets of dfw's table seen so far.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.installed.ruleset.sets.keys().map(String::as_str)
    }

    /// Ends: dfw's table if there is one, and the base chains of all others.
    #[must_use]
    pub fn finish(mut self) -> (Option<Installed>, Vec<Neighbour>) {
        let ruleset = &mut self.installed.ruleset;
        for (name, collector) in self.elements {
            let Some(set) = ruleset.sets.get_mut(&name) else {
                continue;
            };
            match collector.finish(Form::of(&set.elements)) {
                Some(elements) => set.elements = elements,
                None => ruleset
                    .unknown
                    .push(format!("foreign elements in set {name}")),
            }
        }
        (self.table.then_some(self.installed), self.neighbours)
    }
}

impl Installed {
    /// Reads the messages of a batch as if they came from the kernel.
    ///
    /// # Errors
    /// If a message is malformed.
    pub fn from_batch(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut builder = Builder::default();
        for message in super::wire::Messages::new(bytes) {
            if let Some(object) = super::object::decode(&message?)? {
                builder.add(object)?;
            }
        }
        Ok(builder.finish().0)
    }
}
