//! The evaluator for a set of sources at once.
//!
//! A set of addresses goes through the chains instead of one address. Where an expression asks for the source
//! ([`question`](super::question)), the set is cut in two; whatever else a rule says is answered by the
//! evaluator of one packet, as it is the same for all of them. What comes out are regions: every source is in
//! exactly one, and all of a region meet the same rules.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use indexmap::IndexMap;

use crate::net::{AddressSet, Family};
use crate::ruleset::check::JUMP_MAX;
use crate::ruleset::{
    Address, End, Expression, Hook, Interface, Port, Rule, Ruleset, Set, Verdict,
};

use super::local::deny_local_only;
use super::lookup::Unknown;
use super::names::Names;
use super::packet::Packet;
use super::pool::{Fast, Pool};
use super::question::{Asked, Question};
use super::trace::{Decision, Step};
use super::{ALL_PORTS, Answer, Ending, Hits, Run, bases, overlap};

/// Sources for which a packet meets the same rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region<S = Vec<Step>> {
    /// The sources, never none.
    pub sources: Rc<AddressSet>,
    /// What becomes of the packet; `None` if it meets something that cannot be evaluated, so that only the
    /// kernel knows.
    pub decision: Option<Decision>,
    /// The rules that led there, as in [`Trace::steps`](super::Trace::steps), without the elements that
    /// contain the source; or the last of them.
    pub steps: S,
}

/// What becomes of a packet from every source of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition<'a, S = Vec<Step>> {
    /// Disjoint, and together the whole set. At most one for each rule that decides.
    pub regions: Vec<Region<S>>,
    /// The ports around that of the packet for which all of this is the same; first and last. Only of a
    /// packet whose destination port was not translated.
    pub ports: (u16, u16),
    /// The ports around that of the packet for which nothing depends on the destination of the packet;
    /// `None` where something does.
    pub any_destination: Option<(u16, u16)>,
    /// The expressions of the ruleset that compared a name of an interface: a packet that differs in its
    /// interfaces only, and for which each of these has the same answer, meets the same rules.
    pub interfaces: Vec<&'a Interface>,
}

/// The rule that decides about a packet. It borrows: thousands of ports are compared by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last<'a> {
    /// Its chain.
    pub chain: &'a str,
    /// Its comment, or that of an element by which it matched.
    pub comment: Option<&'a str>,
}

/// A rule by its chain and its place there, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'a> {
    /// The chain.
    chain: &'a str,
    /// The place of the rule.
    index: usize,
    /// The rule.
    rule: &'a Rule,
}

/// A partition without the elements by which rules matched.
#[derive(Debug)]
struct Outline<'a> {
    regions: Vec<Outcome<'a>>,
    ports: (u16, u16),
    any_destination: Option<(u16, u16)>,
    interfaces: Vec<&'a Interface>,
}

/// A region without the elements by which rules matched.
#[derive(Debug)]
struct Outcome<'a> {
    sources: Rc<AddressSet>,
    decision: Option<Decision>,
    trail: Vec<Place<'a>>,
    /// Whether it is decided in prerouting.
    early: bool,
}

/// A ruleset that sets of sources are sent through.
#[derive(Debug)]
pub struct Symbolic<'a> {
    ruleset: &'a Ruleset,
    bases: [Rc<[&'a str]>; 4],
    /// Whether prerouting accepts every packet that is not for this host.
    denies_local_only: bool,
    /// What sets and maps hold, of those that were asked for.
    found: IndexMap<(Option<*const Set>, Family, Asked), Known<'a>, Fast>,
    names: Names<'a>,
}

/// Sources apart by the verdict that a map has for them; a set has none.
type Found<'a> = Rc<[(Rc<AddressSet>, Option<&'a Verdict>)]>;

/// What a set or map holds, if it can be asked.
type Known<'a> = Result<Found<'a>, Unknown>;

