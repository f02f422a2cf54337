//! The chain of a port: excluded sources, allowed sources, and the denial of the rest.

use crate::net::{AddressSet, Family, HostPorts, Protocol};

use super::super::names::{self, Context, EXEMPT, List, Part};
use super::super::source::held;
use super::dispatch::tuple;
use super::granted::GRANTED;
use super::{Compiler, accept, drop, from_container, goto, jump};
use crate::policy::{DenyWith, PortPolicy, SourceSelection};
use crate::ruleset::{
    Address, Conntrack, Direction, Elements, Expression, Interface, Interval, L4Protocol,
    NameMatch, Port, Reject, Rule, Set, Side, Statement, Tuple,
};
use crate::text::Span;

/// The most entries of one family in a list of one set.
pub(super) const SHORT: usize = 64;

impl Compiler<'_> {
    /// Adds the chain of a port.
    pub(super) fn port_chain(&mut self, context: Context, key: &HostPorts, port: &PortPolicy) {
        if context == Context::Early {
            return self.early_chain(key, port);
        }
        let comment = self.comment(&port.origin);
        let name = context.port_chain(key);
        let deny = |matches: Vec<Expression>| denial(&matches, key, port, &comment);
        let mut rules = Vec::new();
        match context {
            Context::HostFromContainers => {
                if port.except.containers {
                    self.chain(&name, deny(Vec::new()));
                }
                return;
            }
            Context::Published => {
                if port.except.containers {
                    let chain = Context::HostFromContainers.port_chain(key);
                    self.chain(&chain, deny(Vec::new()));
                    let from = vec![
                        Expression::Conntrack(Conntrack::Direction(Direction::Original)),
                        from_container(true),
                        goto(&chain),
                    ];
                    rules.push(Rule::new(from, comment.clone()));
                }
            }
            Context::Early | Context::Host | Context::Container => {
                // A key with an address is only reached by packets to that address.
                if key.address.is_none() {
                    rules.push(Rule::new(
                        vec![
                            Expression::Address(Address::ToLoopback(Tuple::Packet)),
                            Expression::Statement(Statement::Counter),
                            drop(),
                        ],
                        comment.clone(),
                    ));
                }
            }
        }
        let tuple = tuple(context);
        let mut denials = Vec::new();
        if let Some(elsewhere) = self.not_from_interfaces(key, port) {
            let mut matches = vec![elsewhere];
            if tuple == Tuple::Original {
                // Replies come in through the container's bridge.
                matches.insert(
                    0,
                    Expression::Conntrack(Conntrack::Direction(Direction::Original)),
                );
            }
            denials.extend(deny(matches));
        }
        denials.extend(self.no_reverse_path(context).into_iter().flat_map(deny));
        let excepted = self.selection(&port.except, tuple, &List::Except(*key), port);
        denials.extend(excepted.into_iter().flat_map(|source| deny(vec![source])));
        let (allowed, granted) = if port.allow.any {
            (Vec::new(), Vec::new())
        } else {
            let allowed = self.selection(&port.allow, tuple, &List::Allow(*key), port);
            (allowed, self.granted(key, tuple))
        };
        let sources = [&allowed[..], &granted[..]].concat();
        let limits = self.limits(context, key, port, &sources);
        // Evaluated late: most packets are allowed.
        let exempt = (context == Context::Published).then(|| Rule::new(vec![jump(EXEMPT)], None));
        let exempt_early = !denials.is_empty();
        if exempt_early {
            rules.extend(exempt.clone());
        }
        rules.append(&mut denials);
        rules.extend(limits);
        // The interface belongs to the packet, not to its connection.
        let verdict = if port.interfaces.is_empty() && !port.except.containers {
            self.allow(context)
        } else {
            accept()
        };
        let allow = |mut matches: Vec<Expression>| {
            matches.extend([Expression::Statement(Statement::Counter), verdict.clone()]);
            Rule::new(matches, comment.clone())
        };
        if port.allow.any {
            rules.push(allow(Vec::new()));
        } else {
            rules.extend(allowed.into_iter().map(|source| allow(vec![source])));
            // A connection that is marked would not end with the grant.
            let counter = Expression::Statement(Statement::Counter);
            rules.extend(granted.into_iter().map(|source| {
                Rule::new(vec![source, counter.clone(), accept()], GRANTED.to_owned())
            }));
            rules.extend(exempt.filter(|_| !exempt_early));
            rules.extend(deny(Vec::new()));
        }
        self.chain(&name, rules);
    }

    /// Matches packets from interfaces other than those of the policy.
    pub(super) fn not_from_interfaces(
        &mut self,
        key: &HostPorts,
        port: &PortPolicy,
    ) -> Option<Expression> {
        let names: Vec<String> = port
            .interfaces
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect();
        match <[String; 1]>::try_from(names) {
            Ok([name]) => Some(Expression::Interface(Interface::Name {
                side: Side::In,
                name: NameMatch::Exact(name),
                equal: false,
            })),
            Err(names) if names.is_empty() => None,
            Err(names) => {
                let set = names::interfaces_of(key);
                let comment = Some(self.comment(&port.origin));
                let elements = Elements::Interfaces(names);
                self.ruleset
                    .sets
                    .insert(set.clone(), Set { elements, comment });
                Some(Expression::Interface(Interface::In {
                    side: Side::In,
                    set,
                    member: false,
                }))
            }
        }
    }

    /// Matches for the addresses of a selection, one per set that has any; makes the sets.
    pub(super) fn selection(
        &mut self,
        selection: &SourceSelection,
        tuple: Tuple,
        own: &List,
        port: &PortPolicy,
    ) -> Vec<Expression> {
        let policy = self.policy;
        let mut sets = Vec::new();
        for name in &selection.named {
            if let Some(source) = policy.sources.get(name) {
                let list = List::Source(name.as_str().to_owned());
                let addresses = held(source, self.host).addresses;
                let changes = source.on_host.is_some() || source.fetched.is_some();
                sets.extend(self.address_sets(&list, &addresses, &source.origin, changes));
            }
        }
        sets.extend(self.address_sets(own, &selection.inline, &port.origin, false));
        sets.into_iter()
            .map(|(family, set)| Expression::Address(Address::SourceIn { tuple, family, set }))
            .collect()
    }

    /// Returns the sets of an address list, created on first use. Of a long list the single addresses
    /// are in a hash, which is the fastest to look up, and the rest in an interval set; a short list is
    /// one interval set, since what thousands of ports cost is the number of sets. Of a list that
    /// `changes` by itself there is a set even if nothing is in it now, so that a change only
    /// concerns elements, not rules.
    fn address_sets(
        &mut self,
        list: &List,
        addresses: &AddressSet,
        origin: &Span,
        changes: bool,
    ) -> Vec<(Family, String)> {
        let (v4, v6) = (addresses.v4(), addresses.v6());
        let kinds: [(Part, bool, &dyn Fn() -> Elements); 6] = [
            (Part::Short(Family::V4), v4.len() <= SHORT, &|| {
                Elements::Ipv4Ranges(intervals(v4.iter()))
            }),
            (Part::Addresses(Family::V4), v4.len() > SHORT, &|| {
                Elements::Ipv4(v4.singles().to_vec())
            }),
            (Part::Networks(Family::V4), v4.len() > SHORT, &|| {
                Elements::Ipv4Ranges(intervals(v4.longer().iter().copied()))
            }),
            (Part::Short(Family::V6), v6.len() <= SHORT, &|| {
                Elements::Ipv6Ranges(intervals(v6.iter()))
            }),
            (Part::Addresses(Family::V6), v6.len() > SHORT, &|| {
                Elements::Ipv6(v6.singles().to_vec())
            }),
            (Part::Networks(Family::V6), v6.len() > SHORT, &|| {
                Elements::Ipv6Ranges(intervals(v6.longer().iter().copied()))
            }),
        ];
        let mut sets = Vec::new();
        for (part, fits, elements) in kinds {
            let is_empty = match part.family() {
                Family::V4 => v4.is_empty(),
                Family::V6 => v6.is_empty(),
            };
            if !fits || is_empty && !changes {
                continue;
            }
            let set = list.set(part);
            if !self.ruleset.sets.contains_key(&set) {
                let elements = elements();
                if elements.is_empty() && !(changes && part.is_short()) {
                    continue;
                }
                let comment = Some(self.comment(origin));
                self.ruleset
                    .sets
                    .insert(set.clone(), Set { elements, comment });
            }
            sets.push((part.family(), set));
        }
        sets
    }
}

