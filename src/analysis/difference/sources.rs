//! The sources that are asked for: every one, or where lists are long, those that stand for all others.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use indexmap::IndexMap;

use crate::net::{AddressSet, Counts, Family};
use crate::ruleset::{Elements, Key as _, Row as _, Ruleset, Set, Value, with_rows};

use super::super::access::{destinations, ordinary};
use super::super::eval::{Fast, looked_up_bits};
use super::Row;
use super::classes::{Classes, SETS, family_of_list};

/// The sources of both families.
#[derive(Debug)]
pub(super) struct Sources<'a>([OfFamily<'a>; Family::ALL.len()]);

/// The sources of a family.
#[derive(Debug)]
struct OfFamily<'a> {
    family: Family,
    /// The long lists, by which its classes are told apart.
    lists: Vec<List<'a>>,
    /// `None` if every source is asked.
    classes: Option<Classes<'a>>,
}

/// A list of a ruleset.
#[derive(Debug)]
struct List<'a> {
    /// The ruleset.
    ruleset: &'a Ruleset,
    name: &'a str,
    elements: &'a Elements,
}

impl<'a> Sources<'a> {
    /// Returns sources that stand for all others in these rulesets, where a family has lists of `long` or more
    /// elements and little else; with 0 anyway.
    pub(super) fn new(rulesets: [&'a Ruleset; 2], long: usize) -> Self {
        Self(Family::ALL.map(|family| OfFamily::new(rulesets, family, long)))
    }

    /// Returns all that are asked of a family.
    pub(super) fn asked(&self, family: Family) -> AddressSet {
        let Self(families) = self;
        let of = families.iter().find(|of| of.family == family);
        of.and_then(|of| of.classes.as_ref())
            .map_or_else(|| AddressSet::all(family), Classes::standing)
    }

    /// Returns a ruleset without the elements that nobody asks for.
    pub(super) fn cut(&self, ruleset: &'a Ruleset) -> Cow<'a, Ruleset> {
        let Self(families) = self;
        let mut cut: IndexMap<&str, Elements> = IndexMap::new();
        for of in families {
            for (number, list) in of.lists.iter().enumerate() {
                if std::ptr::eq(list.ruleset, ruleset)
                    && let Some(classes) = &of.classes
                    && let Some(elements) = classes.standing_in(number)
                {
                    cut.insert(list.name, elements);
                }
            }
        }
        if cut.is_empty() {
            return Cow::Borrowed(ruleset);
        }
        let sets = ruleset.sets.iter().map(|(name, set)| {
            let set = match cut.swap_remove(name.as_str()) {
                Some(elements) => Set {
                    elements,
                    comment: set.comment.clone(),
                },
                None => set.clone(),
            };
            (name.clone(), set)
        });
        Cow::Owned(Ruleset {
            sets: sets.collect(),
            chains: ruleset.chains.clone(),
            unknown: ruleset.unknown.clone(),
        })
    }

    /// Returns how many addresses sources stand for.
    pub(super) fn count(&self, standing: &AddressSet) -> Counts {
        let Self(families) = self;
        let counts = families.iter().map(|of| match &of.classes {
            Some(classes) => classes.count(standing),
            None => Counts::of(&of.part(standing)),
        });
        counts.fold(Counts::default(), Counts::and)
    }

    /// Replaces the sources of rows by all that they stand for.
    pub(super) fn spread(&self, rows: &mut [Row]) {
        let Self(families) = self;
        if families.iter().all(|of| of.classes.is_none()) {
            return;
        }
        // Many rows have the same sources.
        let mut known: IndexMap<*const AddressSet, Rc<AddressSet>, Fast> = IndexMap::default();
        for row in rows.iter() {
            let sources = Rc::clone(&row.sources);
            known.entry(Rc::as_ptr(&sources)).or_insert(sources);
        }
        let standing: Vec<&AddressSet> = known.values().map(Rc::as_ref).collect();
        let [v4, v6] = families.each_ref().map(|of| match &of.classes {
            Some(classes) => classes.whole(&standing),
            None => standing.iter().map(|set| of.part(set)).collect(),
        });
        let whole = v4
            .into_iter()
            .zip(v6)
            .map(|(v4, v6)| Rc::new(v4.union(&v6)));
        let whole: Vec<Rc<AddressSet>> = whole.collect();
        for row in rows {
            let index = known.get_index_of(&Rc::as_ptr(&row.sources));
            if let Some(whole) = index.and_then(|index| whole.get(index)) {
                row.sources = Rc::clone(whole);
            }
        }
    }
}

impl<'a> OfFamily<'a> {
    fn new(rulesets: [&'a Ruleset; 2], family: Family, long: usize) -> Self {
        let sets = rulesets.into_iter().flat_map(|ruleset| {
            let sets = ruleset.sets.iter();
            sets.map(move |(name, set)| List {
                ruleset,
                name,
                elements: &set.elements,
            })
        });
        let (mut lists, mut short): (Vec<_>, Vec<_>) = sets.partition(|list| {
            family_of_list(list.elements) == Some(family) && list.elements.len() >= long
        });
        lists.sort_by_key(|list| std::cmp::Reverse(list.elements.len()));
        short.extend(lists.split_off(lists.len().min(SETS)));
        let elements: usize = lists.iter().map(|list| list.elements.len()).sum();
        let every = Self {
            family,
            lists: Vec::new(),
            classes: None,
        };
        if lists.is_empty() {
            return every;
        }
        let ends = ends(rulesets, family, &short);
        if long > 0 && elements < LITTLE * ends.len() {
            return every;
        }
        let sets = lists.iter().map(|list| list.elements).collect();
        Self {
            classes: Some(Classes::new(family, sets, ends)),
            lists,
            family,
        }
    }

    /// Returns the addresses of the family.
    fn part(&self, set: &AddressSet) -> AddressSet {
        set.intersection(&AddressSet::all(self.family))
    }
}

/// How many elements of long lists there are for each address at which something else may change.
const LITTLE: usize = 4;

/// Returns the last addresses of segments in which only long lists tell addresses apart: neither another set nor a
/// destination that is asked, as a rule may look for it in a list as well.
fn ends(rulesets: [&Ruleset; 2], family: Family, short: &[List<'_>]) -> Vec<u128> {
    let mut lengths = BTreeSet::from([family.bits()]);
    for ruleset in rulesets {
        let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
        let asked = rules.flat_map(|rule| &rule.expressions);
        let asked = asked.filter_map(looked_up_bits);
        lengths.extend(
            asked
                .filter(|(of, _)| *of == family)
                .map(|(_, length)| length),
        );
    }
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let mut apart: BTreeSet<(u128, u128)> = BTreeSet::new();
    let destinations = destinations(&rulesets);
    let ordinary = ordinary(family, &destinations);
    let asked = destinations.into_iter().chain([ordinary]);
    let asked = asked.filter(|address| Family::of(*address) == family);
    apart.extend(asked.map(|address| (number(address), number(address))));
    for list in short {
        with_rows!(list.elements, rows => {
            for row in rows {
                let (first, until) = (row.first().values(), row.last().values());
                let [first, until] = [first.as_ref(), until.as_ref()].map(|key| address(key, family));
                if let (Some(first), Some(until)) = (first, until) {
                    let hosts = lengths.iter();
                    let hosts = hosts.map(|length| family.last().checked_shr((*length).into()).unwrap_or(0));
                    apart.extend(hosts.map(|host| (first, until | host)));
                }
            }
        });
    }
    let ends = apart
        .into_iter()
        .flat_map(|(first, until)| first.checked_sub(1).into_iter().chain([until]));
    ends.collect()
}

/// Returns the address of a family that a key ends with.
fn address(key: &[Value<'_>], family: Family) -> Option<u128> {
    match (key.last()?, family) {
        (Value::Ipv4(address), Family::V4) => Some((*address).into()),
        (Value::Ipv6(address), Family::V6) => Some(*address),
        _ => None,
    }
}
