//! Sets of addresses that are kept once, and what was computed of them.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::net::AddressSet;

/// A pool of sets of addresses.
///
/// Equal sets of a pool are one allocation, and the result of an operation is computed once for the same
/// two sets: a set of a million ranges that a thousand ports use, or that two rulesets share, is cut once.
/// Whatever went through a pool is kept as long as the pool.
#[derive(Debug, Default)]
pub struct Pool {
    sets: HashSet<Rc<AddressSet>>,
    kept: HashSet<*const AddressSet>,
    results: HashMap<(Operation, *const AddressSet, *const AddressSet), Rc<AddressSet>>,
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

    /// Returns the addresses that are in both sets.
    pub fn intersection(&mut self, a: &Rc<AddressSet>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
        if Rc::ptr_eq(a, b) || a.is_empty() {
            return Rc::clone(a);
        }
        self.operate(Operation::Intersection, a, b, |a, b| a.intersection(b))
    }

    /// Returns the addresses that are in the first set and not in the second.
    pub fn difference(&mut self, a: &Rc<AddressSet>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
        if a.is_empty() || b.is_empty() {
            return Rc::clone(a);
        }
        self.operate(Operation::Difference, a, b, |a, b| a.difference(b))
    }

    /// Returns the addresses that are in one of both sets.
    pub fn union(&mut self, a: &Rc<AddressSet>, b: &Rc<AddressSet>) -> Rc<AddressSet> {
        if Rc::ptr_eq(a, b) || b.is_empty() {
            return Rc::clone(a);
        }
        if a.is_empty() {
            return Rc::clone(b);
        }
        self.operate(Operation::Union, a, b, |a, b| a.union(b))
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
