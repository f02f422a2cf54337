//! Facts about the host: who holds its sockets, and what is in the bridges of engines.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use dfw::host::docker::Ask;
use dfw::host::holder::Holder;
use dfw::site::{HostFacts, Sockets};

use crate::Named;
use crate::namespace::Sandbox;

pub(crate) const TRIALS: &[Named] = &[
    ("sockets_of_services", sockets),
    ("cards_in_bridges_of_engines", cards),
    ("traces_of_engines", traces),
];

fn find(sandbox: &Sandbox) -> Result<HostFacts> {
    sandbox
        .namespace()
        .run(|| Ok(HostFacts::find(&Ask::default(), Sockets::All)?))
}

/// Each listening socket is reported with its process and the interface that it is bound to; connected sockets are
/// not.
fn sockets() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.namespace().ip("link set lo up")?;
    sandbox.namespace().ip("addr add fe80::7/64 dev lo nodad")?;
    let held = sandbox.namespace().run(|| {
        let any = UdpSocket::bind("0.0.0.0:7000")?;
        // Binding to a link-local address binds to its interface, as with `SO_BINDTODEVICE`.
        let bound = UdpSocket::bind("[fe80::7%1]:7001")?;
        let connected = UdpSocket::bind("127.0.0.1:7002")?;
        connected.connect("127.0.0.1:7000")?;
        let tcp = std::net::TcpListener::bind("[::1]:7003")?;
        Ok((any, bound, connected, tcp))
    })?;
    let site = find(&sandbox)?;
    let mut found: Vec<_> = site.host.listeners.iter().collect();
    found.sort_by_key(|listener| listener.port);
    let report: Vec<_> = found
        .iter()
        .map(|listener| (listener.port, listener.device.as_deref()))
        .collect();
    ensure!(
        report == [(7000, None), (7001, Some("lo")), (7003, None)],
        "{report:?}"
    );
    for listener in found {
        let holder = site.host.holder(listener);
        let own = matches!(holder, Holder::Service(owner) if owner.pid == std::process::id());
        ensure!(own, "{holder:?}");
    }
    drop(held);
    Ok(())
}

fn cards() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let ip = |words: &str| sandbox.namespace().ip(words);
    ip("link add docker0 type bridge")?;
    ip("link add br-0123456789ab type bridge")?;
    for (card, bridge) in [("tunnel", "docker0"), ("uplink", "br-0123456789ab")] {
        ip(&format!(
            "link add {card} type vxlan id 7 dstport 4789 dev lo"
        ))
        .or_else(|_| {
            ip(&format!(
                "link add {card} type vxlan id 8 dstport 4790 dev lo"
            ))
        })?;
        ip(&format!("link set {card} master {bridge}"))?;
    }
    ip("addr add 203.0.113.10/24 dev br-0123456789ab")?;
    ip("link set br-0123456789ab up")?;
    ip("route add default via 203.0.113.1")?;
    let host = find(&sandbox)?.host;
    let names = |bridge: &str| host.cards.get(bridge).cloned().unwrap_or_default();
    ensure!(names("docker0") == ["tunnel"], "{:?}", host.cards);
    ensure!(names("br-0123456789ab") == ["uplink"], "{:?}", host.cards);
    let uplinks: Vec<_> = host.uplink_bridges.iter().map(String::as_str).collect();
    ensure!(uplinks == ["br-0123456789ab"], "{uplinks:?}");
    // The same over IPv6, and without a default route.
    ip("route del default")?;
    ensure!(find(&sandbox)?.host.uplink_bridges.is_empty());
    ip("-6 addr add 2001:db8:1::10/64 dev br-0123456789ab nodad")?;
    ip("-6 route add default via 2001:db8:1::1")?;
    ensure!(find(&sandbox)?.host.uplink_bridges == host.uplink_bridges);
    Ok(())
}

/// An engine's rules are there although no engine answers; those of others are none of its traces.
fn traces() -> Result<()> {
    let sandbox = Sandbox::new()?;
    ensure!(find(&sandbox)?.host.traces_of_engines().is_empty());
    sandbox.nft_load(
        &["-f"],
        "table ip nat {
            chain DOCKER { iifname != \"docker0\" tcp dport 8080 dnat to 172.17.0.2:80; }
            chain PREROUTING { type nat hook prerouting priority -100;
                fib daddr type local jump DOCKER; tcp dport 2222 dnat to 10.0.0.1; }
        }",
    )?;
    let host = find(&sandbox)?.host;
    let traces = host.traces_of_engines();
    ensure!(traces.published.is_empty() && traces.containers.is_empty());
    let first = traces.translations.first().context("no translation")?;
    ensure!(
        traces.translations.len() == 1 && first.chain == "DOCKER" && !first.conditional,
        "{traces:?}"
    );
    Ok(())
}
