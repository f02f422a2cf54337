//! What one ruleset lets pass and another does not: for every port, path and address of both families.
//!
//! ```text
//!  kind × family × protocol × interfaces ─► Route ─┐
//!  old ruleset ─► Judge ─► accesses at a port ─────┼─► Cell ─► Row    (compare, cells)
//!  new ruleset ─► Judge ─► accesses at a port ─────┘
//! ```
//!
//! Both rulesets say for which ports their answer holds, and the next question is behind that: no list of
//! ports has to be known. Cells that say the same of other ports, paths and families are one row.
//!
//! Where lists are long, few sources stand for all that no rule tells apart from them (`classes`, `sources`).

mod cells;
mod classes;
mod compare;
mod sources;

use std::rc::Rc;

use crate::compile::read;
use crate::net::{AddressSet, Counts, Family, HostPorts, Limits};
use crate::ruleset::{Origin, Ruleset, Side};

use super::eval::Pool;
use super::interfaces::{Class, classes};
use super::judgement::{Judgement, Reason, Verdict, reason};
use super::path::Kind;
use sources::Sources;

/// The kinds of paths that a port has in general.
pub const KINDS: [Kind; 3] = [Kind::Dnat, Kind::Service, Kind::Container];

/// More IPv4 addresses than this are a part of the world, and no list.
pub const MANY: u64 = 1 << 24;

/// From how many elements on lists are compared by classes of sources.
const LONG: usize = 4096;

/// What one ruleset lets pass and another does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Openings first, then by the number of addresses, then by port.
    pub rows: Vec<Row>,
    /// The interfaces that packets come in through, by what the rulesets say of them.
    pub incoming: Vec<Class>,
    /// The bridges that forwarded packets leave through.
    pub outgoing: Vec<Class>,
    /// The keys whose limits change, ascending.
    pub limits: Vec<LimitChange>,
}

/// A key of the new policy that limits its sources otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitChange {
    /// The key.
    pub key: HostPorts,
    /// The limits before; `None` for a new key.
    pub before: Option<Limits>,
    /// The limits afterwards.
    pub after: Limits,
}

/// Addresses for which the verdict changes, in the same way on some ports and paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What the change means.
    pub effect: Effect,
    /// The ports, ascending; without an address at every address of the host that no other row of the port
    /// names, and that is no loopback address: from the network nobody gets there.
    pub ports: Vec<HostPorts>,
    /// The addresses whose verdict changes, of one family or both.
    pub sources: Rc<AddressSet>,
    /// What the addresses are in, where only a host knows which they are: [`sources`](Self::sources) are then
    /// those that it may hold.
    pub source: Option<String>,
    /// How many addresses of these families had access before.
    pub allowed_before: Counts,
    /// How many addresses of these families have access afterwards.
    pub allowed_after: Counts,
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

    /// Returns whether somebody has access afterwards, or may have, who had none.
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
    fn of(judgement: Judgement, key: Option<HostPorts>, comment: Option<&str>) -> Self {
        let line = comment.and_then(Origin::parse);
        Self {
            judgement,
            key,
            reason: reason(comment, line.as_ref()),
            line,
        }
    }
}

impl Difference {
    /// Compares two rulesets.
    #[must_use]
    pub fn of(pool: &mut Pool, old: &Ruleset, new: &Ruleset) -> Self {
        Self::by_classes(pool, old, new, LONG)
    }

    /// Does the same where lists of `long` or more elements are compared by classes of sources, which takes less time
    /// and memory; with 0 all lists are, whatever it takes.
    #[must_use]
    pub fn by_classes(pool: &mut Pool, old: &Ruleset, new: &Ruleset, long: usize) -> Self {
        let both = [old, new];
        let incoming = classes(&both, Side::In);
        // A bridge of which nothing is known is judged as one of an engine.
        let mut outgoing = classes(&both, Side::Out);
        if outgoing.len() > 1 {
            outgoing.retain(|class| !class.others);
        }
        let sources = Sources::new(both, long);
        let cut = both.map(|ruleset| sources.cut(ruleset));
        let cut = cut.each_ref().map(AsRef::as_ref);
        let mut rows = compare::rows(pool, cut, [&incoming, &outgoing], &sources);
        sources.spread(&mut rows);
        sort(&mut rows);
        Self {
            rows,
            incoming,
            outgoing,
            limits: limit_changes(old, new),
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

    /// Returns whether nobody gains or loses anything, and nothing is judged or limited otherwise.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.limits.is_empty()
    }

    /// Returns the rows by which somebody has access, or may have, who had none.
    pub fn openings(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.effect.opens())
    }
}

impl Row {
    /// Returns whether every address of the families has access afterwards.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        let mut families = self.families.iter();
        families.all(|family| self.allowed_after.are_all(*family))
    }
}

/// Returns the keys of the new ruleset whose limits change.
fn limit_changes(old: &Ruleset, new: &Ruleset) -> Vec<LimitChange> {
    let (old, new) = (read(old), read(new));
    let limits = |key: &HostPorts| old.ports.get(key).map(|port| port.limits);
    let changes = new.ports.iter().map(|(key, port)| LimitChange {
        key: *key,
        before: limits(key),
        after: port.limits,
    });
    changes
        .filter(|change| change.before.unwrap_or_default() != change.after)
        .collect()
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_cached_key(|row| {
        let count = (row.sources.count_v4(), row.sources.count_v6());
        let first = row.ports.first().map(|ports| (ports.first, *ports));
        let by = (row.before.clone(), row.after.clone(), row.routes.clone());
        (row.effect, std::cmp::Reverse(count), first, by)
    });
}
