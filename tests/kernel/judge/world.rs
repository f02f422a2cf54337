//! A host with an interface of every kind, a peer on each, and probes before and behind dfw's chains.
//!
//! The source address of a packet's frame selects the outgoing interface and DNAT, so that any packet can take any
//! path, and carries the number by which the probes identify the packet.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use dfw::ruleset::Hook;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use smoltcp::phy::{Device, Medium, RawSocket, RxToken, TxToken, wait};
use smoltcp::time::{Duration, Instant};

use super::frame::{Payload, frame, packet};
use crate::namespace::Sandbox;
use crate::support::command::output;
use crate::support::netns::Namespace;

/// The interfaces of the host, numbered from 1. Those from [`FIRST_BRIDGE`] on are bridges.
const NAMES: [&str; 10] = [
    "eth0",
    "eth1",
    "wg0",
    "docker1",
    "virbr0",
    "docker0",
    "br-0123456789ab",
    "podman1",
    "br-lan",
    "virbr1",
];
const FIRST_BRIDGE: u8 = 6;
/// The addresses of the host, beside loopback.
const OWN: [&str; 7] = [
    "198.51.100.1",
    "198.51.100.2",
    "198.51.100.9",
    "126.255.255.255",
    "128.0.0.0",
    "2001:db8:1::1",
    "2001:db8:1::9",
];
/// The number of the interface for the end of all frames.
const SYNC: u8 = 0;
/// How long the end of all frames may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of an interface; of one that the host lacks that of its first.
pub(super) fn number(name: &str) -> u8 {
    let sandbox = NAMES.iter().position(|known| *known == name);
    sandbox.map_or(1, |sandbox| u8::try_from(sandbox + 1).unwrap_or(1))
}

pub(super) fn name(number: u8) -> &'static str {
    NAMES[usize::from(number) - 1]
}

pub(super) fn is_bridge(number: u8) -> bool {
    number >= FIRST_BRIDGE
}

/// Whether the kernel takes an address for one of the host; the ends of the loopback network are broadcast addresses.
pub(super) fn is_own(address: IpAddr) -> bool {
    let is_end = match address {
        IpAddr::V4(v4) => [[127, 0, 0, 0], [127, 255, 255, 255]].contains(&v4.octets()),
        IpAddr::V6(_) => false,
    };
    address.is_loopback() && !is_end || OWN.iter().any(|own| own.parse() == Ok(address))
}

/// An address to which the host's routes lead through that interface, and none through any for 0.
pub(super) fn behind(interface: u8, v4: bool) -> IpAddr {
    if v4 {
        [10, 201, interface, 9].into()
    } else {
        [0xfd01, 0, 0, interface.into(), 0, 0, 0, 9].into()
    }
}

/// The port at which such an address is what others were translated to.
pub(super) const TRANSLATED: u16 = 8080;

/// What a frame is to undergo.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// By which witnesses know it; 0 for what nobody asks for.
    pub(super) id: u16,
    /// The interface that it comes in through.
    pub(super) incoming: u8,
    /// The interface that it leaves through; 0 where routes decide.
    pub(super) outgoing: u8,
    /// Whether the destination of its connection is translated, and to an address behind which
    /// interface.
    pub(super) translated: Option<u8>,
    /// Whether it is tracked.
    pub(super) untracked: bool,
}

impl Fate {
    fn source(self) -> [u8; 6] {
        let [high, low] = self.id.to_be_bytes();
        let translated = self.translated.map_or(0, |to| to + 1);
        [
            2,
            self.untracked.into(),
            high,
            low,
            self.outgoing,
            translated,
        ]
    }
}

