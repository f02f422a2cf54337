//! Asks both rulesets about every port, path and class of interfaces, and joins what says the same.
//!
//! Two things are not asked: ports at which the rulesets are equal, and interfaces that differ in nothing that a
//! rule on the way compared. Families and kinds of paths have nothing in common until their rows are joined: threads
//! compare them at the same time, if there are many ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};

use crate::compile::key_of_step;
use crate::net::{AddressSet, Family, HostPorts, Protocol};
use crate::ruleset::{Interface, Ruleset, Side};

use super::super::access::{Access, General, Judge, Slot, destinations, ordinary};
use super::super::eval::{Fast, Last, Pool, differing_ports, tells};
use super::super::interfaces::{Class, has_reverse_path_filter};
use super::super::judgement::{Judgement, Verdict};
use super::super::path::Kind;
use super::super::threads::each;
use super::cells::{Cell, Cells, Change, Place, Routes, Set, joined_rows};
use super::sources::Sources;
use super::{Decider, Effect, KINDS, Route, Row};

/// How many ports that differ are compared by this thread alone. Of more, each family and kind of path has a thread, and
/// sets of its own: long lists are those of few ports, and are not kept twice.
const FEW: usize = 64;

/// Returns the rows, in no order.
pub(super) fn rows(
    pool: &mut Pool,
    rulesets: [&Ruleset; 2],
    classes: [&[Class]; 2],
    sources: &Sources<'_>,
) -> Vec<Row> {
    let [old, new] = rulesets;
    let mut all = 0;
    let differing = Family::ALL.map(|family| Differing {
        family,
        protocols: Protocol::ALL.map(|protocol| {
            let (ports, count) = differing_ports(old, new, (family, protocol.into()));
            all += count;
            (protocol, ports)
        }),
    });
    let takes_long = all > FEW;
    let kinds = KINDS.chunks(if takes_long { 1 } else { KINDS.len() });
    let paths = differing
        .iter()
        .flat_map(|differing| kinds.clone().map(move |kinds| (differing, kinds)));
    let found = each(takes_long, paths, |(differing, kinds)| {
        let all = sources.asked(differing.family);
        Compare::paths(rulesets, classes, differing, kinds, all)
    });
    let mut deciders = Deciders::default();
    let mut cells = IndexMap::default();
    for found in found {
        found.add(pool, &mut deciders, &mut cells);
    }
    let deciders: Vec<Decider> = deciders.all.into_iter().collect();
    joined_rows(pool, sources, &deciders, cells)
}

/// The ports at which rules differ for packets of a family.
struct Differing {
    family: Family,
    protocols: [(Protocol, Vec<(u16, u16)>); Protocol::ALL.len()],
}

/// What decides, as the rules say it: what people read is made of few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct By<'a> {
    judgement: Judgement,
    key: Option<HostPorts>,
    comment: Option<&'a str>,
}

/// All that decides something, and by which number.
#[derive(Default)]
struct Deciders<'a> {
    all: IndexSet<Decider, Fast>,
    numbers: IndexMap<By<'a>, usize, Fast>,
}

impl<'a> Deciders<'a> {
    fn number(&mut self, by: By<'a>) -> usize {
        let number = self.numbers.entry(by);
        *number.or_insert_with(|| {
            let decider = Decider::of(by.judgement, by.key, by.comment);
            self.all.insert_full(decider).0
        })
    }
}

/// What changes for one family, by the numbers of sets and deciders.
struct Found<'a> {
    family: Family,
    sets: Vec<AddressSet>,
    deciders: IndexSet<By<'a>, Fast>,
    cells: Vec<(Change, [usize; 3], Vec<Place>)>,
}

