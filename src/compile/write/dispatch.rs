//! Dispatches packets by port to the chain of the most specific key, with verdict maps.

use crate::net::{Family, HostPorts, Protocol};
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::names::Context;
use super::{Compiler, segment};
use crate::policy::PortPolicy;
use crate::ruleset::{
    Address, Elements, Expression, Interval, MapTo, Port, Rule, Set, Tuple, Verdict,
};

impl Compiler<'_> {
    /// Returns the rules that dispatch a packet to the chain of the most specific key of its port, and
    /// adds those chains. No rules if no key applies in this context.
    pub(super) fn dispatch(&mut self, context: Context) -> Vec<Rule> {
        let policy = self.policy;
        if context == Context::HostFromContainers
            && !policy.ports.values().any(|port| port.except.containers)
        {
            return Vec::new();
        }
        let takes_part = |(key, port): (&HostPorts, &PortPolicy)| self.is_early(key, port);
        if context == Context::Early && !policy.ports.iter().any(takes_part) {
            return Vec::new();
        }
        let unnamed = match context {
            Context::Host => self.unnamed(),
            Context::Early
            | Context::Published
            | Context::HostFromContainers
            | Context::Container => Vec::new(),
        };
        let mut by_address: BTreeMap<Option<IpAddr>, Vec<(&HostPorts, Verdict)>> = BTreeMap::new();
        let judges = matches!(context, Context::Early | Context::Published | Context::Host);
        if judges {
            self.shared_chains(context);
        }
        let shared: BTreeMap<Protocol, Verdict> = Protocol::ALL
            .into_iter()
            .map(|protocol| (protocol, Verdict::Goto(context.shared_chain(protocol))))
            .collect();
        let keys = policy.ports.iter();
        for (key, port) in keys.filter(|(key, _)| context.has(key.protocol)) {
            let verdict = if context == Context::Early && !self.is_early(key, port) {
                // Must not fall through to a key around it.
                Verdict::Accept
            } else if let Some(verdict) = shared
                .get(&key.protocol)
                .filter(|_| judges && self.shared.contains(key))
            {
                verdict.clone()
            } else {
                self.port_chain(context, key, port);
                port_verdict(context, key, port)
            };
            by_address
                .entry(key.address)
                .or_default()
                .push((key, verdict));
        }
        for (key, verdict) in &unnamed {
            by_address
                .entry(key.address)
                .or_default()
                .push((key, verdict.clone()));
        }
        let anywhere = by_address.remove(&None).unwrap_or_default();

        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (address, keys) in by_address {
            let Some(address) = address else { continue };
            let chain = context.address_chain(address);
            let rules = self.port_maps(context, Some(address), &keys);
            self.chain(&chain, rules);
            match address {
                IpAddr::V4(address) => {
                    v4.push(MapTo::new(u32::from(address), Verdict::Jump(chain)));
                }
                IpAddr::V6(address) => {
                    v6.push(MapTo::new(u128::from(address), Verdict::Jump(chain)));
                }
            }
        }
        let mut rules = self.address_maps(context, v4, v6);
        rules.extend(self.port_maps(context, None, &anywhere));
        rules
    }

    /// Returns the maps from addresses to chains, and the rules that look them up.
    pub(super) fn address_maps(
        &mut self,
        context: Context,
        v4: Vec<MapTo<u32>>,
        v6: Vec<MapTo<u128>>,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        if !v4.is_empty() {
            rules.push(self.address_map(context, Family::V4, Elements::Ipv4Verdicts(v4)));
        }
        if !v6.is_empty() {
            rules.push(self.address_map(context, Family::V6, Elements::Ipv6Verdicts(v6)));
        }
        rules
    }

    fn address_map(&mut self, context: Context, family: Family, elements: Elements) -> Rule {
        let map = context.address_map(family);
        self.ruleset.sets.insert(
            map.clone(),
            Set {
                elements,
                comment: None,
            },
        );
        Rule::new(
            vec![Expression::Address(Address::DestinationMap {
                tuple: tuple(context),
                family,
                map,
            })],
            None,
        )
    }

    /// Returns one map from ports to chains per protocol, and the rules that look it up.
    fn port_maps(
        &mut self,
        context: Context,
        address: Option<IpAddr>,
        keys: &[(&HostPorts, Verdict)],
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        for protocol in Protocol::ALL {
            let keys = keys.iter().filter(|(key, _)| key.protocol == protocol);
            let mut elements: Vec<MapTo<Interval<u16>>> = Vec::new();
            for segment in segment::segments(keys.map(|(key, verdict)| (*key, verdict))) {
                let before = elements.last_mut();
                let same = before.filter(|row| {
                    row.key.last.checked_add(1) == Some(segment.first)
                        && row.verdict == *segment.value
                });
                match same {
                    Some(row) => row.key.last = segment.last,
                    None => elements.push(MapTo::new(
                        Interval::new(segment.first, segment.last),
                        segment.value.clone(),
                    )),
                }
            }
            if context == Context::Early && address.is_none() {
                // As without an element.
                elements.retain(|row| row.verdict != Verdict::Accept);
            }
            if elements.is_empty() {
                continue;
            }
            let elements = Elements::PortVerdicts(elements);
            rules.push(self.port_map(context, address, protocol, elements));
        }
        rules
    }

    /// Returns a map from ports to chains, and the rule that looks it up.
    pub(super) fn port_map(
        &mut self,
        context: Context,
        address: Option<IpAddr>,
        protocol: Protocol,
        elements: Elements,
    ) -> Rule {
        let map = context.port_map(address, protocol);
        self.ruleset.sets.insert(
            map.clone(),
            Set {
                elements,
                comment: None,
            },
        );
        Rule::new(
            vec![Expression::Port(Port::Map {
                tuple: tuple(context),
                protocol: protocol.into(),
                map,
            })],
            None,
        )
    }
}

fn port_verdict(context: Context, key: &HostPorts, port: &PortPolicy) -> Verdict {
    match context {
        // Must not fall through to a key without an address.
        Context::HostFromContainers if !port.except.containers => Verdict::Accept,
        _ => Verdict::Goto(context.port_chain(key)),
    }
}

pub(super) fn tuple(context: Context) -> Tuple {
    match context {
        Context::Published => Tuple::Original,
        Context::Early | Context::Host | Context::HostFromContainers | Context::Container => {
            Tuple::Packet
        }
    }
}
