//! What a packet costs on its way through the host, judged by dfw, by hand-written rules, by nobody.
//!
//! ```text
//!  client ── eth0 ┐         ┌ docker0 ── eth0 container
//!                 └ [host] ─┘
//! ```
//!
//! The client sends from one thread, and the kernel carries each packet all the way through the
//! host before the call returns. So the thread's processor time is the sender's share and the way
//! through the host; the former is measured with a host that drops everything as it comes in, and
//! taken off. The container drops what reaches it.

use std::fmt::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cost::Cost;
use crate::dfw;
use crate::goal::Goals;
use crate::race::{Track, median};
use crate::sender::{Sender, stay_on_one_processor};
use crate::size::{Scale, short};
use crate::sources::{self, Kind, Random};
use crate::support::command::output;
use crate::support::netns::Namespace;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PORT: u16 = 53;
/// In no list.
const STRANGER: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);
/// How many connections there are at once.
const FLOWS: usize = 64;
/// A measurement ends when it has taken this long, in milliseconds.
const ENOUGH: f64 = 250.0;

/// How long a packet may take to come through.
const PATIENCE: Duration = Duration::from_secs(20);

const HOST_MAC: &str = "02:00:00:00:00:01";

/// Docker's part, as far as a published port needs it.
const PUBLISHED: &str = "
table ip docker {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        iifname \"eth0\" udp dport 53 dnat to 172.17.0.2:53
    }
}
";
pub(crate) const DROP_ALL: &str = "
table netdev bench {
    chain ingress { type filter hook ingress device \"eth0\" priority 0; policy drop; }
}
";

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// Everything is dropped as it comes in: what is left is the sender's share.
    Sender,
    Nobody,
    Dfw,
    /// The same with `connection-mark: true`.
    Marked,
    /// A rule for each source as people write it for one port, which must name the incoming interface
    /// so that containers are exempt; by iptables-nft.
    DockerUser,
}

/// Nanoseconds for each packet.
#[derive(Debug, Clone, Copy)]
struct Prices {
    established: f64,
    new: f64,
    denied: f64,
}

type Part = fn(&Prices) -> f64;

/// One list of sources in the forms that judges read.
struct Forms {
    size: usize,
    addresses: Vec<Ipv4Addr>,
    policy: PathBuf,
    marked: PathBuf,
    iptables: PathBuf,
}

pub(crate) fn packets(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    // Each is short, and what else the machine does is felt.
    let rounds = track.rounds * 3;
    for &size in scale.packets() {
        let forms = Forms::new(track, size)?;
        let mut judges = vec![Judge::Sender, Judge::Nobody, Judge::Dfw, Judge::Marked];
        // Nobody can wait for a million rules.
        if size <= 10_000 {
            judges.push(Judge::DockerUser);
        }
        let mut prices: Vec<Vec<Prices>> = vec![Vec::new(); judges.len()];
        for round in 0..rounds {
            for turn in 0..judges.len() {
                let at = (turn + round) % judges.len();
                prices[at].push(forms.measure(track, judges[at])?);
            }
        }
        let price = |judge: Judge, part: Part| {
            let at = judges.iter().position(|j| *j == judge)?;
            Some(median(prices[at].iter().map(part).collect()))
        };
        let kinds: [(&str, Part); 3] = [
            ("established", |p| p.established),
            ("new", |p| p.new),
            ("denied", |p| p.denied),
        ];
        for (kind, part) in kinds {
            let work = format!("{kind} packet, {} sources", short(size));
            let own = price(Judge::Sender, part).context("no sender")?;
            let of = |judge| price(judge, part).map(|price| price - own);
            for (judge, name) in [
                (Judge::Nobody, "no firewall"),
                (Judge::Dfw, "dfw"),
                (Judge::Marked, "dfw, marked"),
                (Judge::DockerUser, "DOCKER-USER"),
            ] {
                if let Some(nanoseconds) = of(judge) {
                    let cost = Cost {
                        cpu: nanoseconds / 1e6,
                        wall: nanoseconds / 1e6,
                        peak: 0.0,
                    };
                    track.note(&work, name, rounds, cost);
                }
            }
            let (Some(nobody), Some(dfw)) = (of(Judge::Nobody), of(Judge::Dfw)) else {
                continue;
            };
            let most = match (kind, size) {
                ("established", 1_000) => Some(1.35),
                ("established", 10_000) => Some(1.4),
                ("established", 1_000_000) => Some(1.75),
                ("new", 1_000 | 10_000) => Some(1.3),
                _ => None,
            };
            goals.at_most(&work, "dfw / no firewall", dfw / nobody, most);
            if let Some(marked) = of(Judge::Marked) {
                goals.at_most(&work, "dfw, marked / no firewall", marked / nobody, most);
            }
            if let Some(by_hand) = of(Judge::DockerUser) {
                let least = match (kind, size) {
                    ("denied", 1_000) => Some(6.0),
                    ("denied", 10_000) => Some(50.0),
                    _ => None,
                };
                goals.at_least(&work, "DOCKER-USER / dfw", by_hand / dfw, least);
            }
        }
    }
    Ok(())
}