/// The numbers of the packets that a witness has seen, by hook.
#[derive(Debug, Default)]
pub(super) struct Seen {
    before: BTreeSet<(&'static str, u16)>,
    behind: BTreeSet<(&'static str, u16)>,
}

impl Seen {
    /// Whether a packet has come to a hook.
    pub(super) fn came(&self, hook: Hook, id: u16) -> bool {
        self.before.contains(&(hook.name(), id))
    }

    /// Whether it was still there behind dfw.
    pub(super) fn passed(&self, hook: Hook, id: u16) -> bool {
        self.behind.contains(&(hook.name(), id))
    }
}

pub(super) struct World {
    pub(super) host: Sandbox,
    _peers: Sandbox,
    line: Line,
}

impl World {
    pub(super) fn new() -> Result<Self> {
        let (host, peers) = (Sandbox::new()?, Sandbox::new()?);
        let sysctls = [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            // Loopback addresses that come over a wire are dfw's matter here, not the routes'.
            ("net/ipv4/conf/all/route_localnet", "1"),
            ("net/ipv4/conf/all/accept_local", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ];
        for (key, value) in sysctls {
            host.namespace().sysctl(key, value)?;
        }
        peers
            .namespace()
            .sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        // Only where the module is loaded.
        for key in ["iptables", "ip6tables"] {
            let _ = host
                .namespace()
                .sysctl(&format!("net/bridge/bridge-nf-call-{key}"), "0");
        }
        let links = links(&peers.namespace().path().display().to_string());
        batch(&host, &[], &links)?;
        batch(&host, &["-4"], &rules())?;
        batch(&host, &["-6"], &rules())?;
        let ups: Vec<_> = (0..=NAMES.len())
            .map(|n| format!("link set w{n} up"))
            .collect();
        batch(&peers, &[], &ups.join("\n"))?;
        host.nft_load(&["-f"], &witnesses())?;
        let line = Line::open(host.namespace().clone(), peers.namespace().clone());
        Ok(Self {
            host,
            _peers: peers,
            line,
        })
    }

    /// Takes dfw's rules, the memory of all connections and that of the witnesses away.
    pub(super) fn reset(&self) -> Result<()> {
        let mut text = "add table inet dfw-nft\ndelete table inet dfw-nft\n".to_owned();
        for (_, _, set) in sets() {
            let _ = writeln!(text, "flush set inet judge {set}");
        }
        self.host.nft_load(&["-f"], &text)?;
        output(self.host.namespace().command("conntrack").arg("-F"))?;
        Ok(())
    }

    /// Sends packets one after the other, and returns when the host has dealt with all of them.
    pub(super) fn send(&self, packets: Vec<(Fate, Vec<u8>)>) -> Result<()> {
        self.line.packets.send(packets)?;
        let done = &self.line.done;
        done.lock().unwrap_or_else(PoisonError::into_inner).recv()?
    }

    /// What the witnesses have seen.
    pub(super) fn seen(&self) -> Result<Seen> {
        let text = output(
            self.host
                .namespace()
                .command("nft")
                .args(["-j", "list table inet judge"]),
        )?;
        let listing: serde_json::Value = serde_json::from_str(&text)?;
        let mut seen = Seen::default();
        for object in listing["nftables"].as_array().context("no listing")? {
            let set = &object["set"];
            let known = sets().find(|(_, _, name)| set["name"] == name.as_str());
            let (Some((hook, before, _)), Some(elements)) = (known, set["elem"].as_array()) else {
                continue;
            };
            for element in elements {
                let text = element.as_str().context("no frame's address")?;
                let digits = text.replace(':', "");
                let id = u16::from_str_radix(digits.get(4..8).context("no address")?, 16)?;
                let numbers = if before {
                    &mut seen.before
                } else {
                    &mut seen.behind
                };
                numbers.insert((hook, id));
            }
        }
        Ok(seen)
    }
}

/// A thread that sends. Closing raw sockets takes the kernel long, so it has them all the time.
struct Line {
    packets: Sender<Vec<(Fate, Vec<u8>)>>,
    done: Mutex<Receiver<Result<()>>>,
}

impl Line {
    fn open(host: Namespace, peers: Namespace) -> Self {
        let (packets, orders) = channel();
        let (reports, done) = channel();
        std::thread::spawn(move || {
            let mut sockets = Sockets::open(&host, &peers);
            for packets in orders {
                let report = match &mut sockets {
                    Ok(sockets) => sockets.send(packets),
                    Err(error) => Err(anyhow!("no raw sockets: {error:#}")),
                };
                if reports.send(report).is_err() {
                    break;
                }
            }
        });
        let done = Mutex::new(done);
        Self { packets, done }
    }
}

/// The other ends of the host's interfaces, and the host's end of the one for the last frames.
struct Sockets {
    ends: Vec<RawSocket>,
    listener: RawSocket,
}

impl Sockets {
    fn open(host: &Namespace, peers: &Namespace) -> Result<Self> {
        host.enter()?;
        let listener = RawSocket::new("sync", Medium::Ethernet)?;
        peers.enter()?;
        let ends = (0..=NAMES.len()).map(|n| RawSocket::new(&format!("w{n}"), Medium::Ethernet));
        let ends = ends.collect::<Result<_, _>>()?;
        // The host takes in what is sent on one processor in the order in which it was sent.
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here)?;
        Ok(Self { ends, listener })
    }

    fn send(&mut self, packets: Vec<(Fate, Vec<u8>)>) -> Result<()> {
        let last = Payload::Udp { ports: (9, 9) };
        let last = packet([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), &last);
        for (fate, packet) in packets.into_iter().chain([(Fate::default(), last)]) {
            let bytes = frame(fate.source(), hardware(1, fate.incoming), &packet);
            let end = &mut self.ends[usize::from(fate.incoming)];
            let token = end
                .transmit(Instant::now())
                .context("nothing can be sent")?;
            token.consume(bytes.len(), |buffer| buffer.copy_from_slice(&bytes));
        }
        self.hear()
    }

    /// Waits for the frame that was sent last.
    fn hear(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some((received, _)) = self.listener.receive(Instant::now()) {
                if received.consume(|bytes| bytes.get(..6) == Some(&hardware(1, SYNC)[..])) {
                    return Ok(());
                }
            } else {
                wait(self.listener.as_raw_fd(), Some(PATIENCE))?;
            }
        }
        bail!("the last frame never came")
    }
}

/// The hardware address of an interface of the host (1) or at its other end (2).
fn hardware(side: u8, interface: u8) -> [u8; 6] {
    [2, 0, 0, 0, side, interface]
}

fn colons(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// The links, addresses and routes of the host, for `ip -batch`.
fn links(peers: &str) -> String {
    let mut text = format!(
        "link add sync address {} type veth peer name w0 netns {peers}\nlink set sync up\n",
        colons(hardware(1, SYNC))
    );
    for (name, number) in NAMES.iter().zip(1_u8..) {
        let (own, other) = (colons(hardware(1, number)), colons(hardware(2, number)));
        let _ = if is_bridge(number) {
            writeln!(
                text,
                "link add {name} address {own} type bridge\n\
                 link add h{number} type veth peer name w{number} address {other} netns {peers}\n\
                 link set h{number} master {name}\n\
                 link set h{number} up"
            )
        } else {
            writeln!(
                text,
                "link add {name} address {own} type veth peer name w{number} address {other} netns {peers}"
            )
        };
        let table = 100 + u32::from(number);
        let _ = writeln!(
            text,
            "link set {name} up\n\
             neigh add 10.203.{number}.2 lladdr {other} dev {name} nud permanent\n\
             neigh add fd03::{number}:2 lladdr {other} dev {name} nud permanent\n\
             route add 10.201.{number}.0/24 dev {name}\n\
             route add fd01:0:0:{number:x}::/64 dev {name}\n\
             route add default via 10.203.{number}.2 dev {name} onlink table {table}\n\
             route add default via fd03::{number}:2 dev {name} onlink table {table}"
        );
    }
    for address in OWN {
        let _ = writeln!(text, "address add {address} dev lo");
    }
    text
}

/// Returns the routing rules of one family. A packet with an outgoing interface takes it, even if the
/// destination is the host's.
fn rules() -> String {
    let mut text = String::new();
    for number in 1..=NAMES.len() {
        let table = 100 + number;
        let _ = writeln!(text, "rule add pref {table} fwmark {number} lookup {table}");
    }
    text.push_str("rule add pref 200 lookup local\nrule del pref 0\n");
    text
}

fn batch(sandbox: &Sandbox, flags: &[&str], lines: &str) -> Result<()> {
    let path = sandbox.write("batch", lines)?;
    output(
        sandbox
            .namespace()
            .command("ip")
            .args(flags)
            .arg("-batch")
            .arg(path),
    )?;
    Ok(())
}

/// The sets of the witnesses: the hook, whether it is before dfw, and the name.
fn sets() -> impl Iterator<Item = (&'static str, bool, String)> {
    let hooks = [Hook::Input, Hook::Forward].map(Hook::name).into_iter();
    hooks.flat_map(|hook| {
        [true, false].map(|before| {
            let when = if before { "before" } else { "behind" };
            (hook, before, format!("{hook}-{when}"))
        })
    })
}

/// The table that gives frames their fate, and that of the witnesses.
fn witnesses() -> String {
    let mut text = "table inet judge {\n".to_owned();
    for (hook, before, set) in sets() {
        // Behind dfw, and before the rules of all others at `filter`.
        let priority = if before { -10 } else { -1 };
        let _ = writeln!(
            text,
            "set {set} {{ type ether_addr; size 65535; flags dynamic; }}\n\
             chain {set} {{\n\
             type filter hook {hook} priority {priority}; policy accept;\n\
             add @{set} {{ ether saddr }}\n\
             }}"
        );
    }
    text.push_str("chain way { type filter hook prerouting priority -350; policy accept;\n");
    for number in 1..=NAMES.len() {
        let _ = writeln!(
            text,
            "ether saddr & 00:00:00:00:ff:00 == 00:00:00:00:{number:02x}:00 meta mark set {number}"
        );
    }
    text.push_str("ether saddr & 00:ff:00:00:00:00 == 00:01:00:00:00:00 notrack\n}\n");
    text.push_str("chain translate { type nat hook prerouting priority -100; policy accept;\n");
    for number in 0..=10_u8 {
        let is = format!(
            "ether saddr & 00:00:00:00:00:ff == 00:00:00:00:00:{:02x}",
            number + 1
        );
        let (v4, v6) = (behind(number, true), behind(number, false));
        let _ = writeln!(
            text,
            "{is} meta nfproto ipv4 meta l4proto {{ tcp, udp }} dnat ip to {v4}:{TRANSLATED}\n\
             {is} meta nfproto ipv4 dnat ip to {v4}\n\
             {is} meta nfproto ipv6 meta l4proto {{ tcp, udp }} dnat ip6 to [{v6}]:{TRANSLATED}\n\
             {is} meta nfproto ipv6 dnat ip6 to {v6}"
        );
    }
    text.push_str("}\n}\n");
    text
}
