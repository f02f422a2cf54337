//! Who reaches a published port, with the rules that Docker would write and without any engine.
//!
//! ```text
//!  client   203.0.113.9   ── eth0 ┐        ┌ docker0          172.17.0.1 ── 172.17.0.2, .3
//!  stranger 198.51.100.66 ── eth1 ┴ [host] ┴ br-0123456789ab  172.18.0.1 ── 172.18.0.2, .3
//! ```
//!
//! The second bridge is made after the policy is applied, so dfw knows no more of it than its name.
//! Client and stranger both have routes to the containers, and the host's own way to everywhere
//! leads through the stranger's interface.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::Sandbox;
use crate::support::probe::{Outcome, PATIENCE, SILENCE, Transport, ask};
use crate::support::service;

pub(crate) const TRIALS: &[Named] = &[
    ("only_the_client_gets_in", only_the_client_gets_in),
    (
        "containers_of_one_bridge_talk",
        containers_of_one_bridge_talk,
    ),
    (
        "errors_about_connections_pass",
        errors_about_connections_pass,
    ),
];

const POLICY: &str = "
default: deny
ports:
  80: [203.0.113.0/24, '2001:db8:1::/64']
  53/udp: [203.0.113.0/24, '2001:db8:1::/64']
  81/udp: [203.0.113.0/24, '2001:db8:1::/64']
";

/// What Docker does to a published port, in both families.
const PUBLISH: &str = "
table ip docker {
    chain prerouting {
        type nat hook prerouting priority -100;
        fib daddr type local tcp dport 80 dnat to 172.17.0.2:8080
        fib daddr type local udp dport 53 dnat to 172.17.0.2:8053
        fib daddr type local udp dport 81 dnat to 172.17.0.2:8081
    }
}
table ip6 docker {
    chain prerouting {
        type nat hook prerouting priority -100;
        fib daddr type local tcp dport 80 dnat to [fd00:17::2]:8080
        fib daddr type local udp dport 53 dnat to [fd00:17::2]:8053
        fib daddr type local udp dport 81 dnat to [fd00:17::2]:8081
    }
}
";

/// What of the second bridge's own packets comes through the forward hook.
const WITNESS: &str = "
table inet witness {
    chain forward {
        type filter hook forward priority 100;
        iifname br-0123456789ab oifname br-0123456789ab ip daddr 172.18.0.3 counter
        iifname br-0123456789ab oifname br-0123456789ab ip6 daddr fd00:18::3 counter
    }
}
";

pub(crate) struct World {
    pub(crate) host: Sandbox,
    pub(crate) client: Sandbox,
    pub(crate) stranger: Sandbox,
    /// Two of the known bridge, and two of the new one.
    pub(crate) containers: [Sandbox; 4],
}

impl World {
    /// Everything but dfw's rules.
    pub(crate) fn new() -> Result<Self> {
        let places = || -> Result<_> {
            Ok([
                Sandbox::new()?,
                Sandbox::new()?,
                Sandbox::new()?,
                Sandbox::new()?,
            ])
        };
        let world = Self {
            host: Sandbox::new()?,
            client: Sandbox::new()?,
            stranger: Sandbox::new()?,
            containers: places()?,
        };
        let host = world.host.namespace();
        host.sysctl("net/ipv4/ip_forward", "1")?;
        host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        world.wire(
            &world.client,
            "eth0",
            "203.0.113.1/24",
            "203.0.113.9/24",
            "2001:db8:1::",
        )?;
        world.wire(
            &world.stranger,
            "eth1",
            "198.51.100.1/24",
            "198.51.100.66/24",
            "2001:db8:2::",
        )?;
        host.ip("route add default via 198.51.100.66")?;
        host.ip("-6 route add default via 2001:db8:2::9")?;
        world.bridge("docker0", 17, &world.containers[..2])?;
        world.host.nft_load(&["-f"], PUBLISH)?;
        for container in &world.containers {
            container
                .namespace()
                .run(|| service::spawn(&["tcp:8080", "udp:8053"]))?;
        }
        Ok(world)
    }

