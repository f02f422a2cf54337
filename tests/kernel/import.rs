//! The rules that people write, and the policy that `dfw import` makes of them: the same packets
//! get through, to every port that these rules are about.
//!
//! ```text
//!  client 203.0.113.9 and others ── eth0 ┐
//!  office 192.0.2.9 ─────────────── eth1 ┴ [host] ── docker0 172.17.0.1 ── 172.17.0.2, .3
//! ```
//!
//! The host has the rules of an engine, loaded by the machine's own `iptables-restore`; no engine is
//! needed for that. Every set of rules goes the same way: it is loaded and asked, dumped with
//! `iptables-save` and imported, taken away, and what was imported is applied and asked.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::Sandbox;
use crate::support::command::{output, output_from};
use crate::support::probe::{Outcome, PATIENCE, SILENCE, Transport, ask};
use crate::support::service;

pub(crate) const TRIALS: &[Named] = &[
    ("import_of_the_docker_user_pair", pair),
    ("import_of_a_negated_source", negated),
    ("import_of_ufw_docker", ufw_docker),
    ("import_of_original_ports", original_ports),
    ("import_of_interfaces", interfaces),
    ("import_of_both_families", both_families),
];

/// The client's addresses; the first is in the host's own network.
const CLIENT: [&str; 6] = [
    "203.0.113.9",
    "203.0.113.66",
    "198.51.100.66",
    "10.1.2.3",
    "192.168.7.7",
    "2001:db8:1::9",
];
const OFFICE: &str = "192.0.2.9";
const HOST: [&str; 2] = ["203.0.113.1", "2001:db8:1::1"];

/// Ports of the host, and where an engine sends them.
const PUBLISHED: [(&str, u16, &str, u16); 5] = [
    ("tcp", 80, "172.17.0.2", 80),
    ("tcp", 8083, "172.17.0.3", 80),
    ("tcp", 5433, "172.17.0.3", 5432),
    ("tcp", 9000, "172.17.0.2", 9000),
    ("udp", 5353, "172.17.0.2", 53),
];
/// The same over IPv6, if the engine is configured for it.
const PUBLISHED_V6: [(&str, u16, &str, u16); 2] = [
    ("tcp", 80, "fd00:17::2", 80),
    ("tcp", 9000, "fd00:17::2", 9000),
];

struct World {
    host: Sandbox,
    client: Sandbox,
    office: Sandbox,
    containers: [Sandbox; 2],
}

impl World {
    fn new() -> Result<Self> {
        let world = Self {
            host: Sandbox::new()?,
            client: Sandbox::new()?,
            office: Sandbox::new()?,
            containers: [Sandbox::new()?, Sandbox::new()?],
        };
        let host = world.host.namespace();
        host.sysctl("net/ipv4/ip_forward", "1")?;
        host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        world.wire("eth0", &world.client, "203.0.113.1/24", "203.0.113.9/24")?;
        world.wire("eth1", &world.office, "192.0.2.1/24", "192.0.2.9/24")?;
        let client = world.client.namespace();
        for address in CLIENT.iter().skip(1).filter(|a| !a.contains(':')) {
            client.ip(&format!("addr add {address}/32 dev eth0"))?;
            host.ip(&format!("route replace {address}/32 dev eth0"))?;
        }
        host.ip("addr add 2001:db8:1::1/64 dev eth0 nodad")?;
        client.ip("addr add 2001:db8:1::9/64 dev eth0 nodad")?;
        client.ip("-6 route add default via 2001:db8:1::1")?;
        world.bridge()?;
        world.restore("iptables-restore", &engine(4, &PUBLISHED))?;
        world.restore("ip6tables-restore", &engine(6, &PUBLISHED_V6))?;
        Ok(world)
    }

    fn wire(&self, name: &str, sandbox: &Sandbox, host4: &str, own4: &str) -> Result<()> {
        let (host, other) = (self.host.namespace(), sandbox.namespace());
        host.ip(&format!(
            "link add {name} type veth peer name eth0 netns {}",
            other.path().display()
        ))?;
        host.ip(&format!("addr add {host4} dev {name}"))?;
        host.ip(&format!("link set {name} up"))?;
        other.ip(&format!("addr add {own4} dev eth0"))?;
        other.ip("link set eth0 up")?;
        let gateway = host4.trim_end_matches("/24");
        other.ip(&format!("route add default via {gateway}"))?;
        Ok(())
    }

