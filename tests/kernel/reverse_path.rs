//! `reverse-path-filter` denies packets with an allowed source address on a link that does not lead to it, on each
//! path and in both families; it accepts packets whose replies leave through the same link.

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::Sandbox;
use crate::support::probe::{Outcome, PATIENCE, SILENCE, Transport, ask};
use crate::support::service;
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[(
    "a_forged_source_is_denied_on_the_wrong_link",
    a_forged_source_is_denied_on_the_wrong_link,
)];

const CLIENT: &str = "203.0.113.0/24, '2001:db8:1::/64'";
/// The port of a socket of the host.
const SERVICE: u16 = 8443;
/// An address of the client's network that another host uses as its source address.
const FORGED: [(&str, &str); 2] = [
    ("203.0.113.77", "198.51.100.1"),
    ("2001:db8:1::77", "2001:db8:2::1"),
];

/// Asks published ports and a socket of the host.
fn asked(from: &Sandbox, source: Option<&str>, to: &str) -> Result<Vec<Outcome>> {
    let to = to.parse()?;
    let source = source.map(str::parse).transpose()?;
    let patience = if source.is_some() { SILENCE } else { PATIENCE };
    let ports = [
        (Transport::Tcp, 80),
        (Transport::Udp, 53),
        (Transport::Tcp, SERVICE),
    ];
    ports
        .into_iter()
        .map(|(transport, port)| {
            let to = std::net::SocketAddr::new(to, port);
            from.namespace()
                .run(|| ask(transport, source, to, patience))
        })
        .collect()
}

/// How many packets each of the ports has allowed, and how many it has denied.
fn counted(host: &Sandbox) -> Result<Vec<[u64; 2]>> {
    let installed = host.snapshot()?.installed.context("no table")?;
    let packets = dfw::analysis::traffic::packets(&installed).into_iter();
    let ports = packets.filter(|(port, _)| port != "all others");
    Ok(ports
        .map(|(_, port)| [port.allowed.packets, port.denied.packets])
        .collect())
}

fn a_forged_source_is_denied_on_the_wrong_link() -> Result<()> {
    let world = World::new()?;
    let host = world.host.namespace();
    // The kernel's own filter, which there is for IPv4 only.
    for key in ["all", "eth0", "eth1"] {
        host.sysctl(&format!("net/ipv4/conf/{key}/rp_filter"), "0")?;
    }
    host.run(|| service::spawn(&[&format!("tcp:{SERVICE}")]))?;
    for (address, _) in FORGED {
        let prefix = if address.contains(':') { 128 } else { 32 };
        let stranger = world.stranger.namespace();
        stranger.ip(&format!("address add {address}/{prefix} dev eth0 nodad"))?;
    }
    // In this order: servers repeat replies to clients that they know.
    for is_filtered in [true, false] {
        let policy = format!(
            "default: deny\nsettings: {{reverse-path-filter: {is_filtered}}}\n\
             ports: {{80: [{CLIENT}], 53/udp: [{CLIENT}], {SERVICE}: [{CLIENT}]}}\n"
        );
        let file = world.host.write("filter.yaml", policy)?;
        world.host.dfw_ok(&["apply", &file.to_string_lossy()])?;
        let before = counted(&world.host)?;
        for (address, to) in FORGED {
            // The reply goes to the client's link, whichever host sent the request.
            let outcomes = asked(&world.stranger, Some(address), to)?;
            let is_open = |outcome: &Outcome| *outcome == Outcome::Open;
            ensure!(!outcomes.iter().any(is_open), "{address}: {outcomes:?}");
        }
        let after = counted(&world.host)?;
        let explained = |via: &str| -> Result<String> {
            let from = ["explain", "--from", FORGED[0].0, "--via", via];
            let to = ["--to", "80", "--docker-host", "none"];
            world.host.dfw_ok(&[&from[..], &to[..]].concat())
        };
        let verdict = if is_filtered { "deny: " } else { "allow: " };
        for (via, verdict) in [("eth1", verdict), ("eth0", "allow: ")] {
            let text = explained(via)?;
            ensure!(text.contains(verdict), "{via}: {text}");
        }
        for (before, after) in before.iter().zip(&after) {
            let [allowed, denied] = [0, 1].map(|what| after[what] > before[what]);
            ensure!(
                denied == is_filtered && allowed != is_filtered,
                "filtered: {is_filtered}; {before:?}, then {after:?}"
            );
        }
        ensure!(after.len() == 3, "{after:?}");
        for to in ["203.0.113.1", "2001:db8:1::1"] {
            let outcomes = asked(&world.client, None, to)?;
            let is_open = |outcome: &Outcome| *outcome == Outcome::Open;
            ensure!(outcomes.iter().all(is_open), "{to}: {outcomes:?}");
        }
    }
    Ok(())
}
