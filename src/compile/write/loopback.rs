//! Denies packets from the network to ports published on a loopback address.
//!
//! With DNAT by the engine, such a packet is denied in `published`. Without (no NAT rules, or flushed ones)
//! the packet reaches docker-proxy's socket if `route_localnet` is on.

use std::collections::BTreeMap;

use crate::net::{Ports, Protocol};
use crate::ruleset::{
    Address, Elements, Expression, Interval, MapTo, Port, Rule, Set, Statement, Tuple, Verdict,
};

use super::super::names::{self, FROM_WIRE, LOOPBACK};
use super::{Compiler, drop, jump, note, published};

impl Compiler<'_> {
    /// Returns the rules that deny packets to those ports from interfaces other than `lo`.
    pub(super) fn loopback(&mut self) -> Vec<Rule> {
        let mut all: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
        let host = self.host;
        let on_loopback = host
            .publications()
            .filter(|publication| publication.published.address.is_loopback());
        let published = on_loopback.map(|publication| publication.published.port());
        let remembered = host.remembered.iter().copied();
        let remembered =
            remembered.filter(|port| port.address.is_some_and(|address| address.is_loopback()));
        let automatic = published::Automatic::of(host);
        for port in published.chain(remembered) {
            // Replies of containers to requests of the host from 127.0.0.1 come in here, too; they go
            // to ports without a listener.
            let own = Ports::from_iter([(port.first, port.last)]);
            let own = own.without(automatic.of_protocol(port.protocol));
            all.entry(port.protocol).or_default().extend(own.ranges());
        }
        let mut maps = Vec::new();
        for (protocol, ranges) in all {
            let ports: Ports = ranges.into_iter().collect();
            if ports.is_empty() {
                continue;
            }
            let denied = Verdict::Goto(FROM_WIRE.to_owned());
            let ranges = ports.ranges().iter();
            let elements = ranges
                .map(|(first, last)| MapTo::new(Interval::new(*first, *last), denied.clone()));
            let map = names::loopback_map(protocol);
            let set = Set {
                elements: Elements::PortVerdicts(elements.collect()),
                comment: Some(note("ports published on a loopback address")),
            };
            self.ruleset.sets.insert(map.clone(), set);
            let ask = Expression::Port(Port::Map {
                tuple: Tuple::Packet,
                protocol: protocol.into(),
                map,
            });
            maps.push(Rule::new(vec![ask], None));
        }
        if maps.is_empty() {
            return Vec::new();
        }
        let deny = Rule::new(
            vec![Expression::Statement(Statement::Counter), drop()],
            note("loopback address from the network (RFC 1122, 3.2.1.3)"),
        );
        self.chain(FROM_WIRE, vec![deny]);
        self.chain(LOOPBACK, maps);
        let to = vec![
            Expression::Address(Address::ToLoopback(Tuple::Packet)),
            jump(LOOPBACK),
        ];
        vec![Rule::new(to, None)]
    }
}
