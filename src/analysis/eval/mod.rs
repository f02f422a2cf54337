//! The evaluator: what becomes of a packet that goes through a ruleset, and why.
//!
//! It knows nothing of policies, so it is a second opinion on the compiler. What it says of a
//! packet is what the kernel does with it: a rule whose expressions all match decides, a rule that
//! asks for what the packet does not have (connection tracking, an outgoing interface) does not
//! match, and where nothing decides, a base chain accepts.

mod alike;
mod local;
mod lookup;
mod names;
mod packet;
mod partition;
mod pool;
mod question;
#[cfg(test)]
mod tests;
mod trace;

use std::net::IpAddr;

use crate::net::Family;

use crate::ruleset::check::JUMP_MAX;
use crate::ruleset::{
    Address, Base, Conntrack, End, Expression, Hook, Interface, L4Protocol, NameMatch, PerSource,
    Port, Reject, Rule, Ruleset, Statement, Value, Verdict,
};

use lookup::{Match, look_up, value};
use names::Names;
use question::{Asked, Question};

pub use alike::differing_ports;
pub use packet::{Arrival, Connection, Flow, Outgoing, Packet};
pub use partition::{Last, Partition, Region, Symbolic};
pub(super) use pool::Fast;
pub use pool::Pool;
pub(super) use question::looked_up_bits;
pub use trace::{Decision, Element, Hit, Step, Trace};

/// All ports.
const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// Sends a packet through the base chains of its hook, and before that through those of prerouting if it
/// [arrives](Packet::arrival). What prerouting accepts is judged as if there were no chain: there are no steps of it.
#[must_use]
pub fn evaluate(ruleset: &Ruleset, packet: &Packet) -> Trace {
    let early = packet
        .arriving()
        .map(|arriving| at_hook(ruleset, &arriving));
    let denied = |early: &Trace| early.decision != Decision::Accept;
    match early {
        Some(early) if denied(&early) => early,
        early => {
            let mut trace = at_hook(ruleset, packet);
            trace.unknown |= early.is_some_and(|early| early.unknown);
            trace
        }
    }
}

/// Sends a packet through the base chains of its hook.
fn at_hook(ruleset: &Ruleset, packet: &Packet) -> Trace {
    let mut names = Names::new(ruleset);
    let mut run = Run::new(&mut names, packet, true);
    let decision = bases(ruleset, packet.hook)
        .into_iter()
        .map(|name| run.chain(name, JUMP_MAX).unwrap_or(Decision::Accept))
        // Accepting is final for one base chain only.
        .find(|decision| *decision != Decision::Accept)
        .unwrap_or(Decision::Accept);
    Trace {
        decision,
        steps: run.steps,
        unknown: run.unknown,
    }
}

/// Returns whether an expression that compares names matches a packet whose interfaces, in and out, have this
/// name.
pub(super) fn tells<'a>(ruleset: &'a Ruleset, expression: &'a Interface, name: &str) -> bool {
    let nowhere = Family::V4.unspecified();
    let packet = Packet {
        hook: Hook::Forward,
        incoming: name.to_owned(),
        outgoing: Some(Outgoing {
            name: name.to_owned(),
            bridge: false,
        }),
        protocol: L4Protocol::Tcp,
        flow: Flow {
            source: nowhere,
            destination: nowhere,
            port: None,
        },
        arrival: None,
        source_port: None,
        connection: None,
        returns: false,
        strays: false,
        resumes: false,
        opened: false,
    };
    let mut names = Names::new(ruleset);
    let mut run = Run::new(&mut names, &packet, false);
    let answer = run.interface(expression, &mut Hits::default());
    matches!(answer, Answer::Yes)
}

/// Returns the base chains of a hook in the order in which packets come to them.
fn bases(ruleset: &Ruleset, hook: Hook) -> Vec<&str> {
    let chains = ruleset.chains.iter();
    let mut bases: Vec<(Base, &str)> = chains
        .filter_map(|(name, chain)| Some((chain.base?, name.as_str())))
        .filter(|(base, _)| base.hook == hook)
        .collect();
    bases.sort_by_key(|(base, _)| base.priority);
    bases.into_iter().map(|(_, name)| name).collect()
}

