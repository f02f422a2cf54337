//! Asks both rulesets about every port, path and class of interfaces, and joins what says the same.
//!
//! Two things are not asked: ports at which the rulesets are equal, and interfaces that differ in nothing that a
//! rule on the way compared.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use indexmap::IndexMap;

use crate::net::{AddressSet, Family, HostPorts, Protocol};
use crate::ruleset::{Interface, Ruleset, Side};

use super::super::access::{Access, Judge, Judged, Slot, destinations, ordinary};
use super::super::eval::{Fast, Pool, differing_ports, tells};
use super::super::interfaces::{Class, has_reverse_path_filter};
use super::super::judgement::Verdict;
use super::super::path::Kind;
use super::{Decider, Effect, KINDS, Route, Row};

/// Returns the rows, in no order.
pub(super) fn rows(pool: &mut Pool, rulesets: [&Ruleset; 2], classes: [&[Class]; 2]) -> Vec<Row> {
    let mut compare = Compare {
        pool,
        rulesets,
        judges: rulesets.map(Judge::new),
        classes,
        answers: IndexMap::default(),
        cells: IndexMap::new(),
    };
    compare.all();
    joined_rows(compare.pool, compare.cells)
}

/// A change of addresses, whatever the ports and paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cell {
    family: Family,
    change: Change,
    sources: Set,
    allowed: [Set; 2],
}

/// The judgements before and afterwards, with what decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Change {
    effect: Effect,
    before: Decider,
    after: Decider,
}

/// A set of a pool, which is equal to no other.
#[derive(Debug, Clone)]
struct Set(Rc<AddressSet>);

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Set {}

impl std::hash::Hash for Set {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Rc::as_ptr(&self.0).hash(state);
    }
}

