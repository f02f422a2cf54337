//! Random hosts: the rules of an engine, as its versions write them, with those of users among them.

use std::net::IpAddr;

use super::engine::{ENGINES, Engine, Published, full, write};
use super::{Is, Net, Packet, Rule, Rules, Table, Then, v4, v6};

/// Numbers from a seed: the generator `SplitMix64`.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % count.max(1)
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.once_in(2)
    }

    /// Once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The rules of a host, of both families.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) v4: Rules,
    /// `None` if there is no dump of them.
    pub(crate) v6: Option<Rules>,
}

impl Host {
    pub(crate) fn rules(&self, v4: bool) -> Option<&Rules> {
        if v4 { Some(&self.v4) } else { self.v6.as_ref() }
    }

    /// A host at which every kind of rule makes a difference to some packet.
    pub(crate) fn telling() -> Self {
        let container = v4(172, 17, 0, 2);
        let published = [(80, 443), (443, 80)].map(|(port, inside)| Published {
            protocol: "tcp",
            port,
            container,
            inside,
            address: None,
        });
        let mut rules = Rules::default();
        rules.drops.push((Table::Filter, "FORWARD"));
        write(&mut rules, Engine::Docker20, &published);
        let from = |net: Net| vec![(false, Is::Source(net))];
        let mut put = |chain, at: usize, matches, then| {
            let chain = rules.chains.entry((Table::Filter, chain)).or_default();
            let own = true;
            chain.insert(at, Rule { matches, then, own });
        };
        let [office, half, ..] = sources(true);
        let one = Net(v4(203, 0, 113, 9), 32);
        put("DOCKER-USER", 0, from(office), Then::Goto("office"));
        put("DOCKER-USER", 1, vec![(true, Is::Source(half))], Then::Drop);
        put("office", 0, from(one), Then::Return);
        // Behind the call of DOCKER-USER.
        let key = vec![(false, Is::Protocol("tcp")), (false, Is::Port(80, 80))];
        put("FORWARD", 1, [from(one), key].concat(), Then::Drop);
        Self {
            engine: Engine::Docker20,
            v4: rules,
            v6: None,
        }
    }

    /// A host with everything that `dfw import` may read, or what a test kernel can load.
    pub(crate) fn random(rng: &mut Rng, loadable: bool) -> Self {
        let engine = loop {
            let engine = rng.one(&ENGINES);
            if !loadable || engine != Engine::Docker280 {
                break engine;
            }
        };
        let v4 = family(rng, engine, true, loadable);
        let v6 = (!rng.once_in(4)).then(|| {
            // A family in which nothing is published.
            if rng.once_in(4) {
                let mut rules = Rules::default();
                users(rng, &mut rules, false, loadable);
                rules.chains.retain(|(table, _), _| *table != Table::Nat);
                rules
            } else {
                family(rng, engine, false, loadable)
            }
        });
        Self { engine, v4, v6 }
    }
}

fn family(rng: &mut Rng, engine: Engine, is_v4: bool, loadable: bool) -> Rules {
    let count = 1 + rng.below(4);
    let mut published: Vec<Published> = Vec::new();
    for _ in 0..count {
        let new = publish(rng, engine, is_v4);
        let same = |known: &Published| (known.protocol, known.port) == (new.protocol, new.port);
        if !published.iter().any(same) {
            published.push(new);
        }
    }
    let mut rules = Rules::default();
    let forward = if rng.once_in(3) {
        &[][..]
    } else {
        &[(Table::Filter, "FORWARD")]
    };
    rules.drops.extend(forward);
    write(&mut rules, engine, &published);
    on_the_way(rng, &mut rules, is_v4, loadable);
    users(rng, &mut rules, is_v4, loadable);
    rules
}

/// Conditions that a user puts to what leads to the DNAT, and a DNAT for some only.
fn on_the_way(rng: &mut Rng, rules: &mut Rules, is_v4: bool, loadable: bool) {
    let Some(chain) = rules.chains.get_mut(&(Table::Nat, "PREROUTING")) else {
        return;
    };
    if rng.once_in(4) {
        let not = rng.coin();
        let condition = match rng.below(4) {
            0 => Is::From(rng.one(&["eth0", "eth1"])),
            1 if !loadable => Is::Opaque("-m set --match-set known src", false),
            _ => Is::Source(rng.one(&sources(is_v4))),
        };
        let not = not && !matches!(condition, Is::Opaque(..));
        let at = rng.below(chain.len());
        chain[at].matches.insert(0, (not, condition));
    }
    if rng.once_in(6) {
        let to = if is_v4 {
            v4(172, 17, 0, 3)
        } else {
            v6(0xfd00_0011, 0, 3)
        };
        let port = rng.one(&HOST_PORTS);
        let matches = vec![
            (rng.coin(), Is::Source(rng.one(&sources(is_v4)))),
            (false, Is::Protocol("tcp")),
            (false, Is::Port(port, port)),
        ];
        let then = Then::Dnat(to, rng.one(&INSIDE));
        let own = false;
        chain.insert(rng.below(chain.len() + 1), Rule { matches, then, own });
    }
}

