//! What one ruleset lets pass and another does not: for every port, path and address of both families.
//!
//! ```text
//!  kind × family × protocol × interfaces ─► Route ─┐
//!  old ruleset ─► Judge ─► accesses at a port ─────┼─► Cell ─► Row
//!  new ruleset ─► Judge ─► accesses at a port ─────┘
//! ```
//!
//! Both rulesets say for which ports their answer holds, and the next question is behind that: no list of
//! ports has to be known. Cells that say the same of other ports, paths and families are one row.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

use indexmap::IndexMap;

use crate::compile::key_of_step;
use crate::net::{AddressSet, Family, HostPorts, Protocol};
use crate::ruleset::{Expression, Interface, Origin, Ruleset, Side};

use super::access::{Access, Judge, Judged, Slot, destinations, ordinary};
use super::eval::Pool;
use super::interfaces::{Class, classes};
use super::judgement::{Judgement, Reason, Verdict};
use super::path::Kind;

/// The kinds of paths that a port has in general.
pub const KINDS: [Kind; 3] = [Kind::Dnat, Kind::Service, Kind::Container];

/// More IPv4 addresses than this are a part of the world, and no list.
pub const MANY: u64 = 1 << 24;

/// What one ruleset lets pass and another does not.
#[derive(Debug, Default)]
pub struct Difference {
    /// Openings first, then by the number of addresses, then by port.
    pub rows: Vec<Row>,
    /// The interfaces that packets come in through, by what the rulesets say of them.
    pub incoming: Vec<Class>,
    /// The bridges that forwarded packets leave through.
    pub outgoing: Vec<Class>,
}

/// Addresses for which the verdict changes, in the same way on some ports and paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the change means.
    pub effect: Effect,
    /// The ports, ascending; without an address at every address of the host that no other row of the port
    /// names.
    pub ports: Vec<HostPorts>,
    /// The addresses whose verdict changes, of one family or both.
    pub sources: Rc<AddressSet>,
    /// What the addresses are in, where only a host knows which they are: [`sources`](Self::sources) are then
    /// those that it may hold.
    pub source: Option<String>,
    /// The addresses of these families that had access before.
    pub allowed_before: Rc<AddressSet>,
    /// The addresses of these families that have access afterwards.
    pub allowed_after: Rc<AddressSet>,
    /// The families, ascending.
    pub families: Vec<Family>,
    /// What decided before.
    pub before: Decider,
    /// What decides afterwards.
    pub after: Decider,
    /// The paths, ascending.
    pub routes: Vec<Route>,
}

/// What a change of a verdict means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Denied before, and allowed.
    Gains,
    /// Denied before, and not judged: whether there is access is not known. Or not computed before, and not
    /// denied.
    MayGain,
    /// Denied, and not before.
    Loses,
    /// As open as before, and judged by a line now, or by none any more.
    Judged,
}

/// What decides about a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decider {
    /// The judgement.
    pub judgement: Judgement,
    /// The key of the policy; `None` for what the default decides, or a rule of dfw's own.
    pub key: Option<HostPorts>,
    /// The line of the policy; `None` where no line decides.
    pub line: Option<Origin>,
    /// The line, the comment of a rule of dfw's own, or that no rule decides.
    pub reason: String,
}

/// A path by the interfaces of a packet, as numbers of [`Difference::incoming`] and
/// [`Difference::outgoing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The kind of path.
    pub kind: Kind,
    /// The class of the interface that packets come in through.
    pub incoming: usize,
    /// The class of the bridge that they leave through; `None` for a socket of the host.
    pub outgoing: Option<usize>,
    /// Whether the source would not be answered through that interface.
    pub strays: bool,
}

impl Effect {
    /// Returns what a change from one judgement to another means; `None` if nothing changes.
    #[must_use]
    pub fn of(before: Judgement, after: Judgement) -> Option<Self> {
        let is_unknown = |judgement| {
            matches!(
                judgement,
                Judgement::NotJudged(Reason::Foreign | Reason::SameInterface)
            )
        };
        match (before.verdict(), after.verdict()) {
            (Verdict::Deny, Verdict::Allow) => Some(Self::Gains),
            (Verdict::Deny, Verdict::NotJudged) => Some(Self::MayGain),
            (Verdict::Allow | Verdict::NotJudged, Verdict::Deny) => Some(Self::Loses),
            _ if before == after => None,
            (Verdict::NotJudged, Verdict::Allow | Verdict::NotJudged) if is_unknown(before) => {
                Some(Self::MayGain)
            }
            (Verdict::Allow, Verdict::NotJudged) | (Verdict::NotJudged, _) => Some(Self::Judged),
            (Verdict::Deny, Verdict::Deny) | (Verdict::Allow, Verdict::Allow) => None,
        }
    }

