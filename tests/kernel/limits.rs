//! `rate` and `connections` with real packets: on each path, in both families, and while a set is full.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use dfw::ruleset::ADDED;
use serde_json::Value;

use crate::Named;
use crate::namespace::Sandbox;
use crate::support::probe::{Conversation, Outcome, PATIENCE, SILENCE, Transport, ask};
use crate::support::service;
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_connection_beyond_the_rate_is_denied",
        a_connection_beyond_the_rate_is_denied,
    ),
    (
        "a_closed_connection_makes_room_for_another",
        a_closed_connection_makes_room_for_another,
    ),
    (
        "addresses_of_one_network_share_a_limit",
        addresses_of_one_network_share_a_limit,
    ),
    (
        "a_source_without_a_place_is_not_limited",
        a_source_without_a_place_is_not_limited,
    ),
    (
        "sources_stay_counted_until_a_limit_changes",
        sources_stay_counted_until_a_limit_changes,
    ),
];

/// A published port, a socket of the host, and a container's own port, each in both families.
const PATHS: [(Transport, &str); 8] = [
    (Transport::Tcp, "203.0.113.1:80"),
    (Transport::Tcp, "[2001:db8:1::1]:80"),
    (Transport::Udp, "203.0.113.1:53"),
    (Transport::Udp, "[2001:db8:1::1]:53"),
    (Transport::Tcp, "203.0.113.1:81"),
    (Transport::Tcp, "[2001:db8:1::1]:81"),
    (Transport::Tcp, "172.17.0.2:8080"),
    (Transport::Tcp, "[fd00:17::2]:8080"),
];

/// Returns a policy with one line for each port of [`PATHS`].
fn policy(line: &str) -> String {
    let mut text = "default: allow\nports:\n".to_owned();
    for port in ["80", "53/udp", "81", "8080"] {
        let _ = writeln!(text, "  {port}: {{{line}}}");
    }
    text
}

fn world() -> Result<World> {
    let world = World::new()?;
    world.host.namespace().run(|| service::spawn(&["tcp:81"]))?;
    Ok(world)
}

fn apply(host: &Sandbox, policy: &str) -> Result<()> {
    let policy = host.write("web.yaml", policy)?;
    host.dfw_ok(&["apply", &policy.to_string_lossy()])?;
    Ok(())
}

fn open(from: &Sandbox, transport: Transport, to: &str) -> Result<Conversation> {
    let to: SocketAddr = to.parse()?;
    from.namespace()
        .run(|| Conversation::open(transport, None, to))
        .with_context(|| format!("to {to}"))
}

fn ensure_closed(from: &Sandbox, transport: Transport, to: &str) -> Result<()> {
    let to: SocketAddr = to.parse()?;
    let outcome = from.namespace().run(|| ask(transport, None, to, SILENCE))?;
    ensure!(outcome.is_closed(), "{to} is {outcome}");
    Ok(())
}

fn status(host: &Sandbox) -> Result<Value> {
    Ok(serde_json::from_str(&host.dfw_ok(&["status", "--json"])?)?)
}

/// Returns the value of a member of the limits of a port, over both families.
fn sum(status: &Value, port: &str, limit: &str, member: &str) -> u64 {
    let limits = status["installed"]["limits"]
        .as_array()
        .into_iter()
        .flatten();
    let own = limits.filter(|of| of["port"] == port && of["limit"] == limit);
    own.filter_map(|of| of[member].as_u64()).sum()
}

fn has_no_drift(status: &Value) -> bool {
    status["installed"]["drift"] == serde_json::json!([])
}

fn denied(status: &Value, port: &str) -> u64 {
    let ports = status["installed"]["ports"]
        .as_array()
        .into_iter()
        .flatten();
    let own = ports.filter(|of| of["port"] == port);
    own.filter_map(|of| of["denied"]["packets"].as_u64()).sum()
}