    fn bridge(&self) -> Result<()> {
        let host = self.host.namespace();
        host.ip("link add docker0 type bridge")?;
        host.ip("addr add 172.17.0.1/16 dev docker0")?;
        host.ip("addr add fd00:17::1/64 dev docker0 nodad")?;
        host.ip("link set docker0 up")?;
        for (container, number) in self.containers.iter().zip(2..) {
            let inside = container.namespace();
            host.ip(&format!(
                "link add veth{number} type veth peer name eth0 netns {}",
                inside.path().display()
            ))?;
            host.ip(&format!("link set veth{number} master docker0 up"))?;
            inside.ip(&format!("addr add 172.17.0.{number}/16 dev eth0"))?;
            inside.ip(&format!("addr add fd00:17::{number}/64 dev eth0 nodad"))?;
            inside.ip("link set eth0 up")?;
            inside.ip("route add default via 172.17.0.1")?;
            inside.ip("-6 route add default via fd00:17::1")?;
            inside.run(|| service::spawn(&["tcp:80", "tcp:5432", "tcp:9000", "udp:53"]))?;
        }
        Ok(())
    }

    /// Adds rules to those that are there.
    fn restore(&self, program: &str, rules: &str) -> Result<()> {
        let file = self.host.write("rules", rules)?;
        let mut command = self.host.namespace().command(program);
        output_from(command.arg("--noflush"), &file)?;
        Ok(())
    }

    /// Commands, as they are typed.
    fn run(&self, lines: &str) -> Result<()> {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let program = words.next().context("a program")?;
            output(self.host.namespace().command(program).args(words))?;
        }
        Ok(())
    }

    /// Asks before and after; `questions` are the ports that the rules are about.
    fn same_decisions(&self, questions: &[Question]) -> Result<()> {
        self.ask_all(questions).context("by the rules themselves")?;
        let dir = self.import()?;
        self.run("iptables -F DOCKER-USER\nip6tables -F DOCKER-USER")?;
        let open: Vec<_> = questions
            .iter()
            .map(|q| Question { open: true, ..*q })
            .collect();
        self.ask_all(&open).context("without any of them")?;
        self.host.dfw_ok(&["apply", &dir])?;
        self.ask_all(questions).context("by the imported policy")?;
        // What containers ask for is answered in any case.
        let from = self.containers[0].namespace();
        self.office
            .namespace()
            .run(|| service::spawn(&["tcp:443"]))?;
        let to = SocketAddr::new(OFFICE.parse()?, 443);
        let outcome = from.run(|| ask(Transport::Tcp, None, to, PATIENCE))?;
        ensure!(
            outcome == Outcome::Open,
            "a container's own request: {outcome}"
        );
        Ok(())
    }

    /// Dumps the rules that are in force and imports them; answers the directory of the policy.
    fn import(&self) -> Result<String> {
        let mut dumps = Vec::new();
        for program in ["iptables-save", "ip6tables-save"] {
            let text = output(&mut self.host.namespace().command(program))?;
            dumps.push(self.host.write(program, text)?);
        }
        let dir = self.host.dir().join("policies");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = [
            "import",
            &text(&dumps[0]),
            &text(&dumps[1]),
            "--output",
            &text(&dir),
        ];
        self.host.dfw_ok(&arguments)?;
        Ok(text(&dir))
    }

    /// Asks all at once, as silence takes its time.
    fn ask_all(&self, questions: &[Question]) -> Result<()> {
        let answer = |question: &Question| -> Result<()> {
            let from: IpAddr = question.from.parse()?;
            let to: IpAddr = HOST[usize::from(from.is_ipv6())].parse()?;
            let to = SocketAddr::new(to, question.port);
            let transport = if question.port == 5353 {
                Transport::Udp
            } else {
                Transport::Tcp
            };
            let patience = if question.open { PATIENCE } else { SILENCE };
            let sandbox = if question.from == OFFICE {
                &self.office
            } else {
                &self.client
            };
            let outcome = sandbox
                .namespace()
                .run(|| ask(transport, Some(from), to, patience))?;
            let fine = if question.open {
                outcome == Outcome::Open
            } else {
                outcome.is_closed()
            };
            let must = if question.open { "open" } else { "closed" };
            ensure!(fine, "{outcome}, which must be {must}");
            Ok(())
        };
        std::thread::scope(|scope| {
            let asked: Vec<_> = questions
                .iter()
                .map(|question| (question, scope.spawn(|| answer(question))))
                .collect();
            let mut wrong = Vec::new();
            for (Question { from, port, .. }, asked) in asked {
                match asked.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => wrong.push(format!("{from} to {port}: {error:#}")),
                    Err(_) => wrong.push(format!("{from} to {port}: a panic")),
                }
            }
            ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
            Ok(())
        })
    }
}