/// Ports as a policy names them: at an address or at every other one.
type Segment = (Option<IpAddr>, Protocol, u16, u16);

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
    pool: &'p mut Pool,
    /// The old and the new ruleset.
    rulesets: [&'a Ruleset; 2],
    judges: [Judge<'a>; 2],
    /// The classes of interfaces, incoming and outgoing.
    classes: [&'p [Class]; 2],
    /// What an expression says of each class of its side.
    answers: IndexMap<*const Interface, Vec<bool>, Fast>,
    /// What changes, with the ports on each path.
    cells: IndexMap<Cell, IndexMap<Route, Vec<Segment>>>,
}

impl<'a> Compare<'_, 'a> {
    fn all(&mut self) {
        let destinations = destinations(&self.rulesets);
        let [old, new] = self.rulesets;
        let protocols = Protocol::ALL.map(|protocol| {
            let ports = differing_ports(old, new, protocol.into());
            (protocol, ports)
        });
        let has_filter = self.rulesets.into_iter().any(has_reverse_path_filter);
        for kind in KINDS {
            for strays in [false, true].into_iter().take(1 + usize::from(has_filter)) {
                let routes = self.routes(kind, strays);
                for family in Family::ALL {
                    let ordinary = ordinary(family, &destinations);
                    let named = destinations
                        .iter()
                        .filter(|address| Family::of(**address) == family);
                    let addresses = [None].into_iter().chain(named.copied().map(Some));
                    for address in addresses {
                        for (protocol, ports) in &protocols {
                            let line = Line {
                                kind,
                                family,
                                protocol: *protocol,
                                address,
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
    fn ports(&mut self, line: Line, (first, last): (u16, u16), routes: &[Route]) {
        // The paths by the port that they are to be asked about next.
        let mut next = BTreeMap::from([(first, routes.to_vec())]);
        while let Some((port, mut routes)) = next.pop_first() {
            while let Some(route) = routes.first().copied() {
                let [incoming, outgoing] = self.classes;
                let name = |classes: &'_ [Class], index: Option<usize>| {
                    let class = index.and_then(|index| classes.get(index));
                    class.map_or_else(String::new, |class| class.name.clone())
                };
                let slot = Slot {
                    kind: line.kind,
                    family: line.family,
                    protocol: line.protocol,
                    port,
                    address: line.asked,
                    incoming: &name(incoming, Some(route.incoming)),
                    outgoing: &name(outgoing, route.outgoing),
                    strays: line.strays,
                };
                let judged = self
                    .judges
                    .each_mut()
                    .map(|judge| judge.in_general(self.pool, &slot));
                let (alike, others): (Vec<Route>, Vec<Route>) = routes
                    .into_iter()
                    .partition(|other| self.is_alike(&judged, route, *other));
                let end = self.segment(line, (port, last), &alike, &judged);
                if let Some(behind) = end.checked_add(1).filter(|behind| *behind <= last) {
                    next.entry(behind).or_default().extend(alike);
                }
                routes = others;
            }
        }
    }

    /// Whether packets of two paths meet the same rules, by what was asked of those of the first.
    fn is_alike(&mut self, judged: &[Judged<'a>; 2], one: Route, other: Route) -> bool {
        let rulesets = self.rulesets.into_iter().zip(judged);
        let mut asked = rulesets.flat_map(|(ruleset, judged)| {
            let interfaces = judged.interfaces.iter();
            interfaces.map(move |interface| (ruleset, *interface))
        });
        asked.all(|(ruleset, interface)| {
            self.answer(ruleset, interface, one) == self.answer(ruleset, interface, other)
        })
    }

    /// Whether an expression matches on a path.
    fn answer(&mut self, ruleset: &Ruleset, interface: &'a Interface, route: Route) -> bool {
        let [incoming, outgoing] = self.classes;
        let (classes, index) = match interface.side() {
            Some(Side::In) => (incoming, Some(route.incoming)),
            Some(Side::Out) => (outgoing, route.outgoing),
            None => return false,
        };
        let answers = self.answers.entry(interface).or_insert_with(|| {
            let answers = classes.iter();
            answers
                .map(|class| tells(ruleset, interface, &class.name))
                .collect()
        });
        index.is_some_and(|index| answers.get(index) == Some(&true))
    }

    /// Notes what becomes of packets to some ports otherwise than before. Returns the last of the ports for which
    /// it is the same.
    fn segment(
        &mut self,
        line: Line,
        (first, limit): (u16, u16),
        routes: &[Route],
        judged: &[Judged<'a>; 2],
    ) -> u16 {
        let [old, new] = judged;
        if let (Some(old), Some(new), Some(_)) =
            (old.any_destination, new.any_destination, line.address)
        {
            // As at every other address.
            return old.1.min(new.1).min(limit);
        }
        let last = old.ports.1.min(new.ports.1).min(limit);
        let is_same = |(a, b): (&Access, &Access)| {
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
                        .map(|judged| Set(allowed_of(self.pool, judged)))
                });
                let cell = Cell {
                    family: line.family,
                    change: Change {
                        effect,
                        before: Decider::of(before, first),
                        after: Decider::of(after, first),
                    },
                    sources: Set(sources),
                    allowed: allowed.clone(),
                };
                let paths = self.cells.entry(cell).or_default();
                for route in routes {
                    let segment = (line.address, line.protocol, first, last);
                    paths.entry(*route).or_default().push(segment);
                }
            }
        }
        last
    }
}

/// The addresses that have access.
fn allowed_of(pool: &mut Pool, judged: &Judged<'_>) -> Rc<AddressSet> {
    let nobody = pool.nobody();
    let allowed = judged.accesses.iter();
    let allowed = allowed.filter(|access| access.verdict() == Verdict::Allow);
    allowed.fold(nobody, |all, access| pool.union(&all, &access.sources))
}

/// The addresses of a cell with their family.
type PerFamily = (Family, Set, [Set; 2]);

/// Joins what says the same of several paths, and then of both families.
fn joined_rows(pool: &mut Pool, cells: IndexMap<Cell, IndexMap<Route, Vec<Segment>>>) -> Vec<Row> {
    type Same = (Change, Vec<Segment>, Vec<Route>);
    let mut families: IndexMap<Same, Vec<PerFamily>> = IndexMap::new();
    for (cell, paths) in cells {
        let mut routes: IndexMap<Vec<Segment>, Vec<Route>> = IndexMap::new();
        for (route, segments) in paths {
            routes.entry(joined(segments)).or_default().push(route);
        }
        for (segments, mut routes) in routes {
            routes.sort_unstable();
            let key = (cell.change.clone(), segments, routes);
            let per_family = (cell.family, cell.sources.clone(), cell.allowed.clone());
            families.entry(key).or_default().push(per_family);
        }
    }
    let row = |((change, segments, routes), mut per_family): (Same, Vec<PerFamily>)| {
        per_family.sort_by_key(|(family, ..)| *family);
        let mut all = |of: fn(&PerFamily) -> &Set| {
            let nobody = pool.nobody();
            let sets = per_family.iter().map(of);
            sets.fold(nobody, |all, set| pool.union(&all, &set.0))
        };
        Row {
            effect: change.effect,
            sources: all(|(_, sources, _)| sources),
            source: None,
            allowed_before: all(|(_, _, [before, _])| before),
            allowed_after: all(|(_, _, [_, after])| after),
            families: per_family.iter().map(|(family, ..)| *family).collect(),
            before: change.before,
            after: change.after,
            ports: segments.into_iter().map(ports).collect(),
            routes,
        }
    };
    families.into_iter().map(row).collect()
}

fn ports((address, protocol, first, last): Segment) -> HostPorts {
    HostPorts {
        address,
        protocol,
        first,
        last,
    }
}

/// Sorts segments and joins those that touch.
fn joined(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_unstable();
    segments.dedup_by(|later, earlier| {
        let same = (later.0, later.1) == (earlier.0, earlier.1);
        let touches = same && earlier.3.checked_add(1) == Some(later.2);
        if touches {
            earlier.3 = later.3;
        }
        touches
    });
    segments
}