/// Returns the ports that are in both ranges.
fn overlap(a: (u16, u16), b: (u16, u16)) -> (u16, u16) {
    (a.0.max(b.0), a.1.min(b.1))
}

struct Run<'a, 'p> {
    names: &'p mut Names<'a>,
    packet: &'p Packet,
    /// Whether elements that match are told.
    wants_hits: bool,
    steps: Vec<Step>,
    unknown: bool,
}

/// What a rule matched by.
#[derive(Default)]
struct Hits<'a> {
    /// The elements, if they are wanted.
    all: Vec<Hit>,
    /// The comment of the first that has one.
    comment: Option<&'a str>,
}

impl<'a> Hits<'a> {
    fn extend(&mut self, found: Option<Match<'a>>) {
        if let Some(found) = found {
            self.comment = self.comment.or(found.comment);
            self.all.extend(found.hit);
        }
    }
}

/// How a rule ends.
enum Ending<'a> {
    /// It has nothing to say.
    Nothing,
    Verdict(&'a Verdict),
    Reject,
}

impl<'a> Ending<'a> {
    fn verdict(&self) -> Option<&'a Verdict> {
        match self {
            Self::Verdict(verdict) => Some(verdict),
            Self::Nothing | Self::Reject => None,
        }
    }
}

/// What an expression does to the rule.
enum Answer<'a> {
    /// It does not match: the rule ends without a verdict.
    No,
    Yes,
    End(Ending<'a>),
}

impl From<bool> for Answer<'_> {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

impl<'a, 'p> Run<'a, 'p> {
    fn new(names: &'p mut Names<'a>, packet: &'p Packet, wants_hits: bool) -> Self {
        Self {
            names,
            packet,
            wants_hits,
            steps: Vec::new(),
            unknown: false,
        }
    }

    /// What a chain decides; `None` if it is left without a decision. `depth` bounds the chains below
    /// each other, as the kernel bounds jumps: a jump loop is not a valid ruleset.
    fn chain(&mut self, name: &'a str, depth: usize) -> Option<Decision> {
        let (Some(chain), Some(depth)) = (self.names.chain(name), depth.checked_sub(1)) else {
            self.unknown = true;
            return None;
        };
        for (index, rule) in chain.rules.iter().enumerate() {
            let before = self.steps.len();
            let (end, hits) = self.rule(rule);
            if !matches!(end, Ending::Nothing) {
                self.steps.extend(Step::of((name, index), rule, hits.all));
            }
            match end {
                Ending::Nothing => {}
                Ending::Reject => return Some(Decision::Reject),
                Ending::Verdict(Verdict::Accept) => return Some(Decision::Accept),
                Ending::Verdict(Verdict::Drop) => return Some(Decision::Drop),
                Ending::Verdict(Verdict::Jump(target)) => {
                    if let Some(decision) = self.chain(target, depth) {
                        return Some(decision);
                    }
                    self.steps.truncate(before);
                }
                Ending::Verdict(Verdict::Goto(target)) => {
                    let decision = self.chain(target, depth);
                    if decision.is_none() {
                        self.steps.truncate(before);
                    }
                    return decision;
                }
                Ending::Verdict(Verdict::Return) => {
                    self.steps.truncate(before);
                    return None;
                }
            }
        }
        None
    }

    /// Runs the expressions of a rule until one does not match or ends it.
    fn rule(&mut self, rule: &'a Rule) -> (Ending<'a>, Hits<'a>) {
        let mut hits = Hits::default();
        for expression in &rule.expressions {
            match self.answer(expression, &mut hits) {
                Answer::Yes => {}
                Answer::No => break,
                Answer::End(ending) => return (ending, hits),
            }
        }
        (Ending::Nothing, hits)
    }