/// Returns the rules that deny matching packets, as the port's policy says.
pub(super) fn denial(
    matches: &[Expression],
    key: &HostPorts,
    port: &PortPolicy,
    comment: &str,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    if port.log {
        let mut log = matches.to_vec();
        log.extend(super::super::logged::denied(&key.to_string(), comment));
        rules.push(Rule::new(log, comment.to_owned()));
    }
    let mut deny = matches.to_vec();
    match (port.deny_with, key.protocol) {
        (DenyWith::Drop, _) => deny.extend([Expression::Statement(Statement::Counter), drop()]),
        (DenyWith::Reject, Protocol::Tcp) => deny.extend([
            Expression::Port(Port::Protocol(L4Protocol::Tcp)),
            Expression::Statement(Statement::Counter),
            Expression::Statement(Statement::Reject(Reject::TcpReset)),
        ]),
        (DenyWith::Reject, Protocol::Udp | Protocol::Sctp) => {
            deny.extend([
                Expression::Statement(Statement::Counter),
                Expression::Statement(Statement::Reject(Reject::PortUnreachable)),
            ]);
        }
    }
    rules.push(Rule::new(deny, comment.to_owned()));
    rules
}

fn intervals<T>(ranges: impl Iterator<Item = (T, T)>) -> Vec<Interval<T>> {
    ranges
        .map(|(first, last)| Interval::new(first, last))
        .collect()
}