const HOST_PORTS: [u16; 4] = [80, 443, 5432, 8080];
const INSIDE: [u16; 4] = [80, 443, 5432, 9000];

fn publish(rng: &mut Rng, engine: Engine, is_v4: bool) -> Published {
    let container = match (engine, is_v4, rng.below(2)) {
        (Engine::Netavark, true, n) => rng.one(&[v4(10, 88, 0, 2), v4(10, 88, 0, 3)][n..]),
        (_, true, 0) => rng.one(&[v4(172, 17, 0, 2), v4(172, 17, 0, 3)]),
        (_, true, _) => v4(172, 18, 0, 2),
        (_, false, 0) => v6(0xfd00_0011, 0, 2),
        (_, false, _) => v6(0xfd00_0012, 0, 2),
    };
    let here = hosts(is_v4)[0];
    Published {
        protocol: rng.one(&["tcp", "tcp", "udp"]),
        port: rng.one(&HOST_PORTS),
        container,
        inside: rng.one(&INSIDE),
        address: rng.once_in(6).then_some(here),
    }
}

/// The addresses of the host.
pub(crate) fn hosts(is_v4: bool) -> [IpAddr; 2] {
    if is_v4 {
        [v4(203, 0, 113, 10), v4(10, 9, 0, 10)]
    } else {
        [v6(0x2001_0db8, 1, 0x10), v6(0x2001_0db8, 9, 0x10)]
    }
}

/// Chains of users; each calls only those behind it.
const OWN: [&str; 3] = ["DOCKER-web", "office", "zone"];

