//! Sets of addresses that are kept once, and what was computed of them.

use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use indexmap::{IndexMap, IndexSet};

use crate::net::AddressSet;

/// A pool of sets of addresses.
///
/// Equal sets of a pool are one allocation, and the result of an operation is computed once for the same
/// two sets: a set of a million ranges that a thousand ports use, or that two rulesets share, is cut once.
/// Whatever went through a pool is kept as long as the pool.
#[derive(Debug, Default)]
pub struct Pool {
    sets: IndexSet<Rc<AddressSet>, Fast>,
    kept: IndexSet<*const AddressSet, Fast>,
    results: IndexMap<(Operation, *const AddressSet, *const AddressSet), Rc<AddressSet>, Fast>,
    nobody: Rc<AddressSet>,
}

/// A hash that takes a multiplication for each number: a million ranges are hashed in a millisecond or two.
pub(in crate::analysis) type Fast = BuildHasherDefault<Mixer>;

/// Mixes numbers into one. Who writes a policy could make numbers collide, and would make only their own
/// comparison slow.
#[derive(Debug, Default)]
pub(in crate::analysis) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // An odd constant of many bits: 2^64 divided by the golden ratio.
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }

    fn finish(&self) -> u64 {
        // The upper bits are the mixed ones, and tables take the lower.
        self.0 ^ (self.0 >> 32)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Intersection,
    Difference,
    Union,
}

impl Pool {
    /// Returns the one allocation of a set.
    pub fn keep(&mut self, set: AddressSet) -> Rc<AddressSet> {
        self.one(Rc::new(set))
    }

    /// Returns the empty set.
    #[must_use]
    pub fn nobody(&self) -> Rc<AddressSet> {
        Rc::clone(&self.nobody)
    }

    /// Returns the addresses that are in both sets.
    pub fn intersection(&mut self, a: &Rc<AddressSet>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
        if Rc::ptr_eq(a, b) || a.is_empty() {
            return Rc::clone(a);
        }
        if is_whole(a, b) {
            return self.one(Rc::clone(b));
        }
        self.operate(Operation::Intersection, a, b, AddressSet::intersection)
    }

    /// Returns the addresses that are in the first set and not in the second.
    pub fn difference(&mut self, a: &Rc<AddressSet>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
        if a.is_empty() || b.is_empty() {
            return Rc::clone(a);
        }
        if Rc::ptr_eq(a, b) {
            return self.nobody();
        }
        self.operate(Operation::Difference, a, b, AddressSet::difference)
    }

    /// Returns the addresses that are in one of both sets.
    pub fn union(&mut self, a: &Rc<AddressSet>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
        if Rc::ptr_eq(a, b) || b.is_empty() {
            return Rc::clone(a);
        }
        if a.is_empty() {
            return Rc::clone(b);
        }
        self.operate(Operation::Union, a, b, AddressSet::union)
    }

    fn operate(
        &mut self,
        operation: Operation,
        a: &Rc<AddressSet>,
        b: &Rc<AddressSet>,
        compute: impl Fn(&AddressSet, &AddressSet) -> AddressSet,
    ) -> Rc<AddressSet> {
        // Kept sets are never freed, so that an address in memory stands for one set.
        let (a, b) = (self.one(Rc::clone(a)), self.one(Rc::clone(b)));
        let key = (operation, Rc::as_ptr(&a), Rc::as_ptr(&b));
        if let Some(result) = self.results.get(&key) {
            return Rc::clone(result);
        }
        let result = self.keep(compute(&a, &b));
        self.results.insert(key, Rc::clone(&result));
        result
    }

    fn one(&mut self, set: Rc<AddressSet>) -> Rc<AddressSet> {
        if set.is_empty() {
            return self.nobody();
        }
        // To hash a million ranges takes time.
        if self.kept.contains(&Rc::as_ptr(&set)) {
            return set;
        }
        if let Some(kept) = self.sets.get(&set) {
            return Rc::clone(kept);
        }
        self.kept.insert(Rc::as_ptr(&set));
        self.sets.insert(Rc::clone(&set));
        set
    }
}

/// Whether one set holds every address of the only family that another one has.
fn is_whole(all: &AddressSet, some: &AddressSet) -> bool {
    (all.v4().are_all() && some.v6().is_empty()) || (all.v6().are_all() && some.v4().is_empty())
}