impl<'a> Found<'a> {
    /// Adds it to what was found for another family.
    fn add(self, pool: &mut Pool, deciders: &mut Deciders<'a>, cells: &mut Cells) {
        let sets: Vec<Set> = self
            .sets
            .into_iter()
            .map(|set| Set(pool.keep(set)))
            .collect();
        let numbers = self.deciders.into_iter();
        let numbers: Vec<usize> = numbers.map(|by| deciders.number(by)).collect();
        for (change, [sources, before, after], places) in self.cells {
            let cell = Cell {
                family: self.family,
                change: Change {
                    effect: change.effect,
                    before: numbers[change.before],
                    after: numbers[change.after],
                },
                sources: sets[sources].clone(),
                allowed: [sets[before].clone(), sets[after].clone()],
            };
            cells.entry(cell).or_default().extend(places);
        }
    }
}

/// The ports of one protocol at one address, asked for by one family on one kind of path.
#[derive(Debug, Clone, Copy)]
struct Line {
    kind: Kind,
    family: Family,
    protocol: Protocol,
    /// `None` for every address that no rule tells apart.
    address: Option<IpAddr>,
    /// The address that is asked.
    asked: IpAddr,
    strays: bool,
}

struct Compare<'p, 'a> {
    pool: Pool,
    /// The old and the new ruleset.
    rulesets: [&'a Ruleset; 2],
    judges: [Judge<'a>; 2],
    /// The classes of interfaces, incoming and outgoing.
    classes: [&'p [Class]; 2],
    /// The sources of the family that are asked for.
    all: Rc<AddressSet>,
    /// What an expression says of each class of its side.
    answers: IndexMap<*const Interface, Answers, Fast>,
    /// The lists of paths, each kept once.
    lists: IndexSet<Routes, Fast>,
    /// The paths of a list on which packets meet the same rules as on the first, and the others, by the numbers of
    /// the expressions that were asked.
    parts: IndexMap<(*const Route, Vec<usize>), [Routes; 2], Fast>,
    /// What decides where something changes.
    deciders: IndexSet<By<'a>, Fast>,
    cells: Cells,
}

impl<'p, 'a> Compare<'p, 'a> {
    /// Returns what changes for a family on some kinds of paths.
    fn paths(
        rulesets: [&'a Ruleset; 2],
        classes: [&'p [Class]; 2],
        differing: &Differing,
        kinds: &[Kind],
        all: AddressSet,
    ) -> Found<'a> {
        let mut pool = Pool::default();
        let mut compare = Self {
            all: pool.keep(all),
            pool,
            rulesets,
            judges: rulesets.map(Judge::new),
            classes,
            answers: IndexMap::default(),
            lists: IndexSet::default(),
            parts: IndexMap::default(),
            deciders: IndexSet::default(),
            cells: IndexMap::default(),
        };
        for kind in kinds {
            compare.kind(*kind, differing);
        }
        let (deciders, cells) = (compare.deciders, compare.cells);
        // Nothing else has the sets now, and so they are moved.
        drop((compare.pool, compare.judges, compare.all));
        let mut sets = IndexSet::<Set, Fast>::default();
        let mut number = |set: Set| sets.insert_full(set).0;
        let cells = cells.into_iter().map(|(cell, places)| {
            let [before, after] = cell.allowed;
            let numbers = [cell.sources, before, after].map(&mut number);
            (cell.change, numbers, places)
        });
        let cells = cells.collect();
        Found {
            family: differing.family,
            sets: sets
                .into_iter()
                .map(|set| Rc::unwrap_or_clone(set.0))
                .collect(),
            deciders,
            cells,
        }
    }

    fn kind(&mut self, kind: Kind, differing: &Differing) {
        let family = differing.family;
        let destinations = destinations(&self.rulesets);
        let ordinary = ordinary(family, &destinations);
        let named = destinations.into_iter();
        let named = named.filter(|address| Family::of(*address) == family);
        let addresses: Vec<_> = [None].into_iter().chain(named.map(Some)).collect();
        let has_filter = self.rulesets.into_iter().any(has_reverse_path_filter);
        for strays in [false, true].into_iter().take(1 + usize::from(has_filter)) {
            let routes = self.routes(kind, strays);
            let routes = self.one(routes);
            for address in &addresses {
                for (protocol, ports) in &differing.protocols {
                    let line = Line {
                        kind,
                        family,
                        protocol: *protocol,
                        address: *address,
                        asked: address.unwrap_or(ordinary),
                        strays,
                    };
                    for ports in ports {
                        self.ports(line, *ports, &routes);
                    }
                }
            }
        }
    }

    /// Returns every pair of interfaces that a kind of path has.
    fn routes(&self, kind: Kind, strays: bool) -> Vec<Route> {
        let [incoming, outgoing] = self.classes;
        let outgoing: Vec<Option<usize>> = match kind {
            Kind::Service => vec![None],
            _ => (0..outgoing.len()).map(Some).collect(),
        };
        let routes = (0..incoming.len()).flat_map(|incoming| {
            outgoing.iter().map(move |outgoing| Route {
                kind,
                incoming,
                outgoing: *outgoing,
                strays,
            })
        });
        routes.collect()
    }

    /// Compares ports on all paths of a kind.
    fn ports(&mut self, line: Line, (first, last): (u16, u16), routes: &Routes) {
        // The paths by the port that they are to be asked about next.
        let mut next = BTreeMap::from([(first, vec![Arc::clone(routes)])]);
        while let Some((port, lists)) = next.pop_first() {
            let mut routes = self.together(lists);
            while let Some(route) = routes.first().copied() {
                let judged = self.judged(line, port, route);
                let asked = self.asked(&judged);
                let [alike, others] = self.parts(&routes, asked);
                let end = self.segment(line, (port, last), &alike, &judged);
                if let Some(behind) = end.checked_add(1).filter(|behind| *behind <= last) {
                    next.entry(behind).or_default().push(alike);
                }
                routes = others;
            }
        }
    }

    /// Asks both rulesets about a port on one path.
    fn judged(&mut self, line: Line, port: u16, route: Route) -> [General<'a>; 2] {
        let [incoming, outgoing] = self.classes;
        let name = |class: Option<&'p Class>| class.map_or("", |class| &class.name);
        let slot = Slot {
            kind: line.kind,
            family: line.family,
            protocol: line.protocol,
            port,
            address: line.asked,
            incoming: name(incoming.get(route.incoming)),
            outgoing: name(route.outgoing.and_then(|index| outgoing.get(index))),
            strays: line.strays,
        };
        let path = slot.path();
        let packet = slot.packet(&path);
        let (pool, all) = (&mut self.pool, &self.all);
        let judges = self.judges.each_mut();
        judges.map(|judge| judge.in_general_by(pool, &path, &packet, all))
    }

    /// Returns the numbers of the expressions that compared a name of an interface.
    fn asked(&mut self, judged: &[General<'a>; 2]) -> Vec<usize> {
        let mut asked = Vec::with_capacity(judged.iter().map(|j| j.interfaces.len()).sum());
        for (ruleset, judged) in self.rulesets.into_iter().zip(judged) {
            for interface in &judged.interfaces {
                let entry = self.answers.entry(std::ptr::from_ref(*interface));
                asked.push(entry.index());
                entry.or_insert_with(|| Answers::of(ruleset, interface, self.classes));
            }
        }
        asked
    }

    /// Returns the one list of these paths.
    fn one(&mut self, routes: Vec<Route>) -> Routes {
        if let Some(known) = self.lists.get(&routes[..]) {
            return Arc::clone(known);
        }
        let routes = Routes::from(routes);
        self.lists.insert(Arc::clone(&routes));
        routes
    }

    /// Returns the paths of several lists.
    fn together(&mut self, mut lists: Vec<Routes>) -> Routes {
        match lists.pop() {
            Some(only) if lists.is_empty() => only,
            last => {
                lists.extend(last);
                self.one(lists.concat())
            }
        }
    }

    /// Returns the paths of a list on which packets meet the same rules as on the first, by what was asked of those,
    /// and the others.
    fn parts(&mut self, routes: &Routes, asked: Vec<usize>) -> [Routes; 2] {
        let key = (routes.as_ptr(), asked);
        if let Some(known) = self.parts.get(&key) {
            return known.clone();
        }
        let first = routes.first();
        let is_alike =
            |other: &Route| first.is_some_and(|first| self.is_alike(&key.1, *first, *other));
        let (alike, others): (Vec<Route>, Vec<Route>) =
            routes.iter().partition(|other| is_alike(other));
        let parts = [alike, others].map(|routes| self.one(routes));
        self.parts.insert(key, parts.clone());
        parts
    }

    /// Whether packets of two paths meet the same rules, by what was asked of those of the first.
    fn is_alike(&self, asked: &[usize], one: Route, other: Route) -> bool {
        asked.iter().all(|index| {
            let answers = self.answers.get_index(*index);
            answers.is_some_and(|(_, answers)| answers.on(one) == answers.on(other))
        })
    }

    /// Notes what becomes of packets to some ports otherwise than before. Returns the last of the ports for which
    /// it is the same.
    fn segment(
        &mut self,
        line: Line,
        (first, limit): (u16, u16),
        routes: &Routes,
        judged: &[General<'a>; 2],
    ) -> u16 {
        let [old, new] = judged;
        if let (Some(old), Some(new), Some(_)) =
            (old.any_destination, new.any_destination, line.address)
        {
            // As at every other address.
            return old.1.min(new.1).min(limit);
        }
        let last = old.ports.1.min(new.ports.1).min(limit);
        let is_same = |(a, b): (&Access<_>, &Access<_>)| {
            a.judgement == b.judgement && Rc::ptr_eq(&a.sources, &b.sources)
        };
        if old.accesses.len() == new.accesses.len()
            && old.accesses.iter().zip(&new.accesses).all(is_same)
        {
            return last;
        }
        let mut allowed = None;
        for before in &old.accesses {
            for after in &new.accesses {
                let Some(effect) = Effect::of(before.judgement, after.judgement) else {
                    continue;
                };
                let sources = self.pool.intersection(&before.sources, &after.sources);
                if sources.is_empty() {
                    continue;
                }
                let allowed = allowed.get_or_insert_with(|| {
                    judged
                        .each_ref()
                        .map(|judged| Set(allowed_of(&mut self.pool, judged)))
                });
                let allowed = allowed.clone();
                let [before, after] = [before, after].map(|access| self.decider(access, first));
                let cell = Cell {
                    family: line.family,
                    change: Change {
                        effect,
                        before,
                        after,
                    },
                    sources: Set(sources),
                    allowed,
                };
                let segment = (line.address, line.protocol, first, last);
                let places = self.cells.entry(cell).or_default();
                places.push((Arc::clone(routes), segment));
            }
        }
        last
    }

    /// Returns the number of what decides about packets to a port.
    fn decider(&mut self, access: &Access<Option<Last<'a>>>, port: u16) -> usize {
        let by = By {
            judgement: access.judgement,
            key: access.steps.and_then(|last| key_of_step(last.chain, port)),
            comment: access.steps.and_then(|last| last.comment),
        };
        self.deciders.insert_full(by).0
    }
}

/// What an expression says of each class of its side.
#[derive(Debug)]
struct Answers {
    side: Option<Side>,
    classes: Vec<bool>,
}

impl Answers {
    fn of(ruleset: &Ruleset, interface: &Interface, [incoming, outgoing]: [&[Class]; 2]) -> Self {
        let side = interface.side();
        let classes = match side {
            Some(Side::In) => incoming,
            Some(Side::Out) => outgoing,
            None => &[],
        };
        let classes = classes.iter();
        Self {
            side,
            classes: classes
                .map(|class| tells(ruleset, interface, &class.name))
                .collect(),
        }
    }

    /// Whether the expression matches on a path.
    fn on(&self, route: Route) -> bool {
        let index = match self.side {
            Some(Side::In) => Some(route.incoming),
            Some(Side::Out) => route.outgoing,
            None => None,
        };
        index.is_some_and(|index| self.classes.get(index) == Some(&true))
    }
}

/// The addresses that have access.
fn allowed_of(pool: &mut Pool, judged: &General<'_>) -> Rc<AddressSet> {
    let nobody = pool.nobody();
    let allowed = judged.accesses.iter();
    let allowed = allowed.filter(|access| access.verdict() == Verdict::Allow);
    allowed.fold(nobody, |all, access| pool.union(&all, &access.sources))
}