    /// What an expression does to the rule.
    fn answer(&mut self, expression: &'a Expression, hits: &mut Hits<'a>) -> Answer<'a> {
        match expression {
            Expression::Interface(expression) => self.interface(expression, hits),
            Expression::Conntrack(expression) => self.connection(expression).into(),
            Expression::Address(expression) => self.address(expression, hits),
            Expression::Port(expression) => self.port(expression, hits),
            // Who asks is within the limits, and found a place in the set.
            Expression::PerSource(
                PerSource::OverRate { .. } | PerSource::OverCount { .. } | PerSource::Absent { .. },
            ) => Answer::No,
            Expression::Statement(statement) => match statement {
                // The first packets pass the limit, and those are who asks.
                Statement::Limit { .. } | Statement::Log { .. } | Statement::Counter => Answer::Yes,
                Statement::Reject(Reject::TcpReset | Reject::PortUnreachable) => {
                    Answer::End(Ending::Reject)
                }
                Statement::Verdict(verdict) => Answer::End(Ending::Verdict(verdict)),
            },
            Expression::Unknown { .. } => {
                self.unknown = true;
                Answer::No
            }
        }
    }

    fn interface(&mut self, expression: &'a Interface, hits: &mut Hits<'a>) -> Answer<'a> {
        let packet = self.packet;
        match expression {
            Interface::Name { side, name, equal } => {
                let interface = packet.interface(*side);
                let same = match name {
                    NameMatch::Exact(name) => interface == name,
                    NameMatch::Prefix(prefix) => interface.starts_with(prefix.as_str()),
                };
                (same == *equal).into()
            }
            Interface::In { side, set, member } => {
                let key = Value::Interface(packet.interface(*side));
                let found = self.find(set, &[key]);
                let is_in = found.is_some();
                hits.extend(found.filter(|_| *member));
                (is_in == *member).into()
            }
            Interface::OutBridge => packet.outgoing.as_ref().is_some_and(|o| o.bridge).into(),
            Interface::SameInterface => packet.returns.into(),
            Interface::NoReversePath => packet.strays.into(),
        }
    }

    fn connection(&self, expression: &Conntrack) -> bool {
        let packet = self.packet;
        match expression {
            Conntrack::Direction(direction) => {
                packet.connection.is_some_and(|c| c.direction == *direction)
            }
            Conntrack::DestinationNat => packet.connection.is_some_and(|c| c.dnat),
            Conntrack::Related => packet.connection.is_some_and(|c| c.related),
            Conntrack::Resumed => packet.is_resuming(),
            Conntrack::NoteOpening => packet.is_opening(),
            Conntrack::Opened => packet.is_own_reply(),
            Conntrack::First => packet.is_first(),
            // A connection that is new bears none, which is 0.
            Conntrack::Mark(mark) => *mark == 0,
            Conntrack::SetMark(_) => true,
        }
    }

    fn address(&mut self, expression: &'a Address, hits: &mut Hits<'a>) -> Answer<'a> {
        let packet = self.packet;
        match expression {
            Address::Family(family) => (Family::of(packet.flow.source) == *family).into(),
            Address::SourceIn { tuple, family, set } => {
                self.source(Question::set(packet, *tuple, *family, set), hits)
            }
            Address::DestinationIn { family, set } => is_found(
                self.find_address(set, *family, packet.flow.destination),
                hits,
            ),
            Address::Local => packet.is_local().into(),
            Address::ToLoopback(tuple) => {
                // The whole network is meant in IPv4 only.
                let is_loopback =
                    |flow: Flow| matches!(flow.destination, IpAddr::V4(v4) if v4.is_loopback());
                packet.flow(*tuple).is_some_and(is_loopback).into()
            }
            Address::DestinationMap { tuple, family, map } => {
                let to = packet.flow(*tuple).map(|flow| flow.destination);
                let found = to.and_then(|to| self.find_address(map, *family, to));
                self.leads(found, hits)
            }
        }
    }

    fn port(&mut self, expression: &'a Port, hits: &mut Hits<'a>) -> Answer<'a> {
        let packet = self.packet;
        match expression {
            Port::Protocol(protocol) => (packet.protocol == *protocol).into(),
            Port::Opens => packet.opens().into(),
            Port::SourceIn {
                tuple,
                protocol,
                family,
                length,
                set,
            } => {
                let to = packet.port(*tuple, *protocol);
                self.source(Question::network(to, (*family, *length), set), hits)
            }
            Port::In { tuple, set } => {
                let port = packet.flow(*tuple).and_then(|flow| flow.port);
                let key = |port| [Value::Protocol(packet.protocol), Value::Port(port)];
                is_found(port.and_then(|port| self.find(set, &key(port))), hits)
            }
            Port::Map {
                tuple,
                protocol,
                map,
            } => {
                let port = packet.port(*tuple, *protocol);
                let found = port.and_then(|(_, port)| self.find(map, &[Value::Port(port)]));
                self.leads(found, hits)
            }
            Port::AddressMap {
                end: End::Source,
                protocol,
                family,
                map,
            } => self.source(Question::map(packet, *protocol, *family, map), hits),
            Port::AddressMap {
                end: End::Destination,
                protocol,
                family,
                map,
            } => {
                let address = packet.flow.destination;
                let port = packet.flow.port.filter(|_| packet.protocol == *protocol);
                let port = port.filter(|_| Family::of(address) == *family);
                let found =
                    port.and_then(|port| self.find(map, &[Value::Port(port), value(address)]));
                self.leads(found, hits)
            }
        }
    }

    /// Looks a key up; a set of another type makes the verdict uncertain.
    fn find(&mut self, set: &'a str, key: &[Value<'_>]) -> Option<Match<'a>> {
        look_up(self.names.set(set), set, key, self.wants_hits).unwrap_or_else(|lookup::Unknown| {
            self.unknown = true;
            None
        })
    }

    /// Looks an address up in a set or map of its family; another family's is never found.
    fn find_address(&mut self, set: &'a str, family: Family, address: IpAddr) -> Option<Match<'a>> {
        (Family::of(address) == family).then(|| self.find(set, &[value(address)]))?
    }

    /// Answers a question about the source.
    fn source(&mut self, question: Option<Question<'a>>, hits: &mut Hits<'a>) -> Answer<'a> {
        let Some(Question { source, set, asked }) = question else {
            return Answer::No;
        };
        match asked {
            Asked::Address => is_found(self.find(set, &[value(source)]), hits),
            Asked::Network { port, length } => {
                is_found(self.find_network(set, port, (source, length)), hits)
            }
            Asked::Verdict { port } => {
                let found = self.find(set, &[Value::Port(port), value(source)]);
                self.leads(found, hits)
            }
        }
    }

    /// Looks up a port and the network of an address that has so many leading bits.
    fn find_network(
        &mut self,
        set: &'a str,
        port: u16,
        (source, length): (IpAddr, u8),
    ) -> Option<Match<'a>> {
        let (first, last) = question::network(source, length);
        let mut found = self.find(set, &[Value::Port(port), value(first)])?;
        if let Some(hit) = &mut found.hit {
            hit.element = Element::PortAddresses(port, first, last);
        }
        Some(found)
    }

    /// Ends the rule with the verdict of a match in a map.
    fn leads(&mut self, found: Option<Match<'a>>, hits: &mut Hits<'a>) -> Answer<'a> {
        let Some(found) = found else {
            return Answer::No;
        };
        let verdict = found.verdict;
        hits.extend(Some(found));
        self.unknown |= verdict.is_none();
        let verdict = verdict.map(Ending::Verdict);
        verdict.map_or(Answer::No, Answer::End)
    }
}

/// Matches if a set contains the key.
fn is_found<'a>(found: Option<Match<'a>>, hits: &mut Hits<'a>) -> Answer<'a> {
    let is_found = found.is_some();
    hits.extend(found);
    is_found.into()
}
