//! `networks-of`: a client gets in as long as its address is in a network of the interface.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::namespace::Sandbox;

pub(crate) const TRIALS: &[Named] = &[
    ("networks_are_followed", networks_are_followed),
    (
        "without_guard_networks_are_those_of_the_last_apply",
        without_guard_networks_are_those_of_the_last_apply,
    ),
];

const POLICY: &str = "default: deny\nsources: {lan: {networks-of: [eth0, wg0]}}\n\
                      ports: {5353/udp: [lan]}\n";
/// How long an answer may take before the client asks again, or takes the port for closed.
const PATIENCE: Duration = Duration::from_millis(300);

/// The addresses of the host that are in the policy's networks from the beginning.
const HOST: [&str; 2] = ["198.51.100.1:5353", "[2001:db8:5::1]:5353"];
/// Those of the client: in these networks, and in others that are routed to the same link.
const INSIDE: [&str; 2] = ["198.51.100.66:0", "[2001:db8:5::66]:0"];
const OUTSIDE: [&str; 2] = ["192.0.2.66:0", "[2001:db8:7::66]:0"];

/// A host with a service, and a client on its link.
struct Link {
    host: Sandbox,
    client: Sandbox,
    stop: Arc<AtomicBool>,
    services: Vec<JoinHandle<()>>,
}

