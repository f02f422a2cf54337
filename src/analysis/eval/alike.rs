//! The ports at which two rulesets are the same, by comparing their rules.
//!
//! Most ports do not change when a policy does. Rules that are equal, look the same things up, and find the same
//! there do the same to every packet of a port and a family, whatever its path and source: nothing has to be
//! evaluated. The reverse is not said: rules that are written otherwise may mean the same.

use indexmap::IndexMap;

use crate::net::Family;
use crate::ruleset::check::JUMP_MAX;
use crate::ruleset::{
    Address, Chain, Column, Elements, End, Expression, Hook, Interface, L4Protocol, Port, Row,
    Rule, Ruleset, Set, Statement, Value, Verdict, with_rows,
};

use super::lookup::look_up;
use super::names::Names;
use super::pool::Fast;
use super::question::of_port;
use super::{ALL_PORTS, bases, overlap};

/// Returns the ports of a protocol, from 1, at which rules of two rulesets differ for packets of a family, as ranges
/// in ascending order; and of how many parts these are, each of which rules tell apart from the next.
#[must_use]
pub fn differing_ports(
    old: &Ruleset,
    new: &Ruleset,
    (family, protocol): (Family, L4Protocol),
) -> (Vec<(u16, u16)>, usize) {
    let Some(bases) = equal_bases([old, new]) else {
        return (vec![(1, u16::MAX)], 1);
    };
    let mut parts = 0;
    let mut known = Known {
        names: [old, new].map(Names::new),
        sets: IndexMap::default(),
        rules: IndexMap::default(),
    };
    let mut differing: Vec<(u16, u16)> = Vec::new();
    let mut first = 1;
    loop {
        let mut at = At {
            family,
            protocol,
            port: first,
            ports: ALL_PORTS,
            known: &mut known,
        };
        let is_same = bases.iter().all(|base| at.chain(base, JUMP_MAX));
        let last = at.ports.1;
        if !is_same {
            parts += 1;
            match differing.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
                _ => differing.push((first, last)),
            }
        }
        match last.checked_add(1) {
            Some(next) => first = next,
            None => return (differing, parts),
        }
    }
}

/// What is known of an expression in both rulesets.
enum Sameness {
    /// It matches no packet that is compared, so the rest of its rule is not evaluated.
    Never,
    /// It does the same.
    Same,
    /// It may do something else.
    Unlike,
}

impl From<bool> for Sameness {
    fn from(is_same: bool) -> Self {
        if is_same { Self::Same } else { Self::Unlike }
    }
}

/// Returns the base chains of all hooks, if both rulesets have the same.
fn equal_bases(rulesets: [&Ruleset; 2]) -> Option<Vec<&str>> {
    let [old, new] = rulesets.map(|ruleset| Hook::ALL.map(|hook| bases(ruleset, hook)));
    (old == new).then(|| old.into_iter().flatten().collect())
}

/// What was compared.
struct Known<'a> {
    /// What names of the old ruleset stand for in both.
    names: [Names<'a>; 2],
    /// Whether sets have the same elements, of those that were compared as a whole.
    sets: IndexMap<&'a str, bool, Fast>,
    /// Whether rules do the same at which ports, by their depth as well: most rules ask for no port.
    rules: IndexMap<(*const Rule, usize), SameAt, Fast>,
}

/// Ports, and whether something is the same at each of them.
type SameAt = ((u16, u16), bool);

/// A comparison at one port.
struct At<'c, 'a> {
    family: Family,
    protocol: L4Protocol,
    port: u16,
    /// The ports at which the comparison goes the same way.
    ports: (u16, u16),
    known: &'c mut Known<'a>,
}

