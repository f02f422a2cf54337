//! What names in rules stand for.
//!
//! Names are long, alike and many, and a name in one expression is at one place in memory: by that it is found again.

use indexmap::IndexMap;

use crate::ruleset::{Chain, L4Protocol, Ruleset, Set};

use super::lookup::ports_alike;
use super::pool::Fast;

/// The chains and sets of a ruleset by the places of their names in it.
#[derive(Debug)]
pub(super) struct Names<'a> {
    ruleset: &'a Ruleset,
    chains: IndexMap<*const str, Option<&'a Chain>, Fast>,
    sets: IndexMap<*const str, Option<&'a Set>, Fast>,
    /// The ports that a set or map tells apart from others, around the one that was asked for last.
    alike: IndexMap<(Option<*const Set>, L4Protocol), (u16, u16), Fast>,
}

impl<'a> Names<'a> {
    /// Returns those of a ruleset.
    pub(super) fn new(ruleset: &'a Ruleset) -> Self {
        Self {
            ruleset,
            chains: IndexMap::default(),
            sets: IndexMap::default(),
            alike: IndexMap::default(),
        }
    }

    /// Returns the chain of a name.
    pub(super) fn chain(&mut self, name: &'a str) -> Option<&'a Chain> {
        let chain = self.chains.entry(std::ptr::from_ref(name));
        *chain.or_insert_with(|| self.ruleset.chains.get(name))
    }

    /// Returns the set or map of a name.
    pub(super) fn set(&mut self, name: &'a str) -> Option<&'a Set> {
        let set = self.sets.entry(std::ptr::from_ref(name));
        *set.or_insert_with(|| self.ruleset.sets.get(name))
    }

    /// Returns the ports around one for which a look-up has the same answer, as [`ports_alike`].
    pub(super) fn ports_alike(
        &mut self,
        set: &'a str,
        protocol: L4Protocol,
        port: u16,
    ) -> (u16, u16) {
        let set = self.set(set);
        let alike = self.alike.entry((set.map(std::ptr::from_ref), protocol));
        let alike = alike.or_insert((1, 0));
        if !(alike.0..=alike.1).contains(&port) {
            *alike = ports_alike(set, protocol, port);
        }
        *alike
    }
}