impl Forms {
    fn new(track: &Track, size: usize) -> Result<Self> {
        let all = sources::sources(Kind::Lists, size, 4);
        let list = track.write("packets.txt", &sources::list(&all))?;
        let policy = crate::load::policy(track, &list)?;
        let mut marked = std::fs::read_to_string(&policy)?;
        marked.push_str("settings: {connection-mark: true}\n");
        let marked = track.write("marked.yaml", &marked)?;
        let mut iptables = "*filter\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n".to_owned();
        for source in &all {
            let _ = writeln!(
                iptables,
                "-A DOCKER-USER -i eth0 -p udp -s {source} --dport 53 -j RETURN"
            );
        }
        iptables.push_str("-A DOCKER-USER -i eth0 -p udp --dport 53 -j DROP\nCOMMIT\n");
        let first = |text: &String| {
            let address = text.split('/').next().unwrap_or_default();
            address.parse::<Ipv4Addr>()
        };
        // Evenly from the first to the last, singles and networks alike.
        let some = (0..FLOWS).map(|n| &all[n * all.len() / FLOWS]);
        Ok(Self {
            size,
            addresses: some.map(first).collect::<Result<_, _>>()?,
            policy,
            marked,
            iptables: track.write("packets.iptables", &iptables)?,
        })
    }

    fn measure(&self, track: &mut Track, judge: Judge) -> Result<Prices> {
        let seed = self.size as u64;
        track.inside(|[host, client, container]| {
            wire(host, client, container)?;
            await_wires(client, container, Packet::new(self.addresses[0], 39_999))?;
            self.judge(host, judge)?;
            self.prices(host, client, container, judge, seed)
        })
    }

    fn judge(&self, host: &Namespace, judge: Judge) -> Result<()> {
        match judge {
            Judge::Sender | Judge::Nobody => {}
            Judge::Dfw | Judge::Marked => {
                let policy = if judge == Judge::Dfw {
                    &self.policy
                } else {
                    &self.marked
                };
                output(host.command(dfw()).arg("apply").arg(policy))?;
            }
            Judge::DockerUser => {
                output(host.command("iptables-nft-restore").arg(&self.iptables))?;
            }
        }
        Ok(())
    }

    fn prices(
        &self,
        host: &Namespace,
        client: &Namespace,
        container: &Namespace,
        judge: Judge,
        seed: u64,
    ) -> Result<Prices> {
        let flows: Vec<Packet> = self
            .addresses
            .iter()
            .map(|a| Packet::new(*a, 40_000))
            .collect();
        if judge == Judge::Sender {
            load(host, DROP_ALL)?;
        } else {
            establish(client, container, &flows)?;
        }
        load(container, DROP_ALL)?;
        client.run(|| {
            stay_on_one_processor()?;
            let sender = Sender::open(SERVER)?;
            let established = sender.price(ENOUGH, |number| flows[number % flows.len()])?;
            let mut random = Random(seed);
            let new = sender.price(ENOUGH, |number| {
                let source = self.addresses[random.below(self.addresses.len())];
                let port = u16::try_from(number % 20_000).unwrap_or_default();
                Packet::new(source, 10_000 + port)
            })?;
            let denied = sender.price(ENOUGH, |number| {
                let port = u16::try_from(number % 20_000).unwrap_or_default();
                Packet::new(STRANGER, 10_000 + port)
            })?;
            Ok(Prices {
                established,
                new,
                denied,
            })
        })
    }
}