    /// Connects a machine with an interface of the host.
    fn wire(
        &self,
        sandbox: &Sandbox,
        name: &str,
        host4: &str,
        own4: &str,
        net6: &str,
    ) -> Result<()> {
        let (host, other) = (self.host.namespace(), sandbox.namespace());
        host.ip(&format!(
            "link add {name} type veth peer name eth0 netns {}",
            other.path().display()
        ))?;
        host.ip(&format!("addr add {host4} dev {name}"))?;
        host.ip(&format!("addr add {net6}1/64 dev {name} nodad"))?;
        host.ip(&format!("link set {name} up"))?;
        other.ip(&format!("addr add {own4} dev eth0"))?;
        other.ip(&format!("addr add {net6}9/64 dev eth0 nodad"))?;
        other.ip("link set eth0 up")?;
        let gateway = host4.trim_end_matches("/24");
        other.ip(&format!("route add default via {gateway}"))?;
        other.ip(&format!("-6 route add default via {net6}1"))?;
        Ok(())
    }

    /// A bridge with containers, the addresses of which have `net` in the middle.
    fn bridge(&self, name: &str, net: u8, containers: &[Sandbox]) -> Result<()> {
        let host = self.host.namespace();
        host.ip(&format!("link add {name} type bridge"))?;
        host.ip(&format!("addr add 172.{net}.0.1/16 dev {name}"))?;
        host.ip(&format!("addr add fd00:{net}::1/64 dev {name} nodad"))?;
        host.ip(&format!("link set {name} up"))?;
        for (container, number) in containers.iter().zip(2..) {
            let inside = container.namespace();
            let port = format!("veth{net}{number}");
            host.ip(&format!(
                "link add {port} type veth peer name eth0 netns {}",
                inside.path().display()
            ))?;
            host.ip(&format!("link set {port} master {name} up"))?;
            inside.ip(&format!("addr add 172.{net}.0.{number}/16 dev eth0"))?;
            inside.ip(&format!("addr add fd00:{net}::{number}/64 dev eth0 nodad"))?;
            inside.ip("link set eth0 up")?;
            inside.ip(&format!("route add default via 172.{net}.0.1"))?;
            inside.ip(&format!("-6 route add default via fd00:{net}::1"))?;
        }
        Ok(())
    }

    fn new_bridge(&self) -> Result<()> {
        self.bridge("br-0123456789ab", 18, &self.containers[2..])
    }

    fn apply(&self) -> Result<()> {
        let policy = self.host.write("web.yaml", POLICY)?;
        self.host.dfw_ok(&["apply", &policy.to_string_lossy()])?;
        Ok(())
    }
}

/// One question: from where, to which address, and whether there is an answer.
struct Question<'a> {
    from: &'a Sandbox,
    to: &'static str,
    transport: Transport,
    open: bool,
}

fn question<'a>(from: &'a Sandbox, to: &'static str, open: bool) -> Question<'a> {
    let udp = to.ends_with("53");
    let transport = if udp { Transport::Udp } else { Transport::Tcp };
    Question {
        from,
        to,
        transport,
        open,
    }
}