/// What an engine writes, in the form of 20.10.
fn engine(family: u8, published: &[(&str, u16, &str, u16)]) -> String {
    use std::fmt::Write;
    let (mut nat, mut filter) = (String::new(), String::new());
    for (protocol, port, container, inside) in published {
        let to = if family == 6 {
            format!("[{container}]")
        } else {
            (*container).to_owned()
        };
        let rule = format!("-p {protocol} -m {protocol} --dport");
        let _ = writeln!(
            nat,
            "-A DOCKER ! -i docker0 {rule} {port} -j DNAT --to-destination {to}:{inside}"
        );
        let _ = writeln!(
            filter,
            "-A DOCKER -d {container} ! -i docker0 -o docker0 {rule} {inside} -j ACCEPT"
        );
    }
    format!(
        "*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i docker0 -j RETURN
{nat}COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
{filter}COMMIT
"
    )
}

/// Whether somebody gets in at a port.
#[derive(Clone, Copy)]
struct Question {
    from: &'static str,
    port: u16,
    open: bool,
}

/// Who gets in at a port, of those who ask; all others do not.
fn only(port: u16, asking: &[&'static str], open: &[&str]) -> Vec<Question> {
    let question = |from: &&'static str| Question {
        from,
        port,
        open: open.contains(from),
    };
    asking.iter().map(question).collect()
}

/// The client's IPv4 addresses.
const V4: &[&str] = CLIENT.split_at(5).0;
const OF_OFFICE_NET: [&str; 2] = ["203.0.113.9", "203.0.113.66"];

/// An accept and a drop, each put before what is there; the number is that of the container's port.
fn pair() -> Result<()> {
    let world = World::new()?;
    world.run(
        "iptables -I DOCKER-USER -i eth0 -p tcp --dport 80 -j DROP
         iptables -I DOCKER-USER -i eth0 -p tcp --dport 80 -s 203.0.113.0/24 -j ACCEPT
         iptables -I DOCKER-USER -i eth0 -p tcp --dport 5433 -j DROP",
    )?;
    world.same_decisions(
        &[
            only(80, V4, &OF_OFFICE_NET),
            // Another port of the host, behind which is the same port of another container.
            only(8083, V4, &OF_OFFICE_NET),
            // The number of the host's port: these rules never see it.
            only(5433, V4, V4),
            only(9000, V4, V4),
            only(5353, V4, V4),
        ]
        .concat(),
    )
}

fn negated() -> Result<()> {
    let world = World::new()?;
    world.run("iptables -I DOCKER-USER -i eth0 ! -s 203.0.113.0/24 -j DROP")?;
    let ports = PUBLISHED.map(|(_, port, ..)| only(port, V4, &OF_OFFICE_NET));
    world.same_decisions(&ports.concat())
}

