//! What `explain` says of every address, or of every port, is what it says of one packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use dfw::analysis::explain::from::reachable;
use dfw::analysis::explain::to::{Clients, clients};
use dfw::analysis::explain::{Answer, Destination, Question, explain};
use dfw::analysis::judgement::{Reason, line_of};
use dfw::analysis::path::Kind;
use dfw::analysis::surroundings::{Families, Surroundings};
use dfw::host::HostView;
use dfw::host::engine::{GatewayMode, Network};
use dfw::net::{Family, HostPorts, Protocol};
use dfw::ruleset::{Expression, Interface, Ruleset};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::property::property;
use crate::reference::Meant;
use crate::reference::random::{Edges, INTERFACES, host, meant};
use crate::size::times;

/// The addresses of the host.
const OWN: [&str; 3] = ["198.51.100.1", "198.51.100.2", "2001:db8:1::1"];

/// A random host with a policy, and what is around it.
struct World {
    host: HostView,
    around: Surroundings,
    ruleset: Ruleset,
    sources: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl World {
    fn new(policy: &Meant, mut host: HostView, engine_rules: bool) -> Self {
        for engine in &mut host.engines {
            engine.networks.push(Network {
                id: "1".to_owned(),
                name: "bridge".to_owned(),
                driver: "bridge".to_owned(),
                bridge: Some("docker0".to_owned()),
                gateways: Vec::new(),
                mode_v4: GatewayMode::Nat,
                mode_v6: GatewayMode::Routed,
                internal: false,
                ipv6: true,
            });
        }
        host.interfaces = INTERFACES.map(|name| (name.to_owned(), None)).into();
        let both = |is| Families { v4: is, v6: is };
        let is_outside = |name: &&str| *name != "lo" && !host.container_bridges.contains(*name);
        let around = Surroundings {
            interfaces: INTERFACES
                .into_iter()
                .filter(is_outside)
                .map(str::to_owned)
                .collect(),
            addresses: OWN.map(|address| address.parse().unwrap()).to_vec(),
            engine_rules: both(engine_rules),
            forwards: both(true),
            ..Surroundings::default()
        };
        let edges = Edges::of(policy, &host);
        let ruleset = policy.compile(&host, false);
        let sources: BTreeSet<IpAddr> = edges.addresses().collect();
        let ports: BTreeSet<u16> = edges.ports().filter(|port| *port > 0).collect();
        Self {
            host,
            around,
            ruleset,
            sources: sources.into_iter().collect(),
            ports: ports.into_iter().collect(),
        }
    }

    /// The answer about one packet that comes in through an interface.
    fn packet(&self, from: IpAddr, via: &str, strays: bool, destination: &Destination) -> Answer {
        let elsewhere = strays.then(|| "elsewhere".to_owned());
        let routes = elsewhere.map(|interface| (from, Some(interface)));
        let around = Surroundings {
            answers_through: routes.into_iter().collect::<BTreeMap<_, _>>(),
            ..self.around.clone()
        };
        let question = Question {
            from,
            via: Some(via.to_owned()),
            destination: destination.clone(),
        };
        explain(&self.host, &around, &self.ruleset, &question)
    }

    fn has_reverse_path(&self) -> bool {
        let rules = self.ruleset.chains.values().flat_map(|c| &c.rules);
        let mut expressions = rules.flat_map(|rule| &rule.expressions);
        expressions.any(|e| *e == Expression::Interface(Interface::NoReversePath))
    }
}

fn destination(address: Option<IpAddr>, protocol: Protocol, port: u16) -> Destination {
    Destination {
        to: HostPorts::one(address, protocol, port),
        place: None,
        host_known: true,
    }
}

/// Where all addresses are looked at: protocol, port, address of the host, interface.
type Probe = [Index; 5];

fn random() -> impl Strategy<Value = ((Meant, HostView, bool), Vec<Probe>)> {
    let world = (meant(), host(), any::<bool>());
    (world, prop::collection::vec(any::<Probe>(), 8))
}

/// Compares the answer about one packet with the block that its path, address and interface are of.
fn compare(
    world: &World,
    clients: &Clients,
    (from, via, strays): (IpAddr, &str, bool),
    asked: &Destination,
) -> Result<()> {
    let family = Family::of(from);
    let answer = world.packet(from, via, strays, asked);
    let mut seen = 0;
    for walk in &answer.walks {
        for address in &walk.addresses {
            seen += 1;
            let mut blocks = clients.blocks.iter().filter(|block| {
                block.exists == answer.exists
                    && block.paths.contains(&walk.path)
                    && block.addresses.contains(address)
                    && block
                        .entrances
                        .iter()
                        .any(|e| e.interface == via && e.strays == strays)
            });
            let block = blocks.next().context("no block")?;
            ensure!(blocks.next().is_none(), "two blocks");
            let mut accesses = block.accesses.iter();
            let access = accesses.find(|access| access.sources.contains(from));
            let access = access.context("no access")?;
            ensure!(
                (access.judgement, access.line()) == (walk.judgement, line_of(&walk.trace.steps)),
                "{access:?}\n{walk:?}"
            );
        }
    }
    let of_entrance = clients.blocks.iter().filter(|block| {
        let mut entrances = block.entrances.iter();
        block.family() == family && entrances.any(|e| e.interface == via && e.strays == strays)
    });
    // A block of a known path is whole; where nothing is there, services are left out of both.
    let judged = of_entrance.filter(|block| {
        let access = block.accesses.iter().find(|a| a.sources.contains(from));
        let reason = access.and_then(|access| access.judgement.reason());
        block.exists || reason != Some(Reason::Service)
    });
    let all: usize = judged
        .map(|block| block.paths.len() * block.addresses.len())
        .sum();
    ensure!(all == seen, "{all} != {seen}\n{clients:#?}\n{answer:#?}");
    Ok(())
}

#[test]
fn every_address_has_the_verdict_of_its_packet() {
    property(
        times(60, 20),
        &random(),
        |((policy, host, engine_rules), probes)| {
            let world = World::new(&policy, host, engine_rules);
            let strays = world.has_reverse_path();
            for probe in &probes {
                let addresses: Vec<Option<IpAddr>> = std::iter::once(None)
                    .chain(world.around.addresses.iter().copied().map(Some))
                    .chain(
                        world
                            .host
                            .endpoints()
                            .map(|endpoint| Some(endpoint.address)),
                    )
                    .collect();
                let asked = destination(
                    *probe[0].get(&addresses),
                    *probe[1].get(&Protocol::ALL),
                    *probe[2].get(&world.ports),
                );
                let clients = clients(&world.host, &world.around, &world.ruleset, &asked, None);
                let entrances = clients.blocks.iter().flat_map(|block| &block.entrances);
                let names: BTreeSet<&str> = entrances.map(|e| e.interface.as_str()).collect();
                let names: Vec<&str> = names.into_iter().collect();
                if names.is_empty() {
                    continue;
                }
                let via = *probe[3].get(&names);
                let strays = strays && probe[4].index(2) == 1;
                let is_asked = |source: &&IpAddr| {
                    let to = asked.to.address;
                    to.is_none_or(|to| to.is_ipv4() == source.is_ipv4())
                };
                for from in world.sources.iter().filter(is_asked) {
                    compare(&world, &clients, (*from, via, strays), &asked)
                        .with_context(|| format!("{from} through {via} to {asked:?}"))?;
                }
            }
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn every_port_has_the_verdict_of_its_packet() {
    property(
        times(60, 20),
        &random(),
        |((policy, host, engine_rules), probes)| {
            let world = World::new(&policy, host, engine_rules);
            for probe in &probes {
                let from = *probe[0].get(&world.sources);
                let via = (*probe[1].get(&world.around.interfaces)).clone();
                let all = reachable(&world.host, &world.around, &world.ruleset, from, Some(&via));
                for walk in &all.walks {
                    let Some(port) = walk.path.port else { continue };
                    let address = match walk.path.kind {
                        Kind::Container => Some(walk.path.address),
                        // Nobody asks for a loopback address of this host by its port alone.
                        Kind::Loopback => continue,
                        _ => None,
                    };
                    let asked = destination(address, walk.path.protocol, port);
                    let answer = world.packet(from, &via, false, &asked);
                    ensure!(answer.walks.contains(walk), "{walk:#?}\n{answer:#?}");
                }
                let port = *probe[2].get(&world.ports);
                let protocol = *probe[3].get(&Protocol::ALL);
                let answer = world.packet(from, &via, false, &destination(None, protocol, port));
                for walk in answer.walks.iter().filter(|_| answer.exists) {
                    ensure!(all.walks.contains(walk), "{walk:#?}\n{all:#?}");
                }
            }
            Ok(())
        },
    )
    .unwrap();
}
