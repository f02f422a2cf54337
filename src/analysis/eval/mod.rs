//! The evaluator: what becomes of a packet that goes through a ruleset, and why.
//!
//! It knows nothing of policies, so it is a second opinion on the compiler. What it says of a
//! packet is what the kernel does with it: a rule whose expressions all match decides, a rule that
//! asks for what the packet does not have (connection tracking, an outgoing interface) does not
//! match, and where nothing decides, a base chain accepts.

mod describe;
#[cfg(test)]
mod tests;

use crate::net::Family;
use std::cmp::Ordering;
use std::net::IpAddr;

use crate::ruleset::check::JUMP_MAX;
use crate::ruleset::{
    Direction, Elements, End, Expression, Hook, L4Protocol, NameMatch, Reject, Rule, Ruleset, Side,
    Tuple, Verdict,
};

/// A packet at a hook: everything that a rule can ask of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it is.
    pub hook: Hook,
    /// The name of the interface that it came in through.
    pub incoming: String,
    /// Where it leaves; `None` if it stays on this host.
    pub outgoing: Option<Outgoing>,
    /// Its protocol.
    pub protocol: L4Protocol,
    /// Where it comes from and goes to, as it is now.
    pub flow: Flow,
    /// The port that it comes from; `None` for ICMP.
    pub source_port: Option<u16>,
    /// The connection that it belongs to; `None` where nothing is tracked.
    pub connection: Option<Connection>,
    /// Whether the route to its destination leads back out of the incoming interface.
    pub returns: bool,
    /// Whether it is a segment in the middle of a TCP connection of which nothing was known before
    /// it came, from a port that servers use.
    pub resumes: bool,
    /// Whether its connection bears the note that this host opened it
    /// ([`OPENED`](crate::ruleset::OPENED)).
    pub opened: bool,
}

/// The interface that a packet leaves through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its name.
    pub name: String,
    /// Whether it is a bridge.
    pub bridge: bool,
}

/// Where packets come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The source.
    pub source: IpAddr,
    /// The destination, of the same family.
    pub destination: IpAddr,
    /// The destination port; `None` for ICMP.
    pub port: Option<u16>,
}

/// What connection tracking knows of a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Which way the packet goes.
    pub direction: Direction,
    /// Whether the destination of the connection was translated.
    pub dnat: bool,
    /// Whether the packet is no part of the connection but about it, such as an ICMP error.
    pub related: bool,
    /// The connection as it was opened, before any translation.
    pub original: Flow,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on to what comes after dfw.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and its sender is told.
    Reject,
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What becomes of it.
    pub decision: Decision,
    /// The rules that led there, in order; none if no rule has anything to say. A chain that was
    /// left again without a decision is not among them.
    pub steps: Vec<Step>,
    /// Whether something was met on the way that cannot be evaluated, so that the kernel may
    /// decide otherwise.
    pub unknown: bool,
}

/// A rule that matched and decided, or led to the one that did; not one that is
/// [mute](crate::ruleset::Rule::is_mute).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 0.
    pub rule: usize,
    /// Its comment, or that of an element by which it matched.
    pub comment: Option<String>,
    /// The elements of sets and maps for which it matched.
    pub hits: Vec<Hit>,
}

/// An element of a set or map in which something of a packet was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The name of the set or map.
    pub set: String,
    /// The element.
    pub element: Element,
    /// Its comment.
    pub comment: Option<String>,
}

/// The key of an element; ranges have both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// The name of an interface.
    Interface(String),
    /// Addresses from a first to a last one.
    Addresses(IpAddr, IpAddr),
    /// Ports from a first to a last one.
    Ports(u16, u16),
    /// A port, and addresses from a first to a last one.
    PortAddresses(u16, IpAddr, IpAddr),
}

