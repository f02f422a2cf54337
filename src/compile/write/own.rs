//! Replies to requests of this host from ephemeral ports that have a policy key: the kernel may choose such a
//! port, and the key would filter the reply.

use crate::host::HostView;
use crate::host::local_ports::LocalPorts;
use crate::net::{Ports, Protocol};
use crate::policy::Policy;
use crate::ruleset::{
    Conntrack, Direction, Elements, Expression, Hook, Interval, MapTo, Port, Rule, Set, Tuple,
    Verdict,
};

use super::super::names::{self, OUTPUT};
use super::{Compiler, accept, note};

impl Compiler<'_> {
    /// Returns the rules that accept replies to this host's requests, before keys are evaluated. TCP:
    /// on connections that it opened. UDP, which has no handshake: replies to ports that no engine and
    /// no container holds.
    pub(super) fn own_replies(&mut self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut ports = overlap(self.policy, &self.host.local_ports, protocol);
            if protocol == Protocol::Udp {
                ports = ports.without(&served(self.host, protocol));
            }
            if ports.is_empty() {
                continue;
            }
            let chain = names::own_chain(protocol);
            let (reply, text) = match protocol {
                Protocol::Tcp => (
                    Expression::Conntrack(Conntrack::Opened),
                    "replies to connections opened by this host",
                ),
                _ => (
                    Expression::Conntrack(Conntrack::Direction(Direction::Reply)),
                    "replies to requests of this host; UDP does not show which side opened the flow",
                ),
            };
            let reply = Rule::new(vec![reply, accept()], note(text));
            self.chain(&chain, vec![reply]);
            let verdict = Verdict::Jump(chain.clone());
            let ranges = ports.ranges().iter();
            let elements = ranges
                .map(|(first, last)| MapTo::new(Interval::new(*first, *last), verdict.clone()));
            let map = names::own_map(protocol);
            let set = Set {
                elements: Elements::PortVerdicts(elements.collect()),
                comment: Some("ports of policy keys inside the ephemeral port range".to_owned()),
            };
            self.ruleset.sets.insert(map.clone(), set);
            let ask = Expression::Port(Port::Map {
                tuple: Tuple::Packet,
                protocol: protocol.into(),
                map,
            });
            rules.push(Rule::new(vec![ask], None));
            if protocol == Protocol::Tcp {
                let opening = Rule::new(vec![Expression::Conntrack(Conntrack::NoteOpening)], None);
                self.base(OUTPUT, Hook::Output, vec![opening]);
            }
        }
        rules
    }
}

/// Returns the ports of keys within the ephemeral port range.
fn overlap(policy: &Policy, local: &LocalPorts, protocol: Protocol) -> Ports {
    let keys = policy.ports.keys().filter(|key| key.protocol == protocol);
    let keys: Ports = keys.map(|key| (key.first, key.last)).collect();
    keys.intersection(&automatic(local))
}

/// Returns the ephemeral port range.
pub(super) fn automatic(local: &LocalPorts) -> Ports {
    let reserved: Ports = local.reserved().iter().copied().collect();
    let range: Ports = local.range().into_iter().collect();
    range.without(&reserved)
}

/// Returns the ports that sockets of engines and containers hold: the kernel chooses none of them. A socket
/// of root with an unknown holder may be one.
pub(super) fn served(host: &HostView, protocol: Protocol) -> Ports {
    let sockets = host.sockets();
    let served = host.listeners.iter().filter(|listener| {
        let owner = listener.owner.as_ref();
        listener.protocol == protocol
            && owner.map_or_else(
                || host.blind && listener.user == 0,
                |owner| owner.is_engine() || sockets.is_of_container(owner),
            )
    });
    served
        .map(|listener| (listener.port, listener.port))
        .collect()
}

/// An overlap of keys with the ephemeral port range, and the setting that resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The ports of keys within the ephemeral port range, as ranges.
    pub ports: Vec<(u16, u16)>,
    /// The value of `net.ipv4.ip_local_reserved_ports` that excludes them; `None` if too few ports
    /// would remain.
    pub reserve: Option<String>,
}

/// The fewest ephemeral ports that must remain.
const ENOUGH: u32 = 4096;

/// Returns the overlaps of keys with the ephemeral port range.
#[must_use]
pub fn overlaps(policy: &Policy, local: &LocalPorts) -> Vec<Overlap> {
    let protocols = [Protocol::Tcp, Protocol::Udp];
    let all = protocols.map(|protocol| overlap(policy, local, protocol));
    let reserved: Ports = local.reserved().iter().copied().collect();
    let reserve = all.iter().fold(reserved, |all, ports| all.union(ports));
    let range: Ports = local.range().into_iter().collect();
    let left = range.without(&reserve);
    let left = left
        .ranges()
        .iter()
        .map(|(first, last)| u32::from(last - first) + 1);
    let reserve = (left.sum::<u32>() >= ENOUGH).then(|| {
        let ranges: Vec<String> = reserve.ranges().iter().map(|range| text(*range)).collect();
        ranges.join(",")
    });
    let overlaps = protocols
        .into_iter()
        .zip(all)
        .filter(|(_, ports)| !ports.is_empty());
    overlaps
        .map(|(protocol, ports)| Overlap {
            protocol,
            ports: ports.ranges().to_vec(),
            reserve: reserve.clone(),
        })
        .collect()
}

fn text((first, last): (u16, u16)) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}