/// Wires, addresses and routes; the containers' answers find their way back through the client.
pub(crate) fn wire(host: &Namespace, client: &Namespace, container: &Namespace) -> Result<()> {
    let name = |namespace: &Namespace| {
        let name = namespace.path().file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    host.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        name(client)
    ))?;
    host.ip(&format!(
        "link add veth0 type veth peer name eth0 netns {}",
        name(container)
    ))?;
    host.ip("link add docker0 type bridge")?;
    host.ip("link set veth0 master docker0 up")?;
    host.ip("addr add 172.17.0.1/16 dev docker0")?;
    host.ip("addr add 203.0.113.1/24 dev eth0")?;
    client.ip("addr add 203.0.113.2/24 dev eth0")?;
    container.ip("addr add 172.17.0.2/16 dev eth0")?;
    for (namespace, link) in [
        (host, "docker0"),
        (host, "eth0"),
        (client, "eth0"),
        (container, "eth0"),
    ] {
        namespace.ip(&format!("link set {link} up"))?;
    }
    // Nobody has to ask who has an address: who drops everything would not answer.
    host.ip(&format!("link set eth0 address {HOST_MAC}"))?;
    client.ip("link set eth0 address 02:00:00:00:00:02")?;
    client.ip(&format!("neigh add 203.0.113.1 lladdr {HOST_MAC} dev eth0"))?;
    host.ip("neigh add 203.0.113.2 lladdr 02:00:00:00:00:02 dev eth0")?;
    host.ip("route add default via 203.0.113.2 dev eth0")?;
    container.ip("link set eth0 address 02:00:00:00:00:03")?;
    host.ip("neigh add 172.17.0.2 lladdr 02:00:00:00:00:03 dev docker0")?;
    container.ip("route add default via 172.17.0.1")?;
    host.sysctl("net/ipv4/ip_forward", "1")?;
    load(host, PUBLISHED)
}

pub(crate) fn load(namespace: &Namespace, text: &str) -> Result<()> {
    let mut command = namespace.command("nft");
    command.arg(text);
    output(&mut command)?;
    Ok(())
}

/// Sends a packet until it comes through: the kernel opens a bridge's port some time after its wire is
/// there, the later the more it has to take down of former namespaces.
fn await_wires(client: &Namespace, container: &Namespace, packet: Packet) -> Result<()> {
    let server = container.run(|| Ok(UdpSocket::bind(("172.17.0.2", PORT))?))?;
    server.set_read_timeout(Some(PATIENCE / 200))?;
    let sender = client.run(|| Sender::open(SERVER))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        sender.send(packet.as_ref())?;
        match server.recv(&mut [0; 64]) {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < deadline, "the wires stay dead: {error}"),
        }
    }
}

/// Lets the container answer each flow once, so that the host knows it in both directions.
fn establish(client: &Namespace, container: &Namespace, flows: &[Packet]) -> Result<()> {
    let server = container.run(|| Ok(UdpSocket::bind(("172.17.0.2", PORT))?))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let sender = client.run(|| Sender::open(SERVER))?;
    for flow in flows {
        sender.send(flow.as_ref())?;
        let (_, from) = server
            .recv_from(&mut [0; 64])
            .with_context(|| format!("{flow:?} is not accepted"))?;
        server.send_to(b"!", from)?;
    }
    Ok(())
}

/// An IPv4 packet with a UDP datagram of one byte.
#[derive(Debug, Clone, Copy)]
struct Packet([u8; 29]);

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Packet {
    fn new(source: Ipv4Addr, port: u16) -> Self {
        let mut bytes = [0; 29];
        // Version and length of the header; the kernel fills in the sums and the identifier.
        bytes[0] = 0x45;
        bytes[3] = 29;
        bytes[8] = 64;
        bytes[9] = 17;
        bytes[12..16].copy_from_slice(&source.octets());
        bytes[16..20].copy_from_slice(&SERVER.octets());
        bytes[20..22].copy_from_slice(&port.to_be_bytes());
        bytes[22..24].copy_from_slice(&PORT.to_be_bytes());
        // The length, and no checksum, which IPv4 allows.
        bytes[25] = 9;
        Self(bytes)
    }
}
