//! What only a host with an engine has: clients of a UDP port to which the container sends first, and
//! ports that are published on a loopback address.
//!
//! The world is that of [`traffic`](crate::traffic), and the engine's answer is made up.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use dfw::host::HostView;
use dfw::host::engine::{Container, Endpoint, Engine, Kind, Published};
use dfw::net::Protocol;

use crate::Named;
use crate::namespace::{Sandbox, compiled_for};
use crate::support::command::output;
use crate::support::probe::{Outcome, PATIENCE, Transport, arrives, ask};
use crate::support::service;
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[
    (
        "a_revoked_udp_client_stays_out_when_the_container_sends",
        a_revoked_udp_client_stays_out_when_the_container_sends,
    ),
    (
        "a_container_can_send_to_allowed_udp_clients",
        a_container_can_send_to_allowed_udp_clients,
    ),
    (
        "a_forged_source_cannot_reply_to_a_container_that_sends_first",
        a_forged_source_cannot_reply_to_a_container_that_sends_first,
    ),
    (
        "loopback_over_the_wire_is_denied_without_nat_rules",
        loopback_over_the_wire_is_denied_without_nat_rules,
    ),
];

/// How long to wait for what must not come: some hundred times what it takes.
const QUIET: Duration = Duration::from_millis(400);

/// What an engine does for containers that ask.
const MASQUERADE: &str = "
table ip out {
    chain postrouting {
        type nat hook postrouting priority 100;
        ip saddr 172.17.0.0/16 oifname != docker0 masquerade
    }
}
table ip6 out {
    chain postrouting {
        type nat hook postrouting priority 100;
        ip6 saddr fd00:17::/64 oifname != docker0 masquerade
    }
}
";

const NOBODY: &str = "default: deny\nports: {81/udp: []}\n";
const UNNAMED: &str = "default: deny\n";
const CLIENT: &str = "default: deny\nports: {81/udp: [203.0.113.9, '2001:db8:1::9']}\n";
const OTHERS: &str = "default: allow\nports: {81/udp: [198.51.100.0/24, '2001:db8:2::/64']}\n";
const EXCEPTED: &str =
    "default: deny\nports: {81/udp: {allow: any, except: [203.0.113.9, '2001:db8:1::9']}}\n";
const ELSEWHERE: &str = "default: deny\nports: {81/udp: {allow: any, interface: eth1}}\n";

/// An engine with a container whose port 8081/udp is published as 81/udp, and 8080 on 127.0.0.1.
fn host() -> Result<HostView> {
    let published = |address: &str, protocol, port, container_port| -> Result<_> {
        Ok(Published {
            protocol,
            address: address.parse()?,
            first: port,
            last: port,
            container_port,
        })
    };
    let container = Container {
        id: "c".to_owned(),
        name: "c".to_owned(),
        running: true,
        published: vec![
            published("0.0.0.0", Protocol::Udp, 81, 8081)?,
            published("::", Protocol::Udp, 81, 8081)?,
            published("127.0.0.1", Protocol::Tcp, 9080, 8080)?,
            published("127.0.0.1", Protocol::Udp, 9053, 8053)?,
        ],
        endpoints: vec![Endpoint {
            network: "bridge".to_owned(),
            addresses: vec!["172.17.0.2".parse()?, "fd00:17::2".parse()?],
        }],
        ..Container::default()
    };
    let engine = Engine {
        kind: Kind::Docker,
        version: "20.10.24".to_owned(),
        address: "/run/docker.sock".to_owned(),
        firewall: None,
        process: None,
        networks: Vec::new(),
        containers: vec![container],
        services: Vec::new(),
    };
    Ok(HostView {
        container_bridges: ["docker0".to_owned()].into(),
        engines: vec![engine],
        ..HostView::default()
    })
}

fn apply(world: &World, policy: &str) -> Result<()> {
    world.host.install(&compiled_for(policy, &host()?)?)
}

/// Connection tracking's memory of what was idle for long.
fn forget(world: &World) -> Result<()> {
    output(world.host.namespace().command("conntrack").arg("-F"))?;
    Ok(())
}

/// The two ends of a conversation, of which one is published and neither is connected.
struct Ends {
    server: UdpSocket,
    client: UdpSocket,
    client_address: SocketAddr,
    /// Where the client asks the port that is published.
    published: SocketAddr,
    /// Where the client answers to what the container sends.
    masqueraded: SocketAddr,
}

