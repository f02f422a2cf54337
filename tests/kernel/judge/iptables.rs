//! Real iptables as the judge of the model that judges `dfw import`.
//!
//! The rules of random hosts are loaded with `iptables-restore`, packets from outside are sent
//! through them, and a witness behind all chains says which of them came to a container and where.
//! A model with a mistake in it must disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use smoltcp::phy::{Device, Medium, RawSocket, RxToken, TxToken, wait};
use smoltcp::time::{Duration, Instant};

use super::frame::{Flags, Payload, frame, packet};
use crate::iptables::random::{Host, Rng, hosts};
use crate::iptables::{Mistake, Packet, Rules, fate};
use crate::namespace::Sandbox;
use crate::property::seed;
use crate::support::command::{output, output_from};
use crate::support::size::is_long;

/// How many packets are sent through the rules of each host; each is known by its source port.
const PACKETS: usize = 50;
const FIRST_PORT: u16 = 20_000;
/// How long the end of all frames may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The ends of the host's links, and the one for the last frame.
const LINKS: [&str; 3] = ["eth0", "eth1", "sync"];
const BRIDGES: [&str; 3] = ["docker0", "br-0123456789ab", "podman0"];

/// Mistakes of models that must be found.
const MISTAKES: [Mistake; 5] = [
    Mistake::ReturnAccepts,
    Mistake::NoPolicy,
    Mistake::PortOfTheHost,
    Mistake::GotoComesBack,
    Mistake::NoNegation,
];

/// 2,000 packets, or 50,000 in a long run.
fn size() -> usize {
    if is_long() { 1000 } else { 40 }
}

/// How many times as many packets may be sent until each mistake is found: some need rules that are rare.
const PATIENT: usize = 25;

pub(super) fn iptables_agrees_with_the_model() -> Result<()> {
    let seed = seed()?;
    let mut rng = Rng(seed);
    let world = World::new()?;
    let mut tally = BTreeMap::new();
    let mut caught = BTreeSet::new();
    let none = Rules::default();
    for round in 0..size() * PATIENT {
        if round >= size() && caught.len() == MISTAKES.len() {
            break;
        }
        let host = match round {
            0 => Host::telling(),
            _ => Host::random(&mut rng, true),
        };
        world.load(&host)?;
        let packets: Vec<_> = (0..PACKETS)
            .map(|_| {
                let is_v4 = rng.coin() || host.v6.is_none();
                let rules = host.rules(is_v4).unwrap_or(&none);
                (is_v4, Packet::aimed(&mut rng, rules, is_v4))
            })
            .collect();
        let arrived = world.send(&packets)?;
        for ((is_v4, packet), port) in packets.iter().zip(FIRST_PORT..) {
            let rules = host.rules(*is_v4).unwrap_or(&none);
            let expected = fate(rules, packet, None).delivered;
            let found = arrived.get(&port).copied();
            ensure!(
                found == expected,
                "DFW_SEED={seed}, host {round}: {packet:?} comes to {found:?}, the model says \
                 {expected:?}\n{:?}\n{}",
                host.engine,
                rules.text(*is_v4, 0).0
            );
            let what = if found.is_some() {
                "delivered"
            } else {
                "refused"
            };
            *tally.entry(what).or_insert(0_usize) += 1;
            for mistake in MISTAKES {
                if fate(rules, packet, Some(mistake)).delivered != found {
                    caught.insert(mistake);
                }
            }
        }
    }
    eprintln!("packets judged by iptables: {tally:?}, mistakes caught: {caught:?}");
    for what in ["delivered", "refused"] {
        let count = tally.get(what).copied().unwrap_or_default();
        ensure!(count * 10 > size() * PACKETS, "DFW_SEED={seed}: {tally:?}");
    }
    ensure!(
        caught.len() == MISTAKES.len(),
        "DFW_SEED={seed}: only {caught:?} are caught"
    );
    Ok(())
}

struct World {
    host: Sandbox,
    peers: Sandbox,
}