fn a_connection_beyond_the_rate_is_denied() -> Result<()> {
    let world = world()?;
    apply(&world.host, &policy("allow: any, rate: 3/hour"))?;
    std::thread::scope(|scope| {
        let all: Vec<_> = PATHS
            .iter()
            .map(|(transport, to)| {
                let world = &world;
                scope.spawn(move || -> Result<()> {
                    let mut first = open(&world.client, *transport, to)?;
                    // What is established counts for nothing.
                    for _ in 0..9 {
                        ensure!(first.echoes(PATIENCE)?, "{to} fell silent");
                    }
                    for _ in 0..2 {
                        open(&world.client, *transport, to)?;
                    }
                    ensure_closed(&world.client, *transport, to)?;
                    ensure!(first.echoes(PATIENCE)?, "{to} is cut");
                    Ok(())
                })
            })
            .collect();
        all.into_iter()
            .try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a panic"))?)
    })?;
    // Each source has its own.
    open(&world.stranger, Transport::Tcp, "198.51.100.1:80")?;
    let status = status(&world.host)?;
    for (port, sources) in [("80/tcp", 3), ("53/udp", 2), ("81/tcp", 2), ("8080/tcp", 2)] {
        let found = sum(&status, port, "rate", "sources");
        ensure!(found == sources, "{port} holds {found} sources: {status}");
        ensure!(denied(&status, port) > 0, "{port} has denied nothing");
        ensure!(sum(&status, port, "rate", "unlimited") == 0, "{status}");
    }
    Ok(())
}

fn a_closed_connection_makes_room_for_another() -> Result<()> {
    let world = world()?;
    apply(
        &world.host,
        &policy("allow: any, connections: 2, deny-with: reject"),
    )?;
    let tcp = PATHS
        .iter()
        .filter(|(transport, _)| *transport == Transport::Tcp);
    std::thread::scope(|scope| {
        let all: Vec<_> = tcp
            .map(|(transport, to)| {
                let world = &world;
                scope.spawn(move || -> Result<()> {
                    let mut first = open(&world.client, *transport, to)?;
                    let second = open(&world.client, *transport, to)?;
                    ensure_closed(&world.client, *transport, to)?;
                    ensure!(first.echoes(PATIENCE)?, "{to} is cut");
                    drop(second);
                    let third = until_open(&world.client, to)?;
                    ensure_closed(&world.client, *transport, to)?;
                    ensure!(first.echoes(PATIENCE)?, "{to} is cut");
                    drop((first, third));
                    Ok(())
                })
            })
            .collect();
        all.into_iter()
            .try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a panic"))?)
    })?;
    // Who has no connection any more takes no place.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(&world.host)?;
        let ports = ["80/tcp", "81/tcp", "8080/tcp"];
        let held: u64 = ports
            .iter()
            .map(|port| sum(&status, port, "connections", "sources"))
            .sum();
        if held == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{held} sources stay: {status}");
    }
}

/// Opens a connection as soon as the kernel takes it.
fn until_open(from: &Sandbox, to: &str) -> Result<Conversation> {
    let deadline = Instant::now() + PATIENCE;
    let address: SocketAddr = to.parse()?;
    while Instant::now() < deadline {
        let opened = from
            .namespace()
            .run(|| Conversation::open(Transport::Tcp, None, address));
        if opened.is_ok() {
            return opened;
        }
    }
    bail!("{to} stays closed")
}

fn addresses_of_one_network_share_a_limit() -> Result<()> {
    let world = world()?;
    apply(&world.host, &policy("allow: any, rate: 2/hour"))?;
    let client = world.client.namespace();
    client.ip("addr add 2001:db8:1::a/128 dev eth0 nodad")?;
    client.ip("addr add 2001:db8:7:1::9/128 dev eth0 nodad")?;
    client.ip("addr add 203.0.113.10/32 dev eth0")?;
    let host = world.host.namespace();
    host.ip("-6 route add 2001:db8:7:1::/64 via 2001:db8:1::9")?;
    let ask = |from: &str, to: &str, patience| -> Result<Outcome> {
        let (from, to): (IpAddr, SocketAddr) = (from.parse()?, to.parse()?);
        client.run(|| ask(Transport::Tcp, Some(from), to, patience))
    };
    for (from, to, open) in [
        ("2001:db8:1::9", "[2001:db8:1::1]:80", true),
        ("2001:db8:1::a", "[2001:db8:1::1]:80", true),
        ("2001:db8:1::9", "[2001:db8:1::1]:80", false),
        ("2001:db8:1::a", "[2001:db8:1::1]:80", false),
        ("2001:db8:7:1::9", "[2001:db8:1::1]:80", true),
        ("203.0.113.9", "203.0.113.1:80", true),
        ("203.0.113.9", "203.0.113.1:80", true),
        ("203.0.113.9", "203.0.113.1:80", false),
        ("203.0.113.10", "203.0.113.1:80", true),
    ] {
        let outcome = ask(from, to, if open { PATIENCE } else { SILENCE })?;
        ensure!(
            open == (outcome == Outcome::Open),
            "{from} to {to}: {outcome}"
        );
    }
    Ok(())
}