    /// Whether somebody has access afterwards, or may have, who had none.
    #[must_use]
    pub fn opens(self) -> bool {
        matches!(self, Self::Gains | Self::MayGain)
    }

    /// Returns the name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gains => "gains",
            Self::MayGain => "may-gain",
            Self::Loses => "loses",
            Self::Judged => "judged",
        }
    }
}

impl Decider {
    fn of(access: &Access, port: u16) -> Self {
        let step = access.steps.last();
        Self {
            judgement: access.judgement,
            key: step.and_then(|step| key_of_step(step.chain.as_str(), port)),
            line: access.line.clone(),
            reason: access.reason(),
        }
    }
}

impl Difference {
    /// Compares two rulesets.
    #[must_use]
    pub fn of(pool: &mut Pool, old: &Ruleset, new: &Ruleset) -> Self {
        let both = [old, new];
        let incoming = classes(&both, Side::In);
        // A bridge of which nothing is known is judged as one of an engine.
        let mut outgoing = classes(&both, Side::Out);
        if outgoing.len() > 1 {
            outgoing.retain(|class| !class.others);
        }
        let mut compare = Compare {
            pool,
            judges: [Judge::new(old), Judge::new(new)],
            destinations: destinations(&both),
            cells: IndexMap::new(),
        };
        let filters = both.iter().any(|ruleset| has_reverse_path_filter(ruleset));
        for kind in KINDS {
            let bridges = match kind {
                Kind::Service => 1,
                _ => outgoing.len(),
            };
            for (i, from) in incoming.iter().enumerate() {
                for (o, to) in outgoing.iter().enumerate().take(bridges) {
                    for strays in [false, true].into_iter().take(1 + usize::from(filters)) {
                        let route = Route {
                            kind,
                            incoming: i,
                            outgoing: (kind != Kind::Service).then_some(o),
                            strays,
                        };
                        compare.route(route, &from.name, &to.name);
                    }
                }
            }
        }
        let rows = rows(compare.pool, compare.cells);
        Self {
            rows,
            incoming,
            outgoing,
        }
    }

    /// Adds the rows of another comparison of the same policies, for which a source that only a host knows holds
    /// every address, unless they are here already: who is in it may gain or lose that access.
    pub fn add_unknown(&mut self, pool: &mut Pool, source: &str, full: Self) {
        let mut added = Vec::new();
        for mut row in full.rows {
            let known = self.rows.iter().filter(|known| known.source.is_none());
            let known = known.filter(|known| {
                known.effect == row.effect
                    && row.ports.iter().all(|ports| known.ports.contains(ports))
                    && row.routes.iter().all(|route| known.routes.contains(route))
            });
            let nobody = pool.nobody();
            let known = known.fold(nobody, |all, known| pool.union(&all, &known.sources));
            row.sources = pool.difference(&row.sources, &known);
            if row.sources.is_empty() {
                continue;
            }
            row.effect = match row.effect {
                Effect::Gains | Effect::MayGain => Effect::MayGain,
                Effect::Loses => Effect::Loses,
                Effect::Judged => continue,
            };
            row.source = Some(source.to_owned());
            added.push(row);
        }
        self.rows.extend(added);
        sort(&mut self.rows);
    }

    /// Whether nobody gains or loses anything, and nothing is judged otherwise.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the rows by which somebody has access, or may have, who had none.
    pub fn openings(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.effect.opens())
    }
}

impl Row {
    /// Whether every address of the families has access afterwards.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        let whole = |family: &Family| match family {
            Family::V4 => self.allowed_after.v4() == [(0, u32::MAX)],
            Family::V6 => self.allowed_after.v6() == [(0, u128::MAX)],
        };
        self.families.iter().all(whole)
    }
}

/// Whether some rule of a ruleset asks for the reverse path.
fn has_reverse_path_filter(ruleset: &Ruleset) -> bool {
    let rules = ruleset.chains.values().flat_map(|chain| &chain.rules);
    rules
        .flat_map(|rule| &rule.expressions)
        .any(|e| *e == Expression::Interface(Interface::NoReversePath))
}

/// A change of addresses on one path, whatever the ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cell {
    route: Route,
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