impl Link {
    fn new() -> Result<Self> {
        let (host, client) = (Sandbox::new()?, Sandbox::new()?);
        host.write("policies/a.yaml", POLICY)?;
        host.namespace().ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            client.namespace().path().display()
        ))?;
        for (sandbox, words) in [
            (&host, &["198.51.100.1/24", "2001:db8:5::1/64 nodad"][..]),
            (
                &client,
                &[
                    "198.51.100.66/24",
                    "2001:db8:5::66/64 nodad",
                    "192.0.2.66/32",
                    "2001:db8:7::66/128 nodad",
                ],
            ),
        ] {
            sandbox.namespace().ip("link set eth0 up")?;
            for word in words {
                let (address, flags) = word.split_once(' ').unwrap_or((word, ""));
                sandbox
                    .namespace()
                    .ip(&format!("addr add {address} dev eth0 {flags}"))?;
            }
        }
        for route in ["192.0.2.66/32", "2001:db8:7::66/128"] {
            host.namespace()
                .ip(&format!("route add {route} dev eth0"))?;
        }
        let stop: Arc<AtomicBool> = Arc::default();
        let mut services = Vec::new();
        for address in HOST {
            let socket = host.namespace().run(|| Ok(UdpSocket::bind(address)?))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let stop = stop.clone();
            services.push(std::thread::spawn(move || answer(&socket, &stop)));
        }
        Ok(Self {
            host,
            client,
            stop,
            services,
        })
    }

    /// Whether the service answers a client at one of its addresses.
    fn is_in(&self, from: &str) -> Result<bool> {
        let from: SocketAddr = from.parse()?;
        let to = HOST.iter().find_map(|to| {
            let to: SocketAddr = to.parse().ok()?;
            (to.is_ipv4() == from.is_ipv4()).then_some(to)
        });
        let to = to.ok_or_else(|| anyhow!("no address for {from}"))?;
        let socket = self.client.namespace().run(|| {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"let me in")?;
        Ok(socket.recv(&mut [0; 16]).is_ok())
    }

    fn until(&self, from: &str, is_in: bool) -> Result<()> {
        let what = if is_in { "in" } else { "out" };
        until(&format!("{from} is {what}"), || {
            (self.is_in(from).ok()? == is_in).then_some(())
        })
    }

    fn ip(&self, words: &str) -> Result<()> {
        self.host.namespace().ip(words).map(drop)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for service in self.services.drain(..) {
            let _ = service.join();
        }
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 16];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

fn networks_are_followed() -> Result<()> {
    let link = Link::new()?;
    let mut guard = Daemon::start(&link.host, &[])?;
    guard.expect_in_force()?;
    for (inside, outside, address, flags) in [
        (INSIDE[0], OUTSIDE[0], "192.0.2.1/24", ""),
        (INSIDE[1], OUTSIDE[1], "2001:db8:7::1/64", "nodad"),
    ] {
        link.until(inside, true)?;
        ensure!(!link.is_in(outside)?, "{outside} is let in");
        link.ip(&format!("addr add {address} dev eth0 {flags}"))?;
        link.until(outside, true)?;
        link.ip(&format!("addr del {address} dev eth0"))?;
        link.until(outside, false)?;
        ensure!(link.is_in(inside)?, "{inside} is lost");
        // An interface that comes and goes.
        link.ip("link add wg0 type veth peer name wg1")?;
        link.ip(&format!("addr add {address} dev wg0 {flags}"))?;
        link.until(outside, true)?;
        link.ip("link del wg0")?;
        link.until(outside, false)?;
        ensure!(link.is_in(inside)?, "{inside} is lost");
    }
    guard.stop()
}

fn without_guard_networks_are_those_of_the_last_apply() -> Result<()> {
    let link = Link::new()?;
    let path = link.host.dir().join("policies");
    let path = path.to_string_lossy();
    let report = link.host.dfw(&["apply", &path])?;
    ensure!(
        report.code == Some(0)
            && report
                .stdout
                .contains("198.51.100.0/24, 2001:db8:5::/64 (networks of eth0, wg0)")
            && report.stderr.contains("without guard, apply again")
            && report.stderr.contains("there is no interface `wg0`"),
        "{report:?}"
    );
    for (inside, outside) in INSIDE.into_iter().zip(OUTSIDE) {
        link.until(inside, true)?;
        ensure!(!link.is_in(outside)?, "{outside} is let in");
    }
    // They are reported even if nothing changes.
    for verb in ["plan", "apply"] {
        let report = link.host.dfw_ok(&["--json", verb, &path])?;
        let report: Value = serde_json::from_str(&report)?;
        let expected = json!([{
            "name": "lan",
            "what": "networks of eth0, wg0",
            "addresses": ["198.51.100.0/24", "2001:db8:5::/64"],
        }]);
        ensure!(
            report["changes"] == json!([]) && report["host_sources"] == expected,
            "{verb}: {report}"
        );
    }
    // Which line has let it in.
    let from = "198.51.100.66";
    let report = link
        .host
        .dfw_ok(&["explain", "--from", from, "--to", "5353/udp"])?;
    ensure!(
        report.contains("lan.ip4") && report.contains("a.yaml:3"),
        "{report}"
    );
    link.ip("addr add 192.0.2.1/24 dev eth0")?;
    ensure!(!link.is_in(OUTSIDE[0])?, "it is followed by nobody");
    let report = link.host.dfw_ok(&["plan", &path])?;
    ensure!(report.contains("192.0.2.0/24"), "{report}");
    link.host.dfw_ok(&["apply", &path])?;
    link.until(OUTSIDE[0], true)?;
    // Without the addresses no source is allowed.
    link.ip("link set eth0 down")?;
    link.ip("addr flush dev eth0")?;
    let report = link.host.dfw(&["apply", &path])?;
    ensure!(
        report.code == Some(0)
            && report
                .stderr
                .contains("`eth0` has no usable address (loopback and link-local do not count)"),
        "{report:?}"
    );
    ensure!(
        report.stdout.contains("nobody (networks of eth0, wg0)"),
        "{report:?}"
    );
    link.ip("link set eth0 up")?;
    link.ip("route add 198.51.100.66/32 dev eth0")?;
    link.ip("addr add 198.51.100.1/32 dev lo")?;
    ensure!(!link.is_in(INSIDE[0])?, "{} is let in", INSIDE[0]);
    Ok(())
}