fn a_source_without_a_place_is_not_limited() -> Result<()> {
    let world = world()?;
    let host = &world.host;
    apply(host, &policy("allow: any, rate: 1/hour, connections: 1"))?;
    for limit in ["rate", "connections"] {
        let addresses: Vec<String> = (0..ADDED)
            .map(|n| IpAddr::V4((0x0a00_0000 + n).into()).to_string())
            .collect();
        let set = format!("inet dfw-nft port-80-tcp.{limit}.ip4");
        host.nft_load(
            &["-f"],
            &format!("add element {set} {{ {} }}", addresses.join(", ")),
        )?;
    }
    let to = "203.0.113.1:80";
    let all = [
        open(&world.client, Transport::Tcp, to)?,
        open(&world.client, Transport::Tcp, to)?,
        open(&world.client, Transport::Tcp, to)?,
    ];
    let now = status(host)?;
    for limit in ["rate", "connections"] {
        ensure!(sum(&now, "80/tcp", limit, "unlimited") == 3, "{now}");
        ensure!(
            sum(&now, "80/tcp", limit, "sources") == u64::from(ADDED),
            "{now}"
        );
    }
    let text = host.dfw_ok(&["status"])?;
    ensure!(text.contains("other sources are not limited"), "{text}");
    // None of that is drift.
    ensure!(has_no_drift(&now), "{now}");
    // Of the other family there is room.
    open(&world.client, Transport::Tcp, "[2001:db8:1::1]:80")?;
    ensure_closed(&world.client, Transport::Tcp, "[2001:db8:1::1]:80")?;
    drop(all);
    for limit in ["rate", "connections"] {
        host.nft(&format!("flush set inet dfw-nft port-80-tcp.{limit}.ip4"))?;
    }
    until_open(&world.client, to)?;
    ensure_closed(&world.client, Transport::Tcp, to)
}

fn sources_stay_counted_until_a_limit_changes() -> Result<()> {
    let world = world()?;
    let host = &world.host;
    let to = "203.0.113.1:80";
    apply(host, &policy("allow: any, rate: 1/hour"))?;
    open(&world.client, Transport::Tcp, to)?;
    ensure_closed(&world.client, Transport::Tcp, to)?;
    // What changes elsewhere, or nowhere, forgets nobody.
    let more = policy("allow: any, rate: 1/hour") + "  9: []\n";
    for policy in [&policy("allow: any, rate: 1/hour"), &more] {
        apply(host, policy)?;
        ensure_closed(&world.client, Transport::Tcp, to)?;
        ensure!(has_no_drift(&status(host)?), "drift");
    }
    let plan = host.dfw_ok(&["plan", &host.dir().join("web.yaml").to_string_lossy()])?;
    ensure!(plan.contains("no changes"), "{plan}");
    // A new limit begins anew.
    let other = policy("allow: any, rate: 2/hour");
    host.write("web.yaml", &other)?;
    let plan = host.dfw_ok(&["plan", &host.dir().join("web.yaml").to_string_lossy()])?;
    ensure!(plan.contains("up to 2/hour per source"), "{plan}");
    apply(host, &other)?;
    open(&world.client, Transport::Tcp, to)?;
    open(&world.client, Transport::Tcp, to)?;
    ensure_closed(&world.client, Transport::Tcp, to)?;
    // Without one nothing is left of it.
    apply(host, &policy("allow: any"))?;
    open(&world.client, Transport::Tcp, to)?;
    let listing = host.listing()?;
    ensure!(
        !listing.contains("limit-") && !listing.contains(".rate."),
        "{listing}"
    );
    Ok(())
}
