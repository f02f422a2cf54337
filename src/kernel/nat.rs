//! Reads the NAT rules of other tables that translate destinations.

use std::collections::{BTreeMap, BTreeSet};

use super::attempts::reads;
use super::{Error, Kernel, ask};
use crate::netlink::message::{Malformed, Message};
use crate::netlink::socket::Socket;
use crate::nftables::foreign::{
    self, Foreign, ForeignElement, Into, Name, NatRules, Step, Verdict,
};
use crate::nftables::request;

/// How many bytes of rules are kept at most.
const LARGEST: usize = 16 << 20;
/// How many sets are read at most.
const SETS: usize = 256;
/// How many elements of one set are read at most: the kernel's work grows with the square of them.
const ELEMENTS: usize = 4096;

/// The result of a read so far.
#[derive(Default)]
struct Reading {
    rules: NatRules,
    dormant: BTreeSet<(u8, String)>,
    /// The base chains before connection tracking.
    early: Vec<Name>,
    /// How many bytes of rules were kept.
    size: usize,
    /// Whether a part could not be decoded or exceeded a limit.
    partial: bool,
}

impl Reading {
    fn take(&mut self, message: &Message<'_>) {
        match foreign::decode(message) {
            Ok(Some(Foreign::Dormant(family, table))) => {
                self.dormant.insert((family, table));
            }
            Ok(Some(Foreign::Base(base))) => self.rules.bases.push(base),
            Ok(Some(Foreign::Early(name))) => self.early.push(name),
            Ok(Some(Foreign::Rule(chain, steps))) => {
                self.size += message.body.len();
                if self.size <= LARGEST {
                    self.rules.rules.entry(chain).or_default().push(steps);
                } else {
                    self.partial = true;
                }
            }
            Ok(Some(Foreign::Set(name, set))) => {
                self.rules.sets.insert(name, set);
            }
            Ok(Some(Foreign::Elements(_)) | None) => {}
            Err(Malformed(_)) => self.partial = true,
        }
    }
}

impl Kernel {
    /// Reads the rules of all tables but dfw's that may translate a destination before a packet is routed:
    /// the base chains of type `nat` on the prerouting hook, the chains that they call, and the sets that
    /// these look up, all of one generation. Sets of more than 4096 elements have none here.
    ///
    /// `None` if that is more than 16 MiB, cannot be decoded, or other programs keep changing rulesets.
    ///
    /// # Errors
    /// `Error::Permission`, `Error::NoNfTables`, `Error::Malformed` or `Error::Socket` if the kernel cannot be
    /// read.
    pub fn nat_rules(&self) -> Result<Option<NatRules>, Error> {
        for _ in reads() {
            let generation = self.generation()?;
            let mut reading = Reading::default();
            if !self.read_nat(&mut reading)? || self.generation()? != generation {
                continue;
            }
            return Ok((!reading.partial).then_some(reading.rules));
        }
        Ok(None)
    }

    /// Reads everything once; `false` if it changed meanwhile.
    fn read_nat(&self, reading: &mut Reading) -> Result<bool, Error> {
        let take = |question: &[u8], reading: &mut Reading| {
            self.ask(question, |message| {
                reading.take(message);
                Ok(())
            })
        };
        for question in [request::tables(), request::chains()] {
            if !take(&question, reading)? {
                return Ok(false);
            }
        }
        let dormant = std::mem::take(&mut reading.dormant);
        let is_off = |name: &Name| dormant.contains(&(name.0, name.1.clone()));
        reading.rules.bases.retain(|base| !is_off(&base.name));
        reading.early.retain(|name| !is_off(name));
        let bases = reading.rules.bases.iter().map(|base| &base.name);
        let tables: BTreeSet<_> = bases
            .chain(&reading.early)
            .map(|name| (name.0, name.1.clone()))
            .collect();
        for (family, table) in tables {
            for question in [
                foreign::rules(family, &table),
                foreign::sets(family, &table),
            ] {
                if !take(&question, reading)? {
                    return Ok(false);
                }
            }
        }
        reading.rules.sets.retain(|_, set| !set.changes);
        // Regardless of its chain: jumps to it are not followed.
        let is_early = |name: &Name| {
            let mut early = reading.early.iter();
            early.any(|early| (early.0, &early.1) == (name.0, &name.1))
        };
        let mut rules = reading.rules.rules.iter();
        reading.rules.untracks =
            rules.any(|(name, rules)| is_early(name) && rules.iter().flatten().any(Step::untracks));
        read_sets(&mut reading.rules)
    }
}

/// Keeps the chains that base chains jump to and reads the sets they look up; `false` if these changed
/// meanwhile.
fn read_sets(rules: &mut NatRules) -> Result<bool, Error> {
    let mut called: BTreeSet<Name> = BTreeSet::new();
    let mut read = BTreeMap::new();
    let mut next: Vec<Name> = rules.bases.iter().map(|base| base.name.clone()).collect();
    while let Some(chain) = next.pop() {
        if !called.insert(chain.clone()) {
            continue;
        }
        let in_table = |name: &str| (chain.0, chain.1.clone(), name.to_owned());
        for step in rules.rules.get(&chain).into_iter().flatten().flatten() {
            match step {
                Step::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => next.push(in_table(to)),
                Step::Lookup { set, into, .. } => {
                    let name = in_table(set);
                    let is_known = rules.sets.contains_key(&name);
                    if is_known && !read.contains_key(&name) && read.len() < SETS {
                        let elements = match elements(&name)? {
                            Elements::All(elements) => Some(elements),
                            Elements::Unknown => None,
                            Elements::Interrupted => return Ok(false),
                        };
                        read.insert(name.clone(), elements);
                    }
                    if *into == Into::Verdict {
                        let elements = read.get(&name).into_iter().flatten().flatten();
                        next.extend(elements.filter_map(|element| match &element.data {
                            foreign::Data::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) => {
                                Some(in_table(to))
                            }
                            _ => None,
                        }));
                    }
                }
                _ => {}
            }
        }
    }
    rules.rules.retain(|chain, _| called.contains(chain));
    rules.sets.retain(|name, _| read.contains_key(name));
    for (name, elements) in read {
        if let Some(set) = rules.sets.get_mut(&name) {
            set.elements = elements;
        }
    }
    Ok(true)
}

/// The result of reading the elements of a set.
enum Elements {
    All(Vec<ForeignElement>),
    /// They are too many, or cannot be decoded.
    Unknown,
    /// They changed meanwhile.
    Interrupted,
}

fn elements(set: &Name) -> Result<Elements, Error> {
    // Beyond the limit, the rest of the answer stays in a socket that is closed unread.
    const ENOUGH: Malformed = Malformed("more elements than are read");
    let socket = Socket::netfilter()?;
    let mut found = Vec::new();
    let complete = ask(&socket, &foreign::elements(set), |message| {
        if let Some(Foreign::Elements(elements)) = foreign::decode(message)? {
            found.extend(elements);
        }
        if found.len() > ELEMENTS {
            return Err(ENOUGH);
        }
        Ok(())
    });
    match complete {
        Ok(true) => Ok(Elements::All(found)),
        Ok(false) => Ok(Elements::Interrupted),
        Err(Error::Malformed(_)) => Ok(Elements::Unknown),
        Err(error) => Err(error),
    }
}