impl<'a> Symbolic<'a> {
    /// Returns the evaluator of a ruleset.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset) -> Self {
        let bases = Hook::ALL.map(|hook| Rc::from(bases(ruleset, hook)));
        let [prerouting, ..] = &bases;
        Self {
            ruleset,
            denies_local_only: deny_local_only(ruleset, prerouting),
            bases,
            found: IndexMap::default(),
            names: Names::new(ruleset),
        }
    }

    /// Returns the ruleset.
    #[must_use]
    pub fn ruleset(&self) -> &'a Ruleset {
        self.ruleset
    }

    /// Sends a packet from each of `sources`, which are of the family of its source, through the base chains
    /// of its hook, and before that through those of prerouting if it [arrives](Packet::arrival). The packet from
    /// one of them is [`Packet::from_source`]; everything else about it stays as it is, also whether it
    /// [strays](Packet::strays).
    pub fn partition(
        &mut self,
        pool: &mut Pool,
        packet: &Packet,
        sources: &Rc<AddressSet>,
    ) -> Partition<'a> {
        self.partition_with(pool, packet, sources, Self::steps)
    }

    /// Does the same for the last steps only.
    pub(in crate::analysis) fn partition_by_last(
        &mut self,
        pool: &mut Pool,
        packet: &Packet,
        sources: &Rc<AddressSet>,
    ) -> Partition<'a, Option<Last<'a>>> {
        self.partition_with(pool, packet, sources, Self::last)
    }

    fn partition_with<S>(
        &mut self,
        pool: &mut Pool,
        packet: &Packet,
        sources: &Rc<AddressSet>,
        steps: fn(&mut Self, &Packet, &[Place<'a>]) -> S,
    ) -> Partition<'a, S> {
        let source = packet.flow.source;
        let connection = packet.connection;
        let packet = if connection.is_none_or(|c| c.original.source == source) {
            Cow::Borrowed(packet)
        } else {
            // Its connection comes from the same family as well.
            Cow::Owned(packet.from_source(source))
        };
        let arriving = self.arriving(&packet);
        let outline = self.outline(pool, &packet, arriving.as_ref(), sources);
        let regions = outline.regions.into_iter().map(|outcome| {
            let seen = arriving.as_ref().filter(|_| outcome.early);
            Region {
                steps: steps(self, seen.unwrap_or(&packet), &outcome.trail),
                sources: outcome.sources,
                decision: outcome.decision,
            }
        });
        Partition {
            regions: regions.collect(),
            ports: outline.ports,
            any_destination: outline.any_destination,
            interfaces: outline.interfaces,
        }
    }

    /// Returns a packet as it came in; `None` if nothing is decided about it there.
    fn arriving(&self, packet: &Packet) -> Option<Packet> {
        let [prerouting, ..] = &self.bases;
        let is_judged = !prerouting.is_empty()
            && packet
                .arrival
                .is_some_and(|arrival| arrival.local || !self.denies_local_only);
        is_judged.then(|| packet.arriving()).flatten()
    }

    /// Returns the partition of a packet whose connection comes from the same source.
    fn outline(
        &mut self,
        pool: &mut Pool,
        packet: &Packet,
        arriving: Option<&Packet>,
        sources: &Rc<AddressSet>,
    ) -> Outline<'a> {
        let [prerouting, input, forward, output] = &self.bases;
        let early = arriving.map(|arriving| (arriving, Rc::clone(prerouting)));
        let bases = match packet.hook {
            Hook::Prerouting => None,
            Hook::Input => Some(Rc::clone(input)),
            Hook::Forward => Some(Rc::clone(forward)),
            Hook::Output => Some(Rc::clone(output)),
        };
        let mut walk = Walk {
            symbolic: self,
            pool,
            packet,
            trail: Vec::new(),
            regions: Vec::new(),
            ports: ALL_PORTS,
            any_destination: Some(ALL_PORTS),
            interfaces: Vec::new(),
        };
        walk.regions.push(Outcome {
            sources: Rc::clone(sources),
            decision: Some(Decision::Accept),
            trail: Vec::new(),
            early: false,
        });
        if let Some((arriving, early)) = early {
            walk.packet = arriving;
            for base in early.iter() {
                walk.base(base);
            }
            walk.leave_prerouting(sources);
            walk.packet = packet;
        }
        for base in bases.iter().flat_map(|bases| bases.iter()) {
            walk.base(base);
        }
        walk.regions.retain(|region| !region.sources.is_empty());
        Outline {
            regions: walk.regions,
            ports: walk.ports,
            any_destination: walk.any_destination,
            interfaces: walk.interfaces,
        }
    }

    /// Returns the rules of a trail with what they matched by, but for sources.
    fn steps(&mut self, packet: &Packet, trail: &[Place<'a>]) -> Vec<Step> {
        let step = |place: &Place<'a>| {
            let hits = self.hits(packet, place.rule, true);
            Step::of((place.chain, place.index), place.rule, hits.all)
        };
        trail.iter().filter_map(step).collect()
    }

    /// Returns the last rule of a trail.
    fn last(&mut self, packet: &Packet, trail: &[Place<'a>]) -> Option<Last<'a>> {
        let place = trail.last()?;
        let own = place.rule.comment.as_deref();
        Some(Last {
            chain: place.chain,
            comment: own.or_else(|| self.hits(packet, place.rule, false).comment),
        })
    }

    /// Returns what a rule matched by, but for sources.
    fn hits(&mut self, packet: &Packet, rule: &'a Rule, wants_hits: bool) -> Hits<'a> {
        let mut hits = Hits::default();
        let mut run = Run::new(&mut self.names, packet, wants_hits);
        for expression in &rule.expressions {
            if Question::of(expression, packet).is_none() {
                run.answer(expression, &mut hits);
            }
        }
        hits
    }

    fn found(&mut self, pool: &mut Pool, question: &Question<'a>) -> Known<'a> {
        let ruleset = self.ruleset;
        let set = self.names.set(question.set).map(std::ptr::from_ref);
        let family = Family::of(question.source);
        let found = self.found.entry((set, family, question.asked));
        let found = found.or_insert_with(|| {
            let all = question.sources(ruleset)?.into_iter();
            Ok(all
                .map(|(set, verdict)| (pool.keep(set), verdict))
                .collect())
        });
        found.clone()
    }
}

struct Walk<'w, 'a> {
    symbolic: &'w mut Symbolic<'a>,
    pool: &'w mut Pool,
    packet: &'w Packet,
    /// The rules that led to the current chain.
    trail: Vec<Place<'a>>,
    regions: Vec<Outcome<'a>>,
    ports: (u16, u16),
    any_destination: Option<(u16, u16)>,
    interfaces: Vec<&'a Interface>,
}

/// Sources for which a rule ends with a verdict.
struct Part<'a> {
    sources: Rc<AddressSet>,
    ending: Ending<'a>,
}

impl<'a> Walk<'_, 'a> {
    /// Sends what was accepted up to now through a base chain. Accepting is final for one base chain only.
    fn base(&mut self, name: &'a str) {
        let (accepted, rest) = std::mem::take(&mut self.regions)
            .into_iter()
            .partition(|region: &Outcome<'a>| region.decision == Some(Decision::Accept));
        self.regions = rest;
        for Outcome { sources, trail, .. } in accepted {
            self.trail = trail;
            let left = self.chain(name, sources, JUMP_MAX);
            self.decide(left, Some(Decision::Accept));
        }
        self.trail.clear();
    }

    /// Makes what prerouting accepts of these sources one region without rules: it is judged as if there were no
    /// chain.
    fn leave_prerouting(&mut self, sources: &Rc<AddressSet>) {
        let (accepted, denied): (Vec<_>, Vec<_>) = std::mem::take(&mut self.regions)
            .into_iter()
            .partition(|region| region.decision == Some(Decision::Accept));
        let accepted = if denied.is_empty() {
            Rc::clone(sources)
        } else {
            let nobody = self.pool.nobody();
            let sources = accepted.iter().map(|region| &region.sources);
            sources.fold(nobody, |all, some| self.pool.union(&all, some))
        };
        self.regions = denied;
        self.regions.push(Outcome {
            sources: accepted,
            decision: Some(Decision::Accept),
            trail: Vec::new(),
            early: false,
        });
    }

    fn decide(&mut self, sources: Rc<AddressSet>, decision: Option<Decision>) {
        if !sources.is_empty() {
            self.regions.push(Outcome {
                sources,
                decision,
                trail: self.trail.clone(),
                early: self.packet.hook == Hook::Prerouting,
            });
        }
    }

    /// Returns the sources that a chain leaves without a decision.
    fn chain(&mut self, name: &'a str, sources: Rc<AddressSet>, depth: usize) -> Rc<AddressSet> {
        let (Some(chain), Some(depth)) = (self.symbolic.names.chain(name), depth.checked_sub(1))
        else {
            self.decide(sources, None);
            return self.pool.nobody();
        };
        let mut current = sources;
        let mut returned = self.pool.nobody();
        let mut parts = Vec::new();
        for (index, rule) in chain.rules.iter().enumerate() {
            if current.is_empty() {
                break;
            }
            self.rule(rule, &mut current, &mut parts);
            for part in parts.drain(..) {
                let before = self.trail.len();
                if !rule.is_mute() {
                    self.trail.push(Place {
                        chain: name,
                        index,
                        rule,
                    });
                }
                let leads = |verdict: &Verdict| verdict.chain().is_some();
                if is_by_destination(rule) && !part.ending.verdict().is_some_and(leads) {
                    self.any_destination = None;
                }
                match part.ending {
                    Ending::Nothing => current = self.pool.union(&current, &part.sources),
                    Ending::Reject => self.decide(part.sources, Some(Decision::Reject)),
                    Ending::Verdict(Verdict::Accept) => {
                        self.decide(part.sources, Some(Decision::Accept));
                    }
                    Ending::Verdict(Verdict::Drop) => {
                        self.decide(part.sources, Some(Decision::Drop));
                    }
                    Ending::Verdict(Verdict::Jump(target)) => {
                        let left = self.below(rule, target, part.sources, depth);
                        current = self.pool.union(&current, &left);
                    }
                    Ending::Verdict(Verdict::Goto(target)) => {
                        let left = self.below(rule, target, part.sources, depth);
                        returned = self.pool.union(&returned, &left);
                    }
                    Ending::Verdict(Verdict::Return) => {
                        returned = self.pool.union(&returned, &part.sources);
                    }
                }
                self.trail.truncate(before);
            }
        }
        self.pool.union(&current, &returned)
    }

    /// Returns the sources that a chain leaves without a decision to which a rule led, and notes whether the
    /// destination makes a difference.
    fn below(
        &mut self,
        rule: &Rule,
        target: &'a str,
        sources: Rc<AddressSet>,
        depth: usize,
    ) -> Rc<AddressSet> {
        if !is_by_destination(rule) {
            return self.chain(target, sources, depth);
        }
        let outside = std::mem::replace(&mut self.ports, ALL_PORTS);
        let decided = self.regions.len();
        let left = self.chain(target, Rc::clone(&sources), depth);
        let silent = self.regions.len() == decided && left == sources;
        self.any_destination = self
            .any_destination
            .filter(|_| silent)
            .map(|ports| overlap(ports, self.ports));
        self.ports = overlap(outside, self.ports);
        left
    }

    /// Moves the sources for which a rule ends with a verdict from `current` to `parts`.
    fn rule(&mut self, rule: &'a Rule, current: &mut Rc<AddressSet>, parts: &mut Vec<Part<'a>>) {
        let mut matched = Rc::clone(current);
        for expression in &rule.expressions {
            self.note(expression);
            let Some(question) = Question::of(expression, self.packet) else {
                let names = &mut self.symbolic.names;
                let mut run = Run::new(names, self.packet, false);
                let answer = run.answer(expression, &mut Hits::default());
                if run.unknown {
                    self.unknown(current, &matched);
                    return;
                }
                match answer {
                    Answer::Yes => continue,
                    Answer::No => return,
                    Answer::End(ending) => {
                        *current = self.pool.difference(current, &matched);
                        parts.push(Part {
                            sources: matched,
                            ending,
                        });
                        return;
                    }
                }
            };
            let Ok(question) = question else {
                return;
            };
            let Ok(found) = self.symbolic.found(self.pool, &question) else {
                self.unknown(current, &matched);
                return;
            };
            match question.asked {
                Asked::Address | Asked::Network { .. } => {
                    let nobody = self.pool.nobody();
                    let set = found.first().map_or(&nobody, |(set, _)| set);
                    matched = self.pool.intersection(&matched, set);
                    if matched.is_empty() {
                        return;
                    }
                }
                Asked::Verdict { .. } => {
                    for (set, verdict) in found.iter() {
                        let sources = self.pool.intersection(&matched, set);
                        match verdict {
                            _ if sources.is_empty() => {}
                            None => self.unknown(current, &sources),
                            Some(verdict) => {
                                *current = self.pool.difference(current, &sources);
                                parts.push(Part {
                                    sources,
                                    ending: Ending::Verdict(verdict),
                                });
                            }
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Takes sources out that meet something that cannot be evaluated.
    fn unknown(&mut self, current: &mut Rc<AddressSet>, sources: &Rc<AddressSet>) {
        *current = self.pool.difference(current, sources);
        self.decide(Rc::clone(sources), None);
    }

    /// Notes for which ports an expression has the same answer, whether it depends on the destination, and what
    /// it asks of interfaces.
    fn note(&mut self, expression: &'a Expression) {
        let packet = self.packet;
        let asked = match expression {
            Expression::Port(Port::Map {
                tuple,
                protocol,
                map: set,
            }) => packet.port(*tuple, *protocol).map(|(_, port)| (set, port)),
            Expression::Port(Port::SourceIn {
                tuple,
                protocol,
                set,
                ..
            }) => packet.port(*tuple, *protocol).map(|(_, port)| (set, port)),
            Expression::Port(Port::In { tuple, set }) => {
                let port = packet.flow(*tuple).and_then(|flow| flow.port);
                port.map(|port| (set, port))
            }
            Expression::Port(Port::AddressMap {
                end: End::Destination,
                protocol,
                map: set,
                ..
            }) => {
                self.any_destination = None;
                let port = packet.flow.port.filter(|_| packet.protocol == *protocol);
                port.map(|port| (set, port))
            }
            Expression::Address(Address::DestinationIn { .. }) => {
                self.any_destination = None;
                None
            }
            Expression::Address(Address::ToLoopback(tuple)) => {
                let to = packet.flow(*tuple).map(|flow| flow.destination);
                if to.is_some_and(|to| matches!(to, IpAddr::V4(to) if to.is_loopback())) {
                    self.any_destination = None;
                }
                None
            }
            Expression::Address(
                Address::Family(_)
                | Address::Local
                | Address::SourceIn { .. }
                | Address::DestinationMap { .. },
            )
            | Expression::Port(
                Port::Protocol(_)
                | Port::Opens
                | Port::AddressMap {
                    end: End::Source, ..
                },
            )
            | Expression::Interface(
                Interface::OutBridge | Interface::SameInterface | Interface::NoReversePath,
            )
            | Expression::Conntrack(_)
            | Expression::PerSource(_)
            | Expression::Statement(_)
            | Expression::Unknown { .. } => None,
            Expression::Interface(interface @ (Interface::Name { .. } | Interface::In { .. })) => {
                if !self
                    .interfaces
                    .iter()
                    .any(|known| std::ptr::eq(*known, interface))
                {
                    self.interfaces.push(interface);
                }
                None
            }
        };
        if let Some((set, port)) = asked {
            let alike = self.symbolic.names.ports_alike(set, packet.protocol, port);
            self.ports = overlap(self.ports, alike);
        }
    }
}

/// Whether a rule ends by a map from destinations.
fn is_by_destination(rule: &Rule) -> bool {
    let last = rule.expressions.last();
    matches!(
        last,
        Some(Expression::Address(Address::DestinationMap { .. }))
    )
}