struct Compare<'p, 'a> {
    pool: &'p mut Pool,
    /// Of the old and the new ruleset.
    judges: [Judge<'a>; 2],
    /// The addresses of the host that rules tell apart.
    destinations: BTreeSet<IpAddr>,
    cells: IndexMap<Cell, Vec<Segment>>,
}

impl Compare<'_, '_> {
    fn route(&mut self, route: Route, incoming: &str, outgoing: &str) {
        let named: Vec<IpAddr> = self.destinations.iter().copied().collect();
        for family in Family::ALL {
            let asked = ordinary(family, &self.destinations);
            let named = named
                .iter()
                .filter(|address| Family::of(**address) == family);
            let addresses = [None]
                .into_iter()
                .chain(named.map(|address| Some(*address)));
            for address in addresses {
                for protocol in Protocol::ALL {
                    let slot = Slot {
                        kind: route.kind,
                        family,
                        protocol,
                        // There is no port 0.
                        port: 1,
                        address: address.unwrap_or(asked),
                        incoming,
                        outgoing,
                        strays: route.strays,
                    };
                    self.ports(route, slot, address);
                }
            }
        }
    }

    /// Compares all ports of an address.
    fn ports(&mut self, route: Route, mut slot: Slot<'_>, address: Option<IpAddr>) {
        loop {
            let [old, new] = self
                .judges
                .each_mut()
                .map(|judge| judge.in_general(self.pool, &slot));
            let silent = old.any_destination.zip(new.any_destination);
            let last = match silent {
                // As at every other address.
                Some((old, new)) if address.is_some() => old.1.min(new.1),
                _ => {
                    let last = old.ports.1.min(new.ports.1);
                    let segment = (address, slot.protocol, slot.port, last);
                    self.segment(route, slot.family, segment, &[old, new]);
                    last
                }
            };
            match last.checked_add(1) {
                Some(next) => slot.port = next,
                None => return,
            }
        }
    }

    /// Compares what becomes of packets to some ports.
    fn segment(&mut self, route: Route, family: Family, segment: Segment, judged: &[Judged; 2]) {
        let [old, new] = judged;
        let alike = |(a, b): (&Access, &Access)| {
            a.judgement == b.judgement && Rc::ptr_eq(&a.sources, &b.sources)
        };
        if old.accesses.len() == new.accesses.len()
            && old.accesses.iter().zip(&new.accesses).all(alike)
        {
            return;
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
                let port = segment.2;
                let cell = Cell {
                    route,
                    family,
                    change: Change {
                        effect,
                        before: Decider::of(before, port),
                        after: Decider::of(after, port),
                    },
                    sources: Set(sources),
                    allowed: allowed.clone(),
                };
                self.cells.entry(cell).or_default().push(segment);
            }
        }
    }
}

/// The addresses that have access.
fn allowed_of(pool: &mut Pool, judged: &Judged) -> Rc<AddressSet> {
    let nobody = pool.nobody();
    let allowed = judged.accesses.iter();
    let allowed = allowed.filter(|access| access.verdict() == Verdict::Allow);
    allowed.fold(nobody, |all, access| pool.union(&all, &access.sources))
}

/// What the cells of one row have in common but for their paths and families.
type Same = (Change, Vec<Segment>, Vec<Route>);

/// Joins what says the same of several paths, and then of both families.
fn rows(pool: &mut Pool, cells: IndexMap<Cell, Vec<Segment>>) -> Vec<Row> {
    type PerFamily = (Family, Set, [Set; 2]);
    let mut paths: IndexMap<(Change, Vec<Segment>, PerFamily), Vec<Route>> = IndexMap::new();
    for (cell, segments) in cells {
        let per_family = (cell.family, cell.sources, cell.allowed);
        let key = (cell.change, joined(segments), per_family);
        paths.entry(key).or_default().push(cell.route);
    }
    let mut families: IndexMap<Same, Vec<PerFamily>> = IndexMap::new();
    for ((change, segments, per_family), mut routes) in paths {
        routes.sort_unstable();
        let key = (change, segments, routes);
        families.entry(key).or_default().push(per_family);
    }
    let mut rows: Vec<Row> = families
        .into_iter()
        .map(|((change, segments, routes), mut per_family)| {
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
        })
        .collect();
    sort(&mut rows);
    rows
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_cached_key(|row| {
        let count = (row.sources.count_v4(), row.sources.count_v6());
        let first = row.ports.first().map(|ports| (ports.first, *ports));
        let by = (row.before.clone(), row.after.clone(), row.routes.clone());
        (row.effect, std::cmp::Reverse(count), first, by)
    });
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
