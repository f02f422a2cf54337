//! The evaluator for sets of sources agrees with the one for a packet, and with what the policy means.

use std::net::IpAddr;
use std::rc::Rc;

use dfw::analysis::eval::{Decision, Packet, Pool, Symbolic, evaluate};
use dfw::net::{AddressSet, Family};
use dfw::ruleset::{Expression, Rule, Ruleset};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::reference::meaning;
use crate::reference::random::{Edges, host, meant, packets};

/// The first and the last address of every range of a set.
fn ends(set: &AddressSet) -> Vec<IpAddr> {
    let v4 = set.v4().iter().flat_map(|(a, b)| [a, b]);
    let v6 = set.v6().iter().flat_map(|(a, b)| [a, b]);
    let v4 = v4.map(|a| IpAddr::V4(a.into()));
    v4.chain(v6.map(|a| IpAddr::V6(a.into()))).collect()
}

fn at_port(packet: &Packet, port: u16) -> Packet {
    let mut packet = packet.clone();
    packet.flow.port = Some(port);
    if let Some(connection) = &mut packet.connection {
        connection.original.port = Some(port);
    }
    if let Some(arrival) = &mut packet.arrival {
        arrival.port = Some(port);
    }
    packet
}

/// Every region has the decision of its boundary addresses, and every source is in one region.
fn agrees(ruleset: &Ruleset, packet: &Packet, mut meant: impl FnMut(&Packet) -> Option<Decision>) {
    let (mut pool, mut symbolic) = (Pool::default(), Symbolic::new(ruleset));
    let all = pool.keep(AddressSet::all(Family::of(packet.flow.source)));
    let partition = symbolic.partition(&mut pool, packet, &all);
    let mut covered = pool.keep(AddressSet::default());
    for region in &partition.regions {
        assert!(!region.sources.is_empty());
        assert!(!region.sources.intersects(&covered), "{partition:#?}");
        covered = pool.union(&covered, &region.sources);
        for source in ends(&region.sources) {
            let packet = packet.from_source(source);
            let trace = evaluate(ruleset, &packet);
            let decision = (!trace.unknown).then_some(trace.decision);
            assert_eq!(
                region.decision, decision,
                "{region:?}\n{packet:#?}\n{trace:#?}\n{ruleset}"
            );
            if decision.is_some() {
                let place = |steps: &[dfw::analysis::eval::Step]| -> Vec<_> {
                    let steps = steps.iter();
                    steps
                        .map(|step| (step.chain.clone(), step.rule, step.comment.clone()))
                        .collect()
                };
                assert_eq!(place(&region.steps), place(&trace.steps));
                if let Some(meant) = meant(&packet) {
                    assert_eq!(region.decision, Some(meant), "{packet:#?}");
                }
            }
        }
    }
    assert_eq!(covered, all);
    let Some(port) = packet.flow.port else { return };
    let packet = at_port(packet, port);
    let here = symbolic.partition(&mut pool, &packet, &all);
    for end in [here.ports.0, here.ports.1] {
        let there = symbolic.partition(&mut pool, &at_port(&packet, end), &all);
        let verdicts = |p: &dfw::analysis::eval::Partition| -> Vec<(Rc<AddressSet>, _)> {
            let regions = p.regions.iter();
            regions
                .map(|r| (Rc::clone(&r.sources), r.decision))
                .collect()
        };
        assert_eq!(verdicts(&here), verdicts(&there), "{packet:#?} {end}");
        assert_eq!(here.ports, there.ports);
    }
}

proptest! {
    #[test]
    fn regions_are_what_their_addresses_are(
        policy in meant(),
        host in host(),
        seeds in packets(),
    ) {
        let ruleset = policy.compile(&host, false);
        let edges = Edges::of(&policy, &host);
        for seed in seeds.iter().take(20) {
            agrees(&ruleset, &edges.packet(seed), |packet| Some(meaning(&policy, &host, packet)));
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_never_decided(
        policy in meant(),
        host in host(),
        seeds in packets(),
        at in any::<(Index, Index)>(),
        missing in any::<bool>(),
    ) {
        let mut ruleset = policy.compile(&host, false);
        if missing && !ruleset.sets.is_empty() {
            let name = ruleset.sets.keys().nth(at.0.index(ruleset.sets.len())).cloned();
            ruleset.sets.remove(&name.unwrap());
        } else {
            let place = at.0.index(ruleset.chains.len());
            let chain = ruleset.chains.values_mut().nth(place).unwrap();
            let foreign = Expression::Unknown { name: "foreign".to_owned(), data: Vec::new() };
            chain.rules.insert(at.1.index(chain.rules.len() + 1), Rule::new(vec![foreign], None));
        }
        let edges = Edges::of(&policy, &host);
        for seed in seeds.iter().take(10) {
            agrees(&ruleset, &edges.packet(seed), |_| None);
        }
    }
}
