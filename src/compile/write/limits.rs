//! How many connections each allowed source of a port may make.
//!
//! ```text
//!  port-80-tcp ─► first packet of a connection ─► new-80-tcp: allowed source ─► limit-80-tcp ─► excess-80-tcp
//!                                                                                     └► back, to be allowed
//! ```
//!
//! A limit takes access away and gives none, so the packet returns to the chain of the port, which allows it or not.
//! Only packets that the port allows get to the limit: nobody else takes a place in its sets. The sets are those of
//! the key, so that what a source does on all paths counts together. Where a set is full, a source without a place
//! has no limit, which is counted.

use crate::net::{Family, HostPorts, Protocol};

use super::super::names::{self, Context, FOREIGN, LimitSet};
use super::port::denial;
use super::{Compiler, from_container, goto, jump, note};
use crate::policy::PortPolicy;
use crate::ruleset::{
    Address, Conntrack, Elements, Expression, Interface, PerSource, Port, Rule, Set, Side,
    Statement, Verdict,
};

/// The comment of the rules that count sources without a place.
const FULL: &str = "not limited: the set of sources is full";

impl Compiler<'_> {
    /// Returns the rule that asks for the limits of a port, and adds their chains and sets; `None` if nothing is
    /// limited. `allowed` matches the sources that the port allows; it is empty for all sources if the port is open.
    pub(super) fn limits(
        &mut self,
        context: Context,
        key: &HostPorts,
        port: &PortPolicy,
        allowed: &[Expression],
    ) -> Option<Rule> {
        let families: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|family| port.allow.any || allowed.iter().any(|of| is_of(of, *family)))
            .collect();
        if port.limits.is_empty() || families.is_empty() {
            return None;
        }
        let comment = self.comment(&port.origin);
        let (limit, excess) = (names::limit_chain(key), names::excess_chain(key));
        self.chain(&excess, denial(&[], key, port, &comment));
        let mut rules = Vec::new();
        for family in families {
            for beyond in self.limit_sets(key, port, family) {
                let absent = Expression::PerSource(PerSource::Absent {
                    family,
                    set: beyond.set().clone(),
                });
                let beyond = vec![Expression::PerSource(beyond), goto(&excess)];
                rules.push(Rule::new(beyond, comment.clone()));
                let counter = Expression::Statement(Statement::Counter);
                rules.push(Rule::new(vec![absent, counter], note(FULL)));
            }
        }
        self.chain(&limit, rules);
        let exempt = match context {
            Context::Published => self.exempt_from_limits(),
            // Packets from containers and foreign interfaces never get there.
            Context::Early | Context::Host | Context::HostFromContainers | Context::Container => {
                Vec::new()
            }
        };
        let every = port.allow.any.then(|| vec![goto(&limit)]);
        let listed = allowed
            .iter()
            .map(|source| vec![source.clone(), goto(&limit)]);
        let to_limit = every
            .into_iter()
            .chain(listed)
            .map(|matches| Rule::new(matches, comment.clone()));
        let rules = exempt.into_iter().chain(to_limit).collect();
        let new = context.new_chain(key);
        self.chain(&new, rules);
        // TCP that begins in its middle is a connection that was forgotten.
        let opens = (key.protocol == Protocol::Tcp).then_some(Expression::Port(Port::Opens));
        let first = [Expression::Conntrack(Conntrack::First), jump(&new)];
        Some(Rule::new(opens.into_iter().chain(first).collect(), comment))
    }

    /// Returns the rules for packets that the chain [`EXEMPT`](super::EXEMPT) accepts: they are no clients'.
    fn exempt_from_limits(&self) -> Vec<Rule> {
        let back = Expression::Statement(Statement::Verdict(Verdict::Return));
        let comment = note("no limit: exempt from filtering");
        let mut rules = vec![Rule::new(
            vec![from_container(true), back.clone()],
            comment.clone(),
        )];
        if self.ruleset.sets.contains_key(FOREIGN) {
            let within = vec![
                Expression::Interface(Interface::In {
                    side: Side::In,
                    set: FOREIGN.to_owned(),
                    member: true,
                }),
                Expression::Interface(Interface::SameInterface),
                back,
            ];
            rules.push(Rule::new(within, comment));
        }
        rules
    }

    /// Adds the sets of a port's limits for a family; returns what matches beyond each limit.
    fn limit_sets(&mut self, key: &HostPorts, port: &PortPolicy, family: Family) -> Vec<PerSource> {
        let mut beyond = Vec::new();
        if let Some(rate) = port.limits.rate {
            let elements = match family {
                Family::V4 => Elements::Ipv4AddedUntil(Vec::new()),
                Family::V6 => Elements::Ipv6AddedUntil(Vec::new()),
            };
            // A set is made anew where its comment changes, as its elements keep the limit that they were added with.
            let comment = format!("new connections of each source: {rate}");
            let set = self.limit_set(LimitSet::rate(*key, family), elements, comment);
            beyond.push(PerSource::OverRate { family, set, rate });
        }
        if let Some(count) = port.limits.connections {
            let elements = match family {
                Family::V4 => Elements::Ipv4Added(Vec::new()),
                Family::V6 => Elements::Ipv6Added(Vec::new()),
            };
            let comment = format!("open connections of each source: {count}");
            let set = self.limit_set(LimitSet::connections(*key, family), elements, comment);
            beyond.push(PerSource::OverCount { family, set, count });
        }
        beyond
    }

    fn limit_set(&mut self, set: LimitSet, elements: Elements, comment: String) -> String {
        let name = set.name();
        let comment = Some(comment);
        self.ruleset
            .sets
            .insert(name.clone(), Set { elements, comment });
        name
    }
}

/// Returns whether sources of a family can match.
fn is_of(source: &Expression, of: Family) -> bool {
    matches!(source, Expression::Address(Address::SourceIn { family, .. }) if *family == of)
}