impl<'a> At<'_, 'a> {
    fn chain(&mut self, name: &'a str, depth: usize) -> bool {
        let names = self.known.names.each_mut();
        let [old, new] = names.map(|names| names.chain(name));
        let (Some(old), Some(new), Some(depth)) = (old, new, depth.checked_sub(1)) else {
            return false;
        };
        let is_shaped_alike =
            |a: &Chain, b: &Chain| a.base == b.base && a.rules.len() == b.rules.len();
        is_shaped_alike(old, new)
            && old
                .rules
                .iter()
                .zip(&new.rules)
                .all(|(old, new)| self.rule_once(old, new, depth))
    }

    /// Compares two rules unless it is known what they do at this port.
    fn rule_once(&mut self, old: &'a Rule, new: &Rule, depth: usize) -> bool {
        let key = (std::ptr::from_ref(old), depth);
        let known = self.known.rules.get(&key).copied();
        let known = known.filter(|((first, last), _)| (*first..=*last).contains(&self.port));
        let (ports, is_same) = known.unwrap_or_else(|| {
            let outside = std::mem::replace(&mut self.ports, ALL_PORTS);
            let is_same = self.rule(old, new, depth);
            let ports = std::mem::replace(&mut self.ports, outside);
            self.known.rules.insert(key, (ports, is_same));
            (ports, is_same)
        });
        self.ports = overlap(self.ports, ports);
        is_same
    }

    /// Comments do not count.
    fn rule(&mut self, old: &'a Rule, new: &Rule, depth: usize) -> bool {
        if old.expressions != new.expressions {
            return false;
        }
        for expression in &old.expressions {
            match self.expression(expression, depth) {
                Sameness::Never => return true,
                Sameness::Same => {}
                Sameness::Unlike => return false,
            }
        }
        true
    }

    /// Whether what an expression looks up, and where it leads, is the same.
    fn expression(&mut self, expression: &'a Expression, depth: usize) -> Sameness {
        match expression {
            Expression::Port(port) => self.port(port, depth),
            Expression::Address(
                Address::SourceIn { family, .. }
                | Address::DestinationIn { family, .. }
                | Address::DestinationMap { family, .. }
                | Address::Family(family),
            ) if *family != self.family => Sameness::Never,
            Expression::Address(
                Address::SourceIn { set, .. }
                | Address::DestinationIn { set, .. }
                | Address::DestinationMap { map: set, .. },
            )
            | Expression::Interface(Interface::In { set, .. }) => self.whole(set, depth).into(),
            Expression::Statement(Statement::Verdict(verdict)) => {
                self.verdict(verdict, depth).into()
            }
            Expression::Address(Address::Family(_) | Address::ToLoopback(_) | Address::Local)
            | Expression::Interface(
                Interface::Name { .. }
                | Interface::OutBridge
                | Interface::SameInterface
                | Interface::NoReversePath,
            )
            | Expression::Conntrack(_)
            | Expression::Statement(
                Statement::Limit { .. }
                | Statement::Log { .. }
                | Statement::Counter
                | Statement::Reject(_),
            )
            // What is in such a set is no part of a ruleset.
            | Expression::PerSource(_)
            | Expression::Unknown { .. } => Sameness::Same,
        }
    }

    fn port(&mut self, expression: &'a Port, depth: usize) -> Sameness {
        match expression {
            Port::Protocol(protocol)
            | Port::Map { protocol, .. }
            | Port::SourceIn { protocol, .. }
            | Port::AddressMap { protocol, .. }
                if *protocol != self.protocol =>
            {
                Sameness::Never
            }
            Port::SourceIn { family, .. } | Port::AddressMap { family, .. }
                if *family != self.family =>
            {
                Sameness::Never
            }
            Port::In { set, .. } => {
                self.narrow(set);
                let key = [Value::Protocol(self.protocol), Value::Port(self.port)];
                let [old, new] = self.sets(set).map(|of| {
                    let found = look_up(of, set, &key, false);
                    found.map(|found| found.is_some())
                });
                (old.ok() == new.ok()).into()
            }
            Port::Map { map, .. } => {
                self.narrow(map);
                let key = [Value::Port(self.port)];
                let [old, new] = self.sets(map).map(|of| {
                    let found = look_up(of, map, &key, false).ok()?;
                    Some(found.and_then(|found| found.verdict))
                });
                let is_same = old == new
                    && old
                        .flatten()
                        .is_none_or(|verdict| self.verdict(verdict, depth));
                is_same.into()
            }
            Port::SourceIn { set, .. } => self.at_port(set, depth).into(),
            Port::AddressMap {
                end: End::Destination,
                map,
                ..
            } => self.at_port(map, depth).into(),
            Port::AddressMap {
                end: End::Source,
                map,
                ..
            } => self.whole(map, depth).into(),
            Port::Protocol(_) | Port::Opens => Sameness::Same,
        }
    }

    fn verdict(&mut self, verdict: &'a Verdict, depth: usize) -> bool {
        verdict.chain().is_none_or(|chain| self.chain(chain, depth))
    }

    /// Compares the rows of a set or map that have the port as their first field.
    fn at_port(&mut self, name: &'a str, depth: usize) -> bool {
        self.narrow(name);
        let Some([old, new]) = self.elements(name) else {
            return false;
        };
        let port = self.port;
        with_rows!(old, rows => {
            let rows = of_port(rows, port);
            is_same_at(rows, new, port) && self.verdicts(rows, depth)
        })
    }

    /// Compares all elements of a set or map.
    fn whole(&mut self, name: &'a str, depth: usize) -> bool {
        let Some([old, new]) = self.elements(name) else {
            return false;
        };
        *self.known.sets.entry(name).or_insert_with(|| old == new)
            && with_rows!(old, rows => self.verdicts(rows, depth))
    }

    fn verdicts<R: Row>(&mut self, rows: &'a [R], depth: usize) -> bool {
        // Only rows of maps have verdicts, and a set may have a million rows.
        !R::MAP
            || rows
                .iter()
                .filter_map(Row::verdict)
                .all(|verdict| self.verdict(verdict, depth))
    }

    fn elements(&mut self, name: &'a str) -> Option<[&'a Elements; 2]> {
        let [old, new] = self.sets(name);
        Some([&old?.elements, &new?.elements])
    }

    /// Returns the sets or maps of a name in both rulesets.
    fn sets(&mut self, name: &'a str) -> [Option<&'a Set>; 2] {
        let names = self.known.names.each_mut();
        names.map(|names| names.set(name))
    }

    /// Notes the ports at which a look-up has the same answer in both rulesets.
    fn narrow(&mut self, set: &'a str) {
        for names in &mut self.known.names {
            let alike = names.ports_alike(set, self.protocol, self.port);
            self.ports = overlap(self.ports, alike);
        }
    }
}

/// Whether elements have the same rows at a port.
fn is_same_at<R: Column>(rows: &[R], other: &Elements, port: u16) -> bool {
    R::rows(other).is_some_and(|other| of_port(other, port) == rows)
}
