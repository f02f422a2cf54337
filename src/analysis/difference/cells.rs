//! What changes, by addresses and deciders: cells, which are joined to rows.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::net::{AddressSet, Family, HostPorts, Protocol};

use super::super::eval::{Fast, Pool};
use super::sources::Sources;
use super::{Decider, Effect, Route, Row};

/// A change of addresses, whatever the ports and paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) family: Family,
    pub(super) change: Change,
    pub(super) sources: Set,
    pub(super) allowed: [Set; 2],
}

/// What decides before and afterwards, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) effect: Effect,
    pub(super) before: usize,
    pub(super) after: usize,
}

/// Paths, which many ports have in common.
pub(super) type Routes = Arc<[Route]>;

/// Ports for which something changes, and the paths on which it does.
pub(super) type Place = (Routes, Segment);

/// What changes, and where.
pub(super) type Cells = IndexMap<Cell, Vec<Place>, Fast>;

/// A set of a pool, which is equal to no other.
#[derive(Debug, Clone)]
pub(super) struct Set(pub(super) Rc<AddressSet>);

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
pub(super) type Segment = (Option<IpAddr>, Protocol, u16, u16);

/// The addresses of a cell with their family.
type PerFamily = (Family, Set, [Set; 2]);

/// Joins what says the same of several paths, and then of both families.
pub(super) fn joined_rows(
    pool: &mut Pool,
    sources: &Sources<'_>,
    deciders: &[Decider],
    cells: Cells,
) -> Vec<Row> {
    type Same = (Change, Vec<Segment>, Vec<Route>);
    let mut families: IndexMap<Same, Vec<PerFamily>, Fast> = IndexMap::default();
    for (cell, places) in cells {
        for (segments, mut routes) in joined_routes(places) {
            routes.sort_unstable();
            let key = (cell.change, segments, routes);
            let per_family = (cell.family, cell.sources.clone(), cell.allowed.clone());
            families.entry(key).or_default().push(per_family);
        }
    }
    let row = |((change, segments, routes), mut per_family): (Same, Vec<PerFamily>)| {
        let [before, after] = [change.before, change.after].map(|index| deciders.get(index));
        per_family.sort_by_key(|(family, ..)| *family);
        let mut all = |of: fn(&PerFamily) -> &Set| {
            let nobody = pool.nobody();
            let sets = per_family.iter().map(of);
            sets.fold(nobody, |all, set| pool.union(&all, &set.0))
        };
        Some(Row {
            effect: change.effect,
            sources: all(|(_, sources, _)| sources),
            source: None,
            allowed_before: sources.count(&all(|(_, _, [before, _])| before)),
            allowed_after: sources.count(&all(|(_, _, [_, after])| after)),
            families: per_family.iter().map(|(family, ..)| *family).collect(),
            before: before?.clone(),
            after: after?.clone(),
            ports: segments.into_iter().map(ports).collect(),
            routes,
        })
    };
    families.into_iter().filter_map(row).collect()
}

/// Returns the paths on which the same ports change, with these.
fn joined_routes(places: Vec<Place>) -> IndexMap<Vec<Segment>, Vec<Route>, Fast> {
    // Paths that were found alike at one port mostly are at all: they stay together.
    let mut together: Vec<(Routes, Vec<Segment>)> = Vec::new();
    for (routes, segment) in places {
        match together.iter_mut().find(|(known, _)| *known == routes) {
            Some((_, segments)) => segments.push(segment),
            None => together.push((routes, vec![segment])),
        }
    }
    let mut all: Vec<Route> = together
        .iter()
        .flat_map(|(routes, _)| routes.iter().copied())
        .collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    if all.len() < count {
        let mut apart: IndexMap<Route, Vec<Segment>, Fast> = IndexMap::default();
        for (routes, segments) in together {
            for route in routes.iter() {
                apart.entry(*route).or_default().extend(&segments);
            }
        }
        let apart = apart.into_iter();
        together = apart
            .map(|(route, segments)| (Arc::from([route]), segments))
            .collect();
    }
    let mut joined_by: IndexMap<Vec<Segment>, Vec<Route>, Fast> = IndexMap::default();
    for (routes, segments) in together {
        let same = joined_by.entry(joined(segments)).or_default();
        same.extend(routes.iter());
    }
    joined_by
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
