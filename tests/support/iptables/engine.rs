//! What engines write, as far as packets from outside meet it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Is, Net, Rule, Rules, Table, Then, bridge};

/// Who writes the rules of published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Before there was DOCKER-USER.
    Docker17,
    /// From 18 to 27.
    Docker20,
    /// 28.0.0, with its sets of networks.
    Docker280,
    /// From 28.0.1 on.
    Docker28,
    Docker29,
    Netavark,
    /// Docker with `"iptables": false`, and DNAT by hand.
    ByHand,
}

pub(crate) const ENGINES: [Engine; 7] = [
    Engine::Docker17,
    Engine::Docker20,
    Engine::Docker280,
    Engine::Docker28,
    Engine::Docker29,
    Engine::Netavark,
    Engine::ByHand,
];

/// A published port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) container: IpAddr,
    pub(crate) inside: u16,
    /// At one address of the host only.
    pub(crate) address: Option<IpAddr>,
}

pub(crate) fn full(address: IpAddr) -> Net {
    Net(address, if address.is_ipv4() { 32 } else { 128 })
}

fn rule(matches: &[(bool, Is)], then: Then) -> Rule {
    Rule {
        matches: matches.to_vec(),
        then,
        own: false,
    }
}

/// The rules of an engine that publishes these ports.
pub(crate) fn write(rules: &mut Rules, engine: Engine, published: &[Published]) {
    for port in published {
        publish(rules, engine, port);
    }
    let bridges: BTreeSet<_> = published
        .iter()
        .map(|port| bridge(port.container))
        .collect();
    match engine {
        Engine::ByHand => {}
        Engine::Netavark => netavark(rules),
        _ => docker(rules, engine, &bridges),
    }
}

/// The rules of one port.
fn publish(rules: &mut Rules, engine: Engine, port: &Published) {
    use Table::{Filter, Nat, Raw};
    let to = bridge(port.container);
    let key = |inside: u16| {
        [
            (false, Is::Protocol(port.protocol)),
            (false, Is::Port(inside, inside)),
        ]
    };
    let address = port.address.map(|a| (false, Is::Destination(full(a))));
    let outside = [(true, Is::From(to))];
    let is_docker = ![Engine::Netavark, Engine::ByHand].contains(&engine);
    let outside: &[_] = if is_docker { &outside } else { &[] };
    let mut found: Vec<_> = address.into_iter().collect();
    found.extend_from_slice(outside);
    found.extend(key(port.port));
    let chain = match engine {
        Engine::Netavark => "NETAVARK-DN-1",
        Engine::ByHand => "PREROUTING",
        _ => "DOCKER",
    };
    if engine == Engine::Netavark {
        let calling = rule(&found, Then::Jump(chain));
        rules.add(Nat, "NETAVARK-HOSTPORT-DNAT", calling);
        let own = [(false, Is::Source(Net(port.container, 16)))];
        let own = [&own[..], &key(port.port)].concat();
        let marking = rule(&own, Then::Jump("NETAVARK-HOSTPORT-SETMARK"));
        rules.add(Nat, chain, marking);
    }
    let dnat = Then::Dnat(port.container, port.inside);
    rules.add(Nat, chain, rule(&found, dnat));
    let container = [(false, Is::Destination(full(port.container)))];
    if engine == Engine::ByHand {
        let plain = [&container[..], &key(port.inside)].concat();
        let mut accept = rule(&plain, Then::Accept);
        accept.own = true;
        rules.add(Filter, "FORWARD", accept);
    } else if is_docker {
        let inward = [(false, Is::To(to))];
        let accept = [&container, outside, &inward, &key(port.inside)].concat();
        rules.add(Filter, "DOCKER", rule(&accept, Then::Accept));
    }
    if engine.has_forward_chain() {
        let direct = [&container, outside].concat();
        rules.add(Raw, "PREROUTING", rule(&direct, Then::Drop));
    }
}

fn netavark(rules: &mut Rules) {
    use Table::{Filter, Nat};
    let local = [(false, Is::Local)];
    let call = rule(&local, Then::Jump("NETAVARK-HOSTPORT-DNAT"));
    rules.add(Nat, "PREROUTING", call);
    rules.add(Nat, "NETAVARK-HOSTPORT-SETMARK", rule(&[], Then::Mark));
    let call = rule(&[], Then::Jump("NETAVARK_FORWARD"));
    rules.add(Filter, "FORWARD", call);
    for (states, then) in [
        ("INVALID", Then::Drop),
        ("RELATED,ESTABLISHED", Then::Accept),
    ] {
        let judging = rule(&[(false, Is::State(states))], then);
        rules.add(Filter, "NETAVARK_FORWARD", judging);
    }
}

/// The chains that lead to Docker's DNAT and to what accepts.
fn docker(rules: &mut Rules, engine: Engine, bridges: &BTreeSet<&'static str>) {
    use Table::{Filter, Nat};
    let local = [(false, Is::Local)];
    rules.add(Nat, "PREROUTING", rule(&local, Then::Jump("DOCKER")));
    if engine != Engine::Docker17 {
        rules.add(Filter, "FORWARD", rule(&[], Then::Jump("DOCKER-USER")));
        rules.chains.entry((Filter, "DOCKER-USER")).or_default();
    }
    for name in bridges {
        let back = [
            (false, Is::To(name)),
            (false, Is::State("RELATED,ESTABLISHED")),
        ];
        let to = [(false, Is::To(name))];
        if engine.has_forward_chain() {
            rules.add(Filter, "DOCKER-CT", rule(&back, Then::Accept));
            rules.add(Filter, "DOCKER-BRIDGE", rule(&to, Then::Jump("DOCKER")));
            let rest = [(true, Is::From(name)), (false, Is::To(name))];
            rules.add(Filter, "DOCKER", rule(&rest, Then::Drop));
            continue;
        }
        if engine == Engine::Docker280 {
            let networks = Is::Opaque("-m set --match-set docker-ext-bridges-v4 dst", true);
            let call = rule(&[(false, networks)], Then::Jump("DOCKER"));
            rules.add(Filter, "FORWARD", call);
        } else {
            rules.add(Filter, "FORWARD", rule(&back, Then::Accept));
            rules.add(Filter, "FORWARD", rule(&to, Then::Jump("DOCKER")));
        }
        let from = [(false, Is::From(name))];
        rules.add(Filter, "FORWARD", rule(&from, Then::Accept));
    }
    if engine.has_forward_chain() {
        rules.add(Filter, "FORWARD", rule(&[], Then::Jump("DOCKER-FORWARD")));
        for chain in ["DOCKER-CT", "DOCKER-BRIDGE"] {
            rules.add(Filter, "DOCKER-FORWARD", rule(&[], Then::Jump(chain)));
        }
    }
}

impl Engine {
    /// Whether it has a chain of its own that FORWARD calls.
    fn has_forward_chain(self) -> bool {
        [Self::Docker28, Self::Docker29].contains(&self)
    }
}
