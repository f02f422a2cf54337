//! `only:` is true exactly where no packet of another address is accepted by what the policy means.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use dfw::analysis::eval::{Decision, Packet};
use dfw::analysis::path::{Kind, Path};
use dfw::analysis::test::{self, BRIDGE};
use dfw::host::HostView;
use dfw::net::{AddressSet, Family, HostPorts, Protocol};
use dfw::policy::{Claim, SourceSelection, Statement, Target};
use dfw::ruleset::Origin;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::property::property;
use crate::reference::random::{Edges, INTERFACES, meant};
use crate::reference::{Meant, meaning};

const POLICIES: u32 = 300;
/// Returns the packets from an address to a port, as clients of any host have them.
fn packets(
    keys: &[HostPorts],
    interfaces: &[&str],
    source: IpAddr,
    port: HostPorts,
    asked: IpAddr,
) -> Vec<Packet> {
    let container = match asked {
        IpAddr::V4(_) => Ipv4Addr::new(172, 17, 0, 3).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3).into(),
    };
    let to = |kind| Path::to_socket(kind, port.protocol, asked, port.first);
    let published = to(Kind::Dnat).to(container, port.first, Some(BRIDGE.to_owned()));
    let asks = HostPorts {
        address: Some(asked),
        ..port
    };
    let socket = keys.iter().any(|key| key.covers(&asks));
    let socket = socket.then(|| to(Kind::Service));
    let paths = [Some(published), socket].into_iter().flatten();
    let packets_on = |path: Path| {
        let packet = |incoming: &&str| path.packet(source, incoming, asked);
        interfaces.iter().map(packet).collect::<Vec<_>>()
    };
    paths.flat_map(packets_on).collect()
}

fn nobody_else(policy: &Meant, seeds: &[Index; 3]) -> Result<()> {
    let host = HostView {
        container_bridges: BTreeSet::from([BRIDGE.to_owned()]),
        ..HostView::default()
    };
    let edges = Edges::of(policy, &host);
    let sources: Vec<IpAddr> = edges.addresses().collect();
    let ports: Vec<u16> = edges.ports().filter(|port| *port > 0).collect();
    let port = HostPorts::one(None, *seeds[0].get(&Protocol::ALL), *seeds[1].get(&ports));
    let mut read = policy.policy(false);
    // Those that the key lists itself, without one of them now and then.
    let keys = read.ports.iter().filter(|(key, _)| key.covers(&port));
    let mut listed: Vec<_> = keys
        .flat_map(|(_, port)| port.allow.inline.iter())
        .collect();
    let named = read
        .sources
        .values()
        .flat_map(|source| source.addresses.iter());
    listed.extend(named);
    if let Some(place) = listed.len().checked_sub(1) {
        let place = seeds[2].index(place + 2);
        if place < listed.len() {
            listed.remove(place);
        }
    }
    let only = AddressSet::from_entries(listed);
    let origin = read.default_origin.clone();
    read.tests = vec![Statement {
        claim: Claim::Only(SourceSelection {
            inline: only.clone(),
            ..SourceSelection::default()
        }),
        to: Target::Ports(port),
        origin,
    }];
    let report = test::run(&read, &|_| Origin {
        file: "a.yaml".to_owned(),
        line: 1,
    });
    let keys: Vec<HostPorts> = read.ports.keys().copied().collect();
    // One that no policy names is among them.
    let interfaces = INTERFACES.into_iter().chain(["ppp7"]);
    let outside: Vec<&str> = interfaces
        .filter(|name| *name != "lo" && !policy.knows_container(&host, name))
        .collect();
    let accepts = |source: IpAddr, port: HostPorts, asked: IpAddr| {
        let packets = packets(&keys, &outside, source, port, asked);
        let mut decisions = packets.iter().map(|packet| meaning(policy, &host, packet));
        decisions.any(|decision| decision == Decision::Accept)
    };
    let ordinary = |family| match family {
        Family::V4 => IpAddr::from([203, 0, 113, 10]),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10).into(),
    };
    if let Some(failed) = report.failed.first() {
        let source = failed.source.context("a container is not part of it")?;
        ensure!(!only.contains(source), "{source} is listed");
        let asked = failed.path.address;
        ensure!(
            accepts(source, failed.port, asked),
            "{source} is not accepted: {failed:#?}"
        );
        return Ok(());
    }
    let addresses = read.ports.keys().filter_map(|key| key.address);
    let asked: BTreeSet<IpAddr> = addresses.chain(Family::ALL.map(ordinary)).collect();
    for source in sources.into_iter().filter(|source| !only.contains(*source)) {
        for asked in asked
            .iter()
            .filter(|asked| asked.is_ipv4() == source.is_ipv4())
        {
            ensure!(
                !accepts(source, port, *asked),
                "{source} reaches {port} at {asked}"
            );
        }
    }
    Ok(())
}

#[test]
fn only_agrees_with_the_reference() {
    let seeds = any::<[Index; 3]>();
    property(POLICIES, &(meant(), seeds), |(mut policy, seeds)| {
        // What root grants for a time is no part of a policy.
        policy.grants.clear();
        nobody_else(&policy, &seeds)
    })
    .unwrap();
}