/// Puts rules of users at any place of any chain.
fn users(rng: &mut Rng, rules: &mut Rules, is_v4: bool, loadable: bool) {
    use Table::{Filter, Mangle, Nat, Raw, Security};
    let mut places = vec![
        (Filter, "FORWARD", 4),
        (Mangle, "FORWARD", 1),
        (Mangle, "PREROUTING", 1),
        (Mangle, "POSTROUTING", 1),
        (Raw, "PREROUTING", 1),
        (Nat, "PREROUTING", 1),
        (Security, "FORWARD", 1),
    ];
    let engines: Vec<_> = rules.chains.keys().copied().collect();
    for (table, chain) in engines {
        if chain.starts_with("DOCKER") || chain.starts_with("NETAVARK") {
            let weight = if chain == "DOCKER-USER" { 8 } else { 1 };
            places.push((table, chain, weight));
        }
    }
    if rng.once_in(8) {
        let table = rng.one(&[Mangle, Raw]);
        if table == Mangle && rng.once_in(4) {
            rules.drops.push((Mangle, "FORWARD"));
        }
    }
    let count = 1 + rng.below(9);
    for _ in 0..count {
        let total: usize = places.iter().map(|(.., weight)| weight).sum();
        let mut at = rng.below(total);
        let found = places.iter().find(|(.., weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let Some(&(table, chain, _)) = found else {
            continue;
        };
        let new = user_rule(rng, table, chain, is_v4, loadable);
        if let Then::Jump(name) | Then::Goto(name) = new.then {
            let known = rules.chains.entry((table, name)).or_default();
            if known.is_empty() && !places.contains(&(table, name, 3)) {
                places.push((table, name, 3));
            }
        }
        let place = rules.chains.entry((table, chain)).or_default();
        let at = rng.below(place.len() + 1);
        place.insert(at, new);
    }
    for ((table, chain), rules) in &rules.chains {
        debug_assert!(
            rules.iter().all(|rule| {
                !matches!(rule.then, Then::Jump(name) | Then::Goto(name) if name == *chain)
            }),
            "{table:?}"
        );
    }
}

fn user_rule(rng: &mut Rng, table: Table, chain: &str, is_v4: bool, loadable: bool) -> Rule {
    let early = chain == "PREROUTING" || table == Table::Nat;
    let own = OWN
        .iter()
        .position(|name| *name == chain)
        .map_or(0, |at| at + 1);
    let mut matches = Vec::new();
    let not = |rng: &mut Rng| rng.once_in(3);
    if !rng.once_in(3) {
        matches.push((not(rng), Is::Source(rng.one(&sources(is_v4)))));
    }
    if rng.once_in(3) && chain != "POSTROUTING" {
        matches.push((
            not(rng),
            Is::From(rng.one(&["eth0", "eth1", "eth+", "docker0"])),
        ));
    }
    // What may be called from anywhere must not look where a packet goes.
    if rng.once_in(6) && !early && own == 0 {
        matches.push((not(rng), Is::To(rng.one(&["docker0", "docker+", "eth1"]))));
    }
    if rng.once_in(6) {
        let inside = if is_v4 {
            [Net(v4(172, 17, 0, 0), 16), full(v4(172, 17, 0, 2))]
        } else {
            [Net(v6(0xfd00_0011, 0, 0), 48), full(v6(0xfd00_0011, 0, 2))]
        };
        let there = if early {
            full(rng.one(&hosts(is_v4)))
        } else {
            rng.one(&inside)
        };
        let there = if rng.once_in(3) {
            rng.one(&inside)
        } else {
            there
        };
        matches.push((not(rng), Is::Destination(there)));
    }
    if rng.once_in(3) {
        matches.push((false, Is::Protocol(rng.one(&["tcp", "tcp", "udp"]))));
        if !rng.once_in(3) {
            let port = rng.one(&[80, 443, 5432, 8080, 9000]);
            let last = if rng.once_in(4) { port + 1000 } else { port };
            matches.push((not(rng), Is::Port(port, last)));
        }
        // Connections are not known in raw.
        if rng.once_in(5) && table != Table::Raw {
            matches.push((not(rng), Is::OriginalPort(rng.one(&HOST_PORTS))));
        }
    }
    if rng.once_in(8) && table != Table::Raw {
        matches.push((
            not(rng),
            Is::State(rng.one(&["NEW", "RELATED,ESTABLISHED", "INVALID"])),
        ));
    }
    if rng.once_in(10) && table != Table::Raw {
        let host = full(rng.one(&hosts(is_v4)));
        matches.push((not(rng), Is::OriginalDestination(host)));
    }
    if rng.once_in(10) {
        let opaque = [
            Is::Opaque("-m mark --mark 0x77", false),
            Is::Opaque("-m length --length 0:1400", true),
            Is::Opaque("-m length ! --length 0:1400", false),
            Is::Opaque("-m geoip --source-country DE", true),
            Is::Opaque("-m set --match-set banned src", true),
        ];
        let count = if loadable { 3 } else { opaque.len() };
        matches.push((false, rng.one(&opaque[..count])));
    }
    let called = OWN.get(own..).unwrap_or_default();
    let then = match rng.below(12) {
        0..=3 | 10 if table != Table::Nat => Then::Drop,
        4 if table == Table::Filter => Then::Reject,
        5 | 6 => Then::Accept,
        7 | 8 if !called.is_empty() => Then::Jump(rng.one(called)),
        9 if !called.is_empty() => Then::Goto(rng.one(called)),
        _ => Then::Return,
    };
    Rule {
        matches,
        then,
        own: true,
    }
}

/// Networks of clients, one in another.
fn sources(is_v4: bool) -> [Net; 5] {
    if is_v4 {
        [
            Net(v4(203, 0, 113, 0), 24),
            Net(v4(203, 0, 113, 128), 25),
            Net(v4(198, 51, 100, 7), 32),
            Net(v4(198, 51, 100, 0), 24),
            Net(v4(128, 0, 0, 0), 1),
        ]
    } else {
        [
            Net(v6(0x2001_0db8, 1, 0), 48),
            Net(v6(0x2001_0db8, 1, 0x80), 121),
            Net(v6(0x2001_0db8, 2, 7), 128),
            Net(v6(0x2001_0db8, 2, 0), 48),
            Net(v6(0x2000_0000, 0, 0), 3),
        ]
    }
}

impl Packet {
    /// The same, mostly to a port that some DNAT is about.
    pub(crate) fn aimed(rng: &mut Rng, rules: &Rules, is_v4: bool) -> Self {
        let mut packet = Self::random(rng, is_v4);
        let all = rules.chains.values().flatten();
        let published: Vec<_> = all
            .filter(|rule| matches!(rule.then, Then::Dnat(..)))
            .filter_map(|rule| {
                let mut key = (None, None);
                for (_, is) in &rule.matches {
                    match is {
                        Is::Protocol(name) => key.0 = Some(*name),
                        Is::Port(port, _) => key.1 = Some(*port),
                        _ => {}
                    }
                }
                Some((key.0?, key.1?))
            })
            .collect();
        if !published.is_empty() && !rng.once_in(5) {
            (packet.protocol, packet.port) = rng.one(&published);
        }
        packet
    }

    /// A packet near the edges of what rules say.
    pub(crate) fn random(rng: &mut Rng, is_v4: bool) -> Self {
        let sources = if is_v4 {
            [
                v4(203, 0, 113, 9),
                v4(203, 0, 113, 200),
                v4(198, 51, 100, 7),
                v4(198, 51, 100, 8),
                v4(11, 1, 2, 3),
                v4(192, 0, 2, 1),
            ]
        } else {
            [
                v6(0x2001_0db8, 1, 9),
                v6(0x2001_0db8, 1, 0x90),
                v6(0x2001_0db8, 2, 7),
                v6(0x2001_0db8, 2, 8),
                v6(0x3fff_0000, 3, 1),
                v6(0x2001_0db8, 4, 1),
            ]
        };
        Self {
            source: rng.one(&sources),
            incoming: rng.one(&["eth0", "eth0", "eth1"]),
            to: rng.one(&hosts(is_v4)),
            protocol: rng.one(&["tcp", "tcp", "udp"]),
            port: rng.one(&HOST_PORTS),
        }
    }
}