impl Ends {
    fn open(world: &World, v4: bool) -> Result<Self> {
        let (client, host) = if v4 {
            ("203.0.113.9", "203.0.113.1")
        } else {
            ("2001:db8:1::9", "2001:db8:1::1")
        };
        let server: IpAddr = if v4 { "172.17.0.2" } else { "fd00:17::2" }.parse()?;
        let (client, host): (IpAddr, IpAddr) = (client.parse()?, host.parse()?);
        let bind = |sandbox: &Sandbox, address: IpAddr, port: u16| {
            sandbox
                .namespace()
                .run(|| Ok(UdpSocket::bind((address, port))?))
        };
        Ok(Self {
            server: bind(&world.containers[0], server, 8081)?,
            client: bind(&world.client, client, 7000)?,
            client_address: (client, 7000).into(),
            published: (host, 81).into(),
            masqueraded: (host, 8081).into(),
        })
    }

    /// Whether what the container sends comes to the client.
    fn speaks(&self, patience: Duration) -> Result<bool> {
        arrives(&self.server, self.client_address, &self.client, patience)
    }

    /// Whether what the client sends there comes to the container.
    fn asks(&self, to: SocketAddr, patience: Duration) -> Result<bool> {
        arrives(&self.client, to, &self.server, patience)
    }

    /// No packet reaches the other end, in either direction.
    fn is_cut(&self) -> Result<()> {
        for round in 0..2 {
            ensure!(!self.speaks(QUIET)?, "the client is spoken to ({round})");
            for to in [self.masqueraded, self.published] {
                ensure!(
                    !self.asks(to, QUIET)?,
                    "the client is back by {to} ({round})"
                );
            }
        }
        Ok(())
    }
}

fn each_family(test: impl Fn(&World, &Ends) -> Result<()> + Sync) -> Result<()> {
    let in_family = |v4: bool| -> Result<()> {
        let world = World::new()?;
        world.host.nft_load(&["-f"], MASQUERADE)?;
        test(&world, &Ends::open(&world, v4)?)
    };
    std::thread::scope(|scope| {
        let six = scope.spawn(|| in_family(false));
        in_family(true).context("IPv4")?;
        let six = six.join().map_err(|_| anyhow!("a panic"))?;
        six.context("IPv6")
    })
}

fn a_revoked_udp_client_stays_out_when_the_container_sends() -> Result<()> {
    each_family(|world, ends| {
        // Without dfw a packet of the container lets its destination reply.
        world.host.dfw_ok(&["remove"])?;
        forget(world)?;
        ensure!(ends.speaks(PATIENCE)?, "nothing comes out without dfw");
        ensure!(
            ends.asks(ends.masqueraded, PATIENCE)?,
            "nothing comes back without dfw"
        );
        for policy in [NOBODY, UNNAMED, OTHERS, EXCEPTED, ELSEWHERE] {
            let context = || format!("with {policy}");
            apply(world, CLIENT)?;
            forget(world)?;
            ensure!(ends.asks(ends.published, PATIENCE)?, "the client may");
            ensure!(ends.speaks(PATIENCE)?, "and is answered");
            // After a long pause the container sends first.
            apply(world, policy)?;
            forget(world)?;
            ends.is_cut().with_context(context)?;
            // The container spoke first before the client was revoked.
            apply(world, CLIENT)?;
            forget(world)?;
            ensure!(ends.speaks(PATIENCE)?, "the client may be spoken to");
            ensure!(ends.asks(ends.masqueraded, PATIENCE)?, "and may answer");
            apply(world, policy)?;
            for to in [ends.masqueraded, ends.published] {
                ensure!(!ends.asks(to, QUIET)?, "it goes on by {to}: {policy}");
            }
            ends.is_cut().with_context(context)?;
            asks_from_another_port(world, ends.published.ip()).with_context(context)?;
        }
        Ok(())
    })
}

/// The container sends first to a client, and another host replies with the client's address on another link.
fn a_forged_source_cannot_reply_to_a_container_that_sends_first() -> Result<()> {
    each_family(|world, ends| {
        let address = ends.client_address.ip();
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let stranger = world.stranger.namespace();
        stranger.ip(&format!("address add {address}/{prefix} dev eth0 nodad"))?;
        for key in ["all", "eth0", "eth1"] {
            let key = format!("net/ipv4/conf/{key}/rp_filter");
            world.host.namespace().sysctl(&key, "0")?;
        }
        let forged = stranger.run(|| Ok(UdpSocket::bind(ends.client_address)?))?;
        for is_filtered in [false, true] {
            let settings = format!("settings: {{reverse-path-filter: {is_filtered}}}\n");
            apply(world, &format!("{CLIENT}{settings}"))?;
            forget(world)?;
            ensure!(ends.speaks(PATIENCE)?, "the client may be spoken to");
            let patience = if is_filtered { QUIET } else { PATIENCE };
            let came = arrives(&forged, ends.masqueraded, &ends.server, patience)?;
            ensure!(came != is_filtered, "filtered: {is_filtered}, came: {came}");
            ensure!(
                ends.asks(ends.masqueraded, PATIENCE)?,
                "the client may answer"
            );
        }
        Ok(())
    })
}