/// Asks all at once, as silence takes its time.
fn ask_all(questions: &[Question<'_>]) -> Result<()> {
    let answer = |question: &Question<'_>| -> Result<()> {
        let to: SocketAddr = question.to.parse()?;
        let patience = if question.open { PATIENCE } else { SILENCE };
        let outcome = question
            .from
            .namespace()
            .run(|| ask(question.transport, None, to, patience))?;
        let fine = if question.open {
            outcome == Outcome::Open
        } else {
            outcome.is_closed()
        };
        ensure!(
            fine,
            "{outcome}, which must be {}",
            if question.open { "open" } else { "closed" }
        );
        Ok(())
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = questions
            .iter()
            .map(|question| (question, scope.spawn(|| answer(question))))
            .collect();
        let mut wrong = Vec::new();
        for (question, asked) in asked {
            match asked.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrong.push(format!("{}: {error:#}", question.to)),
                Err(_) => wrong.push(format!("{}: a panic", question.to)),
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

const PUBLISHED_TO_CLIENT: [&str; 4] = [
    "203.0.113.1:80",
    "[2001:db8:1::1]:80",
    "203.0.113.1:53",
    "[2001:db8:1::1]:53",
];
const PUBLISHED_TO_STRANGER: [&str; 4] = [
    "198.51.100.1:80",
    "[2001:db8:2::1]:80",
    "198.51.100.1:53",
    "[2001:db8:2::1]:53",
];
const DIRECT: [&str; 4] = [
    "172.17.0.2:8080",
    "[fd00:17::2]:8080",
    "172.17.0.3:8053",
    "[fd00:17::3]:8053",
];
const DIRECT_TO_NEW: [&str; 4] = [
    "172.18.0.2:8080",
    "[fd00:18::2]:8080",
    "172.18.0.3:8053",
    "[fd00:18::3]:8053",
];

fn only_the_client_gets_in() -> Result<()> {
    let world = World::new()?;
    let matrix = |client: bool, others: bool| {
        let mut questions = Vec::new();
        for (from, to, open) in [
            (&world.client, PUBLISHED_TO_CLIENT, client),
            (&world.stranger, PUBLISHED_TO_STRANGER, others),
            (&world.client, DIRECT, others),
            (&world.stranger, DIRECT, others),
            (&world.client, DIRECT_TO_NEW, others),
            (&world.stranger, DIRECT_TO_NEW, others),
        ] {
            questions.extend(to.map(|to| question(from, to, open)));
        }
        ask_all(&questions)
    };
    world.apply()?;
    world.new_bridge()?;
    matrix(true, false).context("with dfw")?;
    // Without it every way is open, so it was dfw that closed them.
    world.host.dfw_ok(&["remove"])?;
    matrix(true, true).context("without dfw")?;
    world.apply()?;
    matrix(true, false).context("with dfw, which knows the new bridge by now")
}

/// `bridge-nf-call-iptables` sends what a bridge passes on through the forward hook, too.
fn containers_of_one_bridge_talk() -> Result<()> {
    let world = World::new()?;
    world.apply()?;
    world.new_bridge()?;
    let host = world.host.namespace();
    for key in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        host.sysctl(&format!("net/bridge/{key}"), "1")?;
    }
    world.host.nft_load(&["-f"], WITNESS)?;
    let [known, _, new, _] = &world.containers;
    ask_all(&[
        question(known, "172.17.0.3:8080", true),
        question(known, "[fd00:17::3]:8080", true),
        question(new, "172.18.0.3:8080", true),
        question(new, "[fd00:18::3]:8053", true),
    ])?;
    let seen = world.host.nft("list table inet witness")?;
    ensure!(
        !seen.contains("packets 0 "),
        "not through the hook:\n{seen}"
    );
    // A bridge that others may come in through is no way round.
    ask_all(&DIRECT_TO_NEW.map(|to| question(&world.stranger, to, false)))
}

fn errors_about_connections_pass() -> Result<()> {
    let world = World::new()?;
    world.apply()?;
    // About what a container asked for: nobody listens there.
    for to in ["198.51.100.66:9", "[2001:db8:2::9]:9"] {
        let from = world.containers[0].namespace();
        let outcome = from.run(|| ask(Transport::Udp, None, to.parse()?, PATIENCE))?;
        ensure!(outcome == Outcome::Refused, "{to}: {outcome}");
    }
    // About an answer of a published port: the client has stopped listening.
    for (server, to) in [
        ("172.17.0.2", "203.0.113.1:81"),
        ("fd00:17::2", "[2001:db8:1::1]:81"),
    ] {
        error_about_an_answer(&world, server.parse()?, to.parse()?).context(to)?;
    }
    Ok(())
}

fn error_about_an_answer(world: &World, server: IpAddr, to: SocketAddr) -> Result<()> {
    let (gone, is_gone) = mpsc::channel();
    let (bound, is_bound) = mpsc::channel();
    let deadline = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || {
            world.containers[0].namespace().run(move || {
                let socket = UdpSocket::bind((server, 8081))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                bound.send(())?;
                let (_, peer) = socket.recv_from(&mut [0; 8])?;
                socket.connect(peer)?;
                socket.send(b"answer")?;
                is_gone.recv_timeout(PATIENCE)?;
                socket.set_read_timeout(Some(SILENCE / 10))?;
                while Instant::now() < deadline {
                    // The error is reported by whichever of the two comes first.
                    let heard = socket.send(b"more").and_then(|_| socket.recv(&mut [0; 8]));
                    if heard.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused) {
                        return Ok(());
                    }
                }
                anyhow::bail!("the server is not told that the client is gone")
            })
        });
        is_bound.recv_timeout(PATIENCE)?;
        world.client.namespace().run(move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"hello")?;
            socket.recv(&mut [0; 8]).context("no answer")?;
            drop(socket);
            Ok(gone.send(())?)
        })?;
        serving
            .join()
            .map_err(|_| anyhow::anyhow!("the server panicked"))?
    })
}