/// Sends a packet through the base chains of its hook.
#[must_use]
pub fn evaluate(ruleset: &Ruleset, packet: &Packet) -> Trace {
    let mut run = Run {
        ruleset,
        packet,
        steps: Vec::new(),
        unknown: false,
    };
    let mut bases: Vec<_> = ruleset
        .chains
        .iter()
        .filter_map(|(name, chain)| Some((chain.base?, name)))
        .filter(|(base, _)| base.hook == packet.hook)
        .collect();
    bases.sort_by_key(|(base, _)| base.priority);
    let decision = bases
        .into_iter()
        .map(|(_, name)| run.chain(name, JUMP_MAX).unwrap_or(Decision::Accept))
        // Accepting is final for one base chain only.
        .find(|decision| *decision != Decision::Accept)
        .unwrap_or(Decision::Accept);
    Trace {
        decision,
        steps: run.steps,
        unknown: run.unknown,
    }
}

struct Run<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    steps: Vec<Step>,
    unknown: bool,
}

/// How a rule ends.
enum Ending<'a> {
    /// It has nothing to say.
    Nothing,
    Verdict(&'a Verdict),
    Reject,
}

impl<'a> Run<'a> {
    /// What a chain decides; `None` if it is left without a decision. `depth` bounds the chains
    /// below each other, as the kernel bounds jumps: one that bites its own tail is no ruleset.
    fn chain(&mut self, name: &str, depth: usize) -> Option<Decision> {
        let ruleset = self.ruleset;
        let (Some(chain), Some(depth)) = (ruleset.chains.get(name), depth.checked_sub(1)) else {
            self.unknown = true;
            return None;
        };
        for (index, rule) in chain.rules.iter().enumerate() {
            let before = self.steps.len();
            let (end, hits) = self.rule(rule);
            if !matches!(end, Ending::Nothing) && !rule.is_mute() {
                let own = || hits.iter().find_map(|hit| hit.comment.clone());
                self.steps.push(Step {
                    chain: name.to_owned(),
                    rule: index,
                    comment: rule.comment.clone().or_else(own),
                    hits,
                });
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
    #[expect(clippy::too_many_lines, reason = "one arm for each expression")]
    fn rule(&mut self, rule: &'a Rule) -> (Ending<'a>, Vec<Hit>) {
        let mut hits = Vec::new();
        for expression in &rule.expressions {
            let matches = match expression {
                Expression::Interface { side, name, equal } => {
                    let interface = self.interface(*side);
                    let same = match name {
                        NameMatch::Exact(name) => interface == name,
                        NameMatch::Prefix(prefix) => interface.starts_with(prefix.as_str()),
                    };
                    same == *equal
                }
                Expression::InterfaceIn { side, set, member } => {
                    let hit = self.find_interface(set, self.interface(*side));
                    let found = hit.is_some();
                    hits.extend(hit.filter(|_| *member));
                    found == *member
                }
                Expression::OutBridge => self.packet.outgoing.as_ref().is_some_and(|o| o.bridge),
                Expression::Protocol(protocol) => self.packet.protocol == *protocol,
                Expression::Direction(direction) => {
                    let connection = self.packet.connection;
                    connection.is_some_and(|c| c.direction == *direction)
                }
                Expression::DestinationNat => self.packet.connection.is_some_and(|c| c.dnat),
                Expression::Related => self.packet.connection.is_some_and(|c| c.related),
                Expression::SourceIn { tuple, family, set } => {
                    let source = self.flow(*tuple).map(|flow| flow.source);
                    let hit = source.and_then(|source| self.find_address(set, *family, source));
                    let found = hit.is_some();
                    hits.extend(hit.map(|(hit, _)| hit));
                    found
                }
                Expression::DestinationIn { family, set } => {
                    let hit = self.find_address(set, *family, self.packet.flow.destination);
                    let found = hit.is_some();
                    hits.extend(hit.map(|(hit, _)| hit));
                    found
                }
                Expression::PortSourceIn {
                    tuple,
                    protocol,
                    family,
                    length,
                    set,
                } => {
                    let to = self.port(*tuple, *protocol);
                    let hit = to.and_then(|(flow, port)| {
                        self.find_source(set, *family, *length, port, flow)
                    });
                    hits.extend(hit.clone());
                    hit.is_some()
                }
                Expression::PortIn { tuple, set } => {
                    let port = self.flow(*tuple).and_then(|flow| flow.port);
                    let hit = port.and_then(|port| self.find_counted(set, port));
                    hits.extend(hit.clone());
                    hit.is_some()
                }
                Expression::ToLoopback(tuple) => self.flow(*tuple).is_some_and(|flow| {
                    // The whole network is meant in IPv4 only.
                    matches!(flow.destination, IpAddr::V4(v4) if v4.is_loopback())
                }),
                Expression::SameInterface => self.packet.returns,
                Expression::Resumed => self.resumes(),
                Expression::Family(family) => {
                    self.packet.flow.source.is_ipv4() == (*family == Family::V4)
                }
                Expression::NoteOpening => self.is_opening(),
                Expression::Opened => self.is_own_reply(),
                Expression::PortMap {
                    tuple,
                    protocol,
                    map,
                } => {
                    let port = self.port(*tuple, *protocol);
                    if let Some((hit, verdict)) =
                        port.and_then(|(_, port)| self.find_port(map, port))
                    {
                        hits.push(hit);
                        return (Ending::Verdict(verdict), hits);
                    }
                    false
                }
                Expression::DestinationMap { tuple, family, map } => {
                    let to = self.flow(*tuple).map(|flow| flow.destination);
                    if let Some((hit, Some(verdict))) =
                        to.and_then(|to| self.find_address(map, *family, to))
                    {
                        hits.push(hit);
                        return (Ending::Verdict(verdict), hits);
                    }
                    false
                }
                Expression::PortAddressMap {
                    end,
                    protocol,
                    family,
                    map,
                } => {
                    if let Some((hit, verdict)) = self.find_end(map, *family, *end, *protocol) {
                        hits.push(hit);
                        return (Ending::Verdict(verdict), hits);
                    }
                    false
                }
                // A connection that is new bears none, which is 0.
                Expression::Mark(mark) => *mark == 0,
                // The first packets pass the limit, and those are who asks.
                Expression::Limit { .. }
                | Expression::Log { .. }
                | Expression::Counter
                | Expression::SetMark(_) => true,
                Expression::Reject(Reject::TcpReset | Reject::PortUnreachable) => {
                    return (Ending::Reject, hits);
                }
                Expression::Verdict(verdict) => return (Ending::Verdict(verdict), hits),
                Expression::Unknown { .. } => {
                    self.unknown = true;
                    false
                }
            };
            if !matches {
                break;
            }
        }
        (Ending::Nothing, hits)
    }

    /// Whether it is in the middle of a TCP connection that begins only for connection tracking.
    fn resumes(&self) -> bool {
        let Packet {
            resumes,
            protocol,
            connection,
            ..
        } = self.packet;
        *resumes
            && *protocol == L4Protocol::Tcp
            && connection.is_some_and(|c| c.direction == Direction::Original && !c.related)
    }

    /// Whether this host opens a TCP connection by it. What becomes of its connection's label is seen in
    /// later packets only ([`Packet::opened`]).
    fn is_opening(&self) -> bool {
        let Packet {
            hook,
            protocol,
            connection,
            ..
        } = self.packet;
        *hook == Hook::Output
            && *protocol == L4Protocol::Tcp
            && connection.is_some_and(|c| c.direction == Direction::Original && !c.related)
    }

    /// Whether it answers on a connection that this host opened.
    fn is_own_reply(&self) -> bool {
        let connection = self.packet.connection;
        self.packet.opened && connection.is_some_and(|c| c.direction == Direction::Reply)
    }

    /// The name of an interface; empty where there is none, as in the kernel.
    fn interface(&self, side: Side) -> &'a str {
        match side {
            Side::In => &self.packet.incoming,
            Side::Out => self.packet.outgoing.as_ref().map_or("", |out| &out.name),
        }
    }

    fn flow(&self, tuple: Tuple) -> Option<Flow> {
        match tuple {
            Tuple::Packet => Some(self.packet.flow),
            Tuple::Original => self.packet.connection.map(|c| c.original),
        }
    }

    /// Where a packet of this protocol goes, and to which port.
    fn port(&self, tuple: Tuple, protocol: L4Protocol) -> Option<(Flow, u16)> {
        let flow = self.flow(tuple)?;
        let port = flow.port.filter(|_| self.packet.protocol == protocol)?;
        Some((flow, port))
    }

    fn elements(&mut self, set: &str) -> Option<&'a Elements> {
        let elements = self.ruleset.sets.get(set).map(|set| &set.elements);
        self.unknown |= elements.is_none();
        elements
    }

    fn find_interface(&mut self, set: &str, name: &str) -> Option<Hit> {
        let Elements::Interfaces(names) = self.elements(set)? else {
            self.unknown = true;
            return None;
        };
        let index = names.binary_search_by(|n| n.as_str().cmp(name)).ok()?;
        let name = names.get(index)?.clone();
        Some(hit(set, Element::Interface(name)))
    }

    fn find_port(&mut self, map: &str, port: u16) -> Option<(Hit, &'a Verdict)> {
        let Elements::PortVerdicts(ports) = self.elements(map)? else {
            self.unknown = true;
            return None;
        };
        let (first, last, verdict) = find(ports, |e| (e.0, e.1), port)?;
        Some((hit(map, Element::Ports(*first, *last)), verdict))
    }

    /// Looks up a port and the network of an address that has so many leading bits.
    fn find_source(
        &mut self,
        set: &str,
        family: Family,
        length: u8,
        port: u16,
        flow: Flow,
    ) -> Option<Hit> {
        let (first, last) = match (self.elements(set)?, family.mask(length), flow.source) {
            (Elements::PortIpv4(all), IpAddr::V4(mask), IpAddr::V4(source)) => {
                let network = u32::from(source) & u32::from(mask);
                all.binary_search(&(port, network)).ok()?;
                (v4_address(network), v4_address(network | !u32::from(mask)))
            }
            (Elements::PortIpv6(all), IpAddr::V6(mask), IpAddr::V6(source)) => {
                let network = u128::from(source) & u128::from(mask);
                all.binary_search(&(port, network)).ok()?;
                (v6_address(network), v6_address(network | !u128::from(mask)))
            }
            // Another family's is never found.
            (Elements::PortIpv4(_), IpAddr::V4(_), IpAddr::V6(_))
            | (Elements::PortIpv6(_), IpAddr::V6(_), IpAddr::V4(_)) => return None,
            _ => {
                self.unknown = true;
                return None;
            }
        };
        Some(hit(set, Element::PortAddresses(port, first, last)))
    }

    /// Looks up the port and the address at one end of a packet of this protocol.
    fn find_end(
        &mut self,
        map: &str,
        family: Family,
        end: End,
        protocol: L4Protocol,
    ) -> Option<(Hit, &'a Verdict)> {
        let Packet {
            flow, source_port, ..
        } = self.packet;
        let (port, address) = match end {
            End::Source => (*source_port, flow.source),
            End::Destination => (flow.port, flow.destination),
        };
        let port = port.filter(|_| self.packet.protocol == protocol)?;
        if (family == Family::V4) != address.is_ipv4() {
            return None;
        }
        let verdict = match (self.elements(map)?, address) {
            (Elements::PortIpv4Verdicts(all), IpAddr::V4(v4)) => {
                let key = (port, u32::from(v4));
                let index = all.binary_search_by_key(&key, |e| (e.0, e.1)).ok()?;
                all.get(index).map(|e| &e.2)
            }
            (Elements::PortIpv6Verdicts(all), IpAddr::V6(v6)) => {
                let key = (port, u128::from(v6));
                let index = all.binary_search_by_key(&key, |e| (e.0, e.1)).ok()?;
                all.get(index).map(|e| &e.2)
            }
            _ => {
                self.unknown = true;
                None
            }
        }?;
        Some((
            hit(map, Element::PortAddresses(port, address, address)),
            verdict,
        ))
    }

    fn find_counted(&mut self, set: &str, port: u16) -> Option<Hit> {
        let Elements::PortCounters(all) = self.elements(set)? else {
            self.unknown = true;
            return None;
        };
        let key = (self.packet.protocol, port);
        let index = all.binary_search_by_key(&key, |e| (e.0, e.1));
        let (_, _, comment) = all.get(index.ok()?)?;
        Some(Hit {
            comment: comment.clone(),
            ..hit(set, Element::Ports(port, port))
        })
    }

    /// Looks an address up in a set or map of its family; another family's is never found.
    fn find_address(
        &mut self,
        set: &str,
        family: Family,
        address: IpAddr,
    ) -> Option<(Hit, Option<&'a Verdict>)> {
        if (family == Family::V4) != address.is_ipv4() {
            return None;
        }
        let (first, last, verdict) = match (self.elements(set)?, address) {
            (Elements::Ipv4(all), IpAddr::V4(v4)) => {
                find(all, |e| (*e, *e), v4.into()).map(|e| (v4_address(*e), v4_address(*e), None))
            }
            (Elements::Ipv4Ranges(all), IpAddr::V4(v4)) => {
                find(all, |e| *e, v4.into()).map(|e| (v4_address(e.0), v4_address(e.1), None))
            }
            (Elements::Ipv4Verdicts(all), IpAddr::V4(v4)) => find(all, |e| (e.0, e.0), v4.into())
                .map(|e| (v4_address(e.0), v4_address(e.0), Some(&e.1))),
            (Elements::Ipv6(all), IpAddr::V6(v6)) => {
                find(all, |e| (*e, *e), v6.into()).map(|e| (v6_address(*e), v6_address(*e), None))
            }
            (Elements::Ipv6Ranges(all), IpAddr::V6(v6)) => {
                find(all, |e| *e, v6.into()).map(|e| (v6_address(e.0), v6_address(e.1), None))
            }
            (Elements::Ipv6Verdicts(all), IpAddr::V6(v6)) => find(all, |e| (e.0, e.0), v6.into())
                .map(|e| (v6_address(e.0), v6_address(e.0), Some(&e.1))),
            (
                Elements::Ipv4(_)
                | Elements::Ipv4Ranges(_)
                | Elements::Ipv4Verdicts(_)
                | Elements::Ipv6(_)
                | Elements::Ipv6Ranges(_)
                | Elements::Ipv6Verdicts(_)
                | Elements::Interfaces(_)
                | Elements::PortIpv4(_)
                | Elements::PortIpv6(_)
                | Elements::PortCounters(_)
                | Elements::PortVerdicts(_)
                | Elements::PortIpv4Verdicts(_)
                | Elements::PortIpv6Verdicts(_),
                _,
            ) => {
                self.unknown = true;
                None
            }
        }?;
        Some((hit(set, Element::Addresses(first, last)), verdict))
    }
}

/// The element around `key`, of elements in ascending order; `range` tells the ends of one.
fn find<E, T: Ord + Copy>(elements: &[E], range: impl Fn(&E) -> (T, T), key: T) -> Option<&E> {
    let index = elements.binary_search_by(|element| {
        let (first, last) = range(element);
        if last < key {
            Ordering::Less
        } else if key < first {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    });
    elements.get(index.ok()?)
}

fn v4_address(number: u32) -> IpAddr {
    IpAddr::V4(number.into())
}

fn v6_address(number: u128) -> IpAddr {
    IpAddr::V6(number.into())
}

fn hit(set: &str, element: Element) -> Hit {
    Hit {
        set: set.to_owned(),
        element,
        comment: None,
    }
}