/// What containers ask for is theirs: from another port of the same container, and from the same port of
/// a container that publishes nothing.
fn asks_from_another_port(world: &World, host: IpAddr) -> Result<()> {
    let [publishes, other, ..] = &world.containers;
    for (container, port) in [(publishes, 8082), (other, 8081)] {
        let to = if host.is_ipv4() {
            "203.0.113.9:7001"
        } else {
            "[2001:db8:1::9]:7001"
        };
        let to: SocketAddr = to.parse()?;
        let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse()?;
        let (asker, server) = (
            container
                .namespace()
                .run(|| Ok(UdpSocket::bind((any, port))?))?,
            world
                .client
                .namespace()
                .run(|| Ok(UdpSocket::bind((any, 7001))?))?,
        );
        ensure!(
            arrives(&asker, to, &server, PATIENCE)?,
            "a question from {port} is lost"
        );
        let (_, from) = {
            asker.send_to(b"word", to)?;
            server.recv_from(&mut [0; 16])?
        };
        ensure!(
            arrives(&server, from, &asker, PATIENCE)?,
            "the answer to {port} is lost"
        );
    }
    Ok(())
}

fn a_container_can_send_to_allowed_udp_clients() -> Result<()> {
    const OPEN: &str = "default: deny\nports: {81/udp: any}\n";
    const UNNAMED_OPEN: &str = "default: allow\n";
    const THROUGH: &str = "default: deny\nports: {81/udp: {allow: any, interface: [eth0, wg0]}}\n";
    each_family(|world, ends| {
        for policy in [CLIENT, OPEN, UNNAMED_OPEN, THROUGH] {
            apply(world, policy)?;
            forget(world)?;
            ensure!(ends.speaks(PATIENCE)?, "not spoken to: {policy}");
            ensure!(ends.asks(ends.masqueraded, PATIENCE)?, "no reply: {policy}");
            forget(world)?;
            ensure!(ends.asks(ends.published, PATIENCE)?, "not asked: {policy}");
            ensure!(ends.speaks(PATIENCE)?, "not answered: {policy}");
        }
        Ok(())
    })
}

/// docker-proxy's sockets, where `route_localnet` is on and nothing rewrites a destination.
fn loopback_over_the_wire_is_denied_without_nat_rules() -> Result<()> {
    let world = World::new()?;
    let host = world.host.namespace();
    host.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    host.run(|| service::spawn(&["tcp:9080", "tcp:9081"]))?;
    let proxy = host.run(|| Ok(UdpSocket::bind("127.0.0.1:9053")?))?;
    let [container, ..] = &world.containers;
    for (sandbox, gateway) in [(&world.client, "203.0.113.1"), (container, "172.17.0.1")] {
        let from = sandbox.namespace();
        from.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
        from.ip("address delete 127.0.0.1/8 dev lo")?;
        from.ip(&format!("route add 127.0.0.1/32 via {gateway} dev eth0"))?;
    }
    let expect = |sandbox: &Sandbox, port: u16, open: bool| -> Result<()> {
        let patience = if open { PATIENCE } else { QUIET };
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let is_open = sandbox.namespace().run(|| {
            if port == 9053 {
                return arrives(&UdpSocket::bind("0.0.0.0:0")?, to, &proxy, patience);
            }
            let outcome = ask(Transport::Tcp, None, to, patience)?;
            Ok(outcome == Outcome::Open)
        })?;
        ensure!(is_open == open, "{port} must be open: {open}");
        Ok(())
    };
    let all = |open: bool| -> Result<()> {
        for port in [9080, 9053] {
            expect(&world.client, port, open).context("from the wire")?;
            expect(container, port, open).context("from a container")?;
            expect(&world.host, port, true).context("from the host")?;
        }
        // A service of the host is not dfw's matter.
        expect(&world.client, 9081, true)
    };
    all(true).context("without dfw")?;
    for policy in ["default: deny\n", "default: allow\n"] {
        apply(&world, policy)?;
        all(false).with_context(|| format!("with {policy}"))?;
    }
    world.host.dfw_ok(&["remove"])?;
    all(true).context("after dfw")
}