impl World {
    fn new() -> Result<Self> {
        let world = Self {
            host: Sandbox::new()?,
            peers: Sandbox::new()?,
        };
        let host = world.host.namespace();
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ] {
            host.sysctl(key, value)?;
        }
        let peers = world.peers.namespace();
        peers.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        let mut lines = String::new();
        for (number, name) in LINKS.iter().enumerate() {
            let _ = writeln!(
                lines,
                "link add {name} address 02:00:00:00:00:0{number} type veth peer name {name} netns {}\n\
                 link set {name} up",
                peers.path().display()
            );
        }
        for (bridge, number) in BRIDGES.iter().zip(0..) {
            // A port that has a carrier, and neighbours that need not be there.
            let _ = writeln!(
                lines,
                "link add {bridge} type bridge\n\
                 link add d{number} type veth peer name d{number} netns {}\n\
                 link set d{number} master {bridge} up\nlink set {bridge} up",
                peers.path().display()
            );
        }
        for (bridge, net) in [
            ("docker0", "172.17.0"),
            ("br-0123456789ab", "172.18.0"),
            ("podman0", "10.88.0"),
            ("docker0", "fd00:11:"),
            ("br-0123456789ab", "fd00:12:"),
        ] {
            let (length, dot, flag) = if net.contains(':') {
                (64, ":", " nodad")
            } else {
                (16, ".", "")
            };
            let _ = writeln!(lines, "addr add {net}{dot}1/{length} dev {bridge}{flag}");
            for last in [2, 3] {
                let _ = writeln!(
                    lines,
                    "neigh add {net}{dot}{last} lladdr 02:00:00:00:01:0{last} dev {bridge} nud permanent"
                );
            }
        }
        for address in hosts(true) {
            let _ = writeln!(lines, "addr add {address}/32 dev lo");
        }
        for address in hosts(false) {
            let _ = writeln!(lines, "addr add {address}/128 dev lo");
        }
        let file = world.host.write("links", lines)?;
        output(host.command("ip").arg("-batch").arg(file))?;
        for name in LINKS.into_iter().chain(["d0", "d1", "d2"]) {
            peers.ip(&format!("link set {name} up"))?;
        }
        world.host.nft_load(&["-f"], WITNESS)?;
        Ok(world)
    }

    /// Loads the rules of a host instead of those that are there, and forgets all connections.
    fn load(&self, host: &Host) -> Result<()> {
        let namespace = self.host.namespace();
        for (program, rules, is_v4) in [
            ("iptables", Some(&host.v4), true),
            ("ip6tables", host.v6.as_ref(), false),
        ] {
            // What a table does not have is not flushed by loading another one.
            let mut text = String::new();
            for (table, chains) in [
                ("raw", "PREROUTING"),
                ("mangle", "PREROUTING FORWARD POSTROUTING"),
                ("nat", "PREROUTING"),
                ("filter", "FORWARD"),
                ("security", "FORWARD"),
            ] {
                let _ = writeln!(text, "*{table}");
                for chain in chains.split(' ') {
                    let _ = writeln!(text, ":{chain} ACCEPT [0:0]");
                }
                text.push_str("COMMIT\n");
            }
            if let Some(rules) = rules {
                text.push_str(&rules.text(is_v4, 0).0);
            }
            let file = self.host.write("rules", &text)?;
            let mut restore = namespace.command(&format!("{program}-restore"));
            output_from(&mut restore, &file).with_context(|| text.clone())?;
        }
        output(namespace.command("conntrack").arg("-F"))?;
        self.host.nft_load(
            &["-f"],
            "flush set inet witness v4\nflush set inet witness v6\n",
        )
    }

    /// Where each packet came to, by its source port.
    fn send(&self, packets: &[(bool, Packet)]) -> Result<BTreeMap<u16, (IpAddr, u16)>> {
        let frames: Vec<_> = packets
            .iter()
            .zip(FIRST_PORT..)
            .map(|((_, sent), port)| {
                let ports = (port, sent.port);
                let payload = match sent.protocol {
                    "udp" => Payload::Udp { ports },
                    _ => Payload::Tcp {
                        ports,
                        flags: Flags::Syn,
                    },
                };
                let link = LINKS.iter().position(|name| *name == sent.incoming);
                (link.unwrap_or(0), packet(sent.source, sent.to, &payload))
            })
            .collect();
        let (host, peers) = (self.host.namespace(), self.peers.namespace());
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| -> Result<()> {
                host.enter()?;
                let mut listener = RawSocket::new("sync", Medium::Ethernet)?;
                peers.enter()?;
                let ends = LINKS.map(|name| RawSocket::new(name, Medium::Ethernet));
                let mut ends = ends.into_iter().collect::<Result<Vec<_>, _>>()?;
                // The host takes in what is sent on one processor in the order in which it was sent.
                let mut here = CpuSet::new();
                here.set(sched_getcpu());
                sched_setaffinity(None, &here)?;
                let last = Payload::Udp { ports: (9, 9) };
                let last = packet([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), &last);
                for (link, packet) in frames.into_iter().chain([(2, last)]) {
                    let number = u8::try_from(link)?;
                    let bytes = frame([2, 0, 0, 0, 2, 0], [2, 0, 0, 0, 0, number], &packet);
                    let token = ends[link].transmit(Instant::now());
                    let token = token.context("nothing can be sent")?;
                    token.consume(bytes.len(), |buffer| buffer.copy_from_slice(&bytes));
                }
                hear(&mut listener)
            });
            sending.join().unwrap_or_else(|_| bail!("a panic"))
        })?;
        self.arrived()
    }

    fn arrived(&self) -> Result<BTreeMap<u16, (IpAddr, u16)>> {
        let mut list = self.host.namespace().command("nft");
        let text = output(list.args(["-j", "list table inet witness"]))?;
        let listing: serde_json::Value = serde_json::from_str(&text)?;
        let mut arrived = BTreeMap::new();
        for object in listing["nftables"].as_array().context("no listing")? {
            for element in object["set"]["elem"].as_array().into_iter().flatten() {
                let parts = element["concat"].as_array().context("no element")?;
                let number = |at: usize| {
                    let number = parts.get(at).and_then(serde_json::Value::as_u64);
                    anyhow::Ok(u16::try_from(number.context("no number")?)?)
                };
                let to = parts.get(1).and_then(serde_json::Value::as_str);
                let to = to.context("no address")?.parse()?;
                arrived.insert(number(0)?, (to, number(2)?));
            }
        }
        Ok(arrived)
    }
}

/// Waits for the frame that was sent last.
fn hear(listener: &mut RawSocket) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some((received, _)) = listener.receive(Instant::now()) {
            if received.consume(|bytes| bytes.get(..6) == Some(&[2, 0, 0, 0, 0, 2][..])) {
                return Ok(());
            }
        } else {
            wait(listener.as_raw_fd(), Some(PATIENCE))?;
        }
    }
    bail!("the last frame never came")
}

/// What leaves the host through a bridge, behind all rules of iptables.
const WITNESS: &str = "table inet witness {
set v4 { type inet_service . ipv4_addr . inet_service; size 65535; flags dynamic; }
set v6 { type inet_service . ipv6_addr . inet_service; size 65535; flags dynamic; }
chain behind { type filter hook postrouting priority 300; policy accept;
meta l4proto { tcp, udp } th sport >= 20000 add @v4 { th sport . ip daddr . th dport }
meta l4proto { tcp, udp } th sport >= 20000 add @v6 { th sport . ip6 daddr . th dport }
}
}
";