/// What ufw-docker puts into `after.rules`, and what `ufw route` makes of permissions.
fn ufw_docker() -> Result<()> {
    let world = World::new()?;
    world.run("iptables -F DOCKER-USER")?;
    world.restore(
        "iptables-restore",
        "*filter
:ufw-user-forward - [0:0]
:ufw-docker-logging-deny - [0:0]
:DOCKER-USER - [0:0]
-A DOCKER-USER -j ufw-user-forward
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A DOCKER-USER -m conntrack --ctstate INVALID -j DROP
-A DOCKER-USER -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN -s 10.0.0.0/8
-A DOCKER-USER -j RETURN -s 172.16.0.0/12
-A DOCKER-USER -j RETURN -s 192.168.0.0/16
-A DOCKER-USER -j ufw-docker-logging-deny -m conntrack --ctstate NEW -d 10.0.0.0/8
-A DOCKER-USER -j ufw-docker-logging-deny -m conntrack --ctstate NEW -d 172.16.0.0/12
-A DOCKER-USER -j ufw-docker-logging-deny -m conntrack --ctstate NEW -d 192.168.0.0/16
-A DOCKER-USER -j RETURN
-A ufw-docker-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[UFW DOCKER BLOCK] \"
-A ufw-docker-logging-deny -j DROP
-A ufw-user-forward -p tcp -d 172.17.0.2 --dport 80 -j ACCEPT
-A ufw-user-forward -p tcp --dport 5432 -s 203.0.113.9 -j ACCEPT
-A ufw-user-forward -p udp -s 203.0.113.0/24 --dport 53 -j ACCEPT
COMMIT
",
    )?;
    let private = ["10.1.2.3", "192.168.7.7"];
    world.same_decisions(
        &[
            only(80, V4, V4),
            only(8083, V4, &private),
            only(5433, V4, &[&private[..], &["203.0.113.9"]].concat()),
            only(9000, V4, &private),
            only(5353, V4, &[&private[..], &OF_OFFICE_NET].concat()),
        ]
        .concat(),
    )
}

fn original_ports() -> Result<()> {
    let world = World::new()?;
    world.run(
        "iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8083 --ctdir ORIGINAL ! -s 203.0.113.9 -j DROP
         iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdst 203.0.113.1 --ctorigdstport 9000 --ctdir ORIGINAL -s 198.51.100.0/24 -j REJECT",
    )?;
    let others = ["203.0.113.9", "203.0.113.66", "10.1.2.3", "192.168.7.7"];
    world.same_decisions(
        &[
            only(80, V4, V4),
            only(8083, V4, &["203.0.113.9"]),
            only(9000, V4, &others),
        ]
        .concat(),
    )
}

/// Ports that are to be reached through one interface only.
fn interfaces() -> Result<()> {
    let world = World::new()?;
    world.run("iptables -F DOCKER-USER")?;
    world.run(
        "iptables -A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
         iptables -A DOCKER-USER -i docker0 -j RETURN
         iptables -A DOCKER-USER -i eth1 -p tcp --dport 9000 -j RETURN
         iptables -A DOCKER-USER -i eth0 -p tcp --dport 80 -s 203.0.113.0/24 -j RETURN
         iptables -A DOCKER-USER -j DROP",
    )?;
    let asking = [V4, &[OFFICE]].concat();
    world.same_decisions(
        &[
            only(9000, &asking, &[OFFICE]),
            only(80, &asking, &OF_OFFICE_NET),
            only(5433, &asking, &[]),
        ]
        .concat(),
    )
}

fn both_families() -> Result<()> {
    let world = World::new()?;
    world.run(
        "iptables -I DOCKER-USER ! -i docker0 -o docker0 -p tcp -m conntrack --ctstate NEW -j DROP
         iptables -I DOCKER-USER -p tcp -m multiport --dports 80,443 -m iprange --src-range 203.0.113.60-203.0.113.70 -j ACCEPT
         ip6tables -I DOCKER-USER -i eth0 -p tcp -m conntrack --ctstate NEW -j DROP
         ip6tables -I DOCKER-USER -p tcp --dport 9000 -s 2001:db8:1::/64 -j ACCEPT",
    )?;
    world.same_decisions(
        &[
            only(80, &CLIENT, &["203.0.113.66"]),
            only(8083, V4, &["203.0.113.66"]),
            only(9000, &CLIENT, &["2001:db8:1::9"]),
            only(5353, V4, V4),
        ]
        .concat(),
    )
}
