//! What a packet costs on its way through the host, judged by dfw, by hand-written rules, by nobody.
//!
//! ```text
//!  client ── eth0 ┐         ┌ docker0 ── eth0 container
//!                 └ [host] ─┘
//! ```
//!
//! A thread sends, and the kernel carries each packet all the way through the host before the call
//! returns. So the thread's processor time is the sender's share and the way through the host; the
//! former is measured with a host that drops everything as it comes in, and taken off. Who receives
//! drops what reaches it. Each judge has a host of its own, and all take turns after a millisecond each,
//! so that what else the machine does slows all of them alike.

use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cost::Cost;
use crate::dfw;
use crate::frame::{self, Segment};
use crate::goal::Goals;
use crate::race::{Track, median};
use crate::sender::{Sender, stay_on_one_processor};
use crate::size::{Scale, short};
use crate::sources::{self, Kind};
use crate::support::command::{output, wait_for};
use crate::support::netns::Namespace;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PORT: u16 = 53;
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// The source port of the first connection that is established; the others have those after it.
const FIRST_FLOW: u16 = 40_000;
/// How many source ports are used by others, from 10,000.
const PORTS: usize = 29_989;
/// How many connections there are at once.
const FLOWS: usize = 64;
/// How often each judge has its turn in a round: few enough that conntrack has room for all new connections.
const TURNS: usize = 100;
/// The same of a small run.
const FEW_TURNS: usize = 30;

/// How long a packet may take to come through.
const PATIENCE: Duration = Duration::from_secs(20);

const HOST_MAC: &str = "02:00:00:00:00:01";
const BRIDGE_MAC: &str = "02:00:00:00:00:04";

/// Docker's part, as far as a published port needs it.
const PUBLISHED: &str = "
table ip docker {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        iifname \"eth0\" tcp dport 53 dnat to 172.17.0.2:53
        iifname \"eth0\" udp dport 53 dnat to 172.17.0.2:53
    }
}
";
pub(crate) const DROP_ALL: &str = "
table netdev bench {
    chain ingress { type filter hook ingress device \"eth0\" priority 0; policy drop; }
}
";
/// What a host needs beside it, so that nothing of the container comes in.
const DROP_REPLIES: &str = "
table netdev bench {
    chain replies { type filter hook ingress device \"veth0\" priority 0; policy drop; }
}
";

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Judge {
    /// Everything is dropped as it comes in: what is left is the sender's share.
    Sender,
    Nobody,
    Dfw,
    /// The same with `early-drop: false`.
    Late,
    /// The same with `connection-mark: true`.
    Marked,
    /// A rule for each source as people write it for one port, which must name the incoming interface
    /// so that containers are exempt; by iptables-nft.
    DockerUser,
}

const JUDGES: [(Judge, &str); 6] = [
    (Judge::Sender, "sender"),
    (Judge::Nobody, "no firewall"),
    (Judge::Dfw, "dfw"),
    (Judge::Late, "dfw, early-drop: false"),
    (Judge::Marked, "dfw, marked"),
    (Judge::DockerUser, "DOCKER-USER"),
];

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packet {
    Established,
    /// Of the container, in established connections.
    Reply,
    New,
    Denied,
    /// A denied UDP datagram; the others are segments of TCP.
    Datagram,
}

const PACKETS: [(Packet, &str); 5] = [
    (Packet::Established, "established packet"),
    (Packet::Reply, "reply"),
    (Packet::New, "new connection"),
    (Packet::Denied, "denied connection"),
    (Packet::Datagram, "denied UDP"),
];

/// Nanoseconds of each kind of packet in each turn.
type Prices = [Vec<f64>; PACKETS.len()];

/// One list of sources in the forms that judges read.
struct Forms {
    turns: usize,
    addresses: Vec<Ipv4Addr>,
    policy: PathBuf,
    late: PathBuf,
    marked: PathBuf,
    iptables: PathBuf,
}

pub(crate) fn packets(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    // Where a host has its memory is felt, and only new ones change it.
    let rounds = track.rounds * 2;
    for &size in scale.packets() {
        let forms = Forms::new(track, size, scale)?;
        // Nobody can wait for a million rules.
        let judges = JUDGES.len() - usize::from(size > 10_000);
        let mut prices: Vec<[Vec<f64>; PACKETS.len()]> = vec![Default::default(); judges];
        for _ in 0..rounds {
            let round = track.inside(|spaces: &[Namespace; 3 * JUDGES.len()]| {
                let sites = spaces.as_chunks().0.iter();
                let paths = sites.zip(JUDGES).take(judges);
                let paths = paths.map(|(spaces, (judge, _))| Path::open(&forms, spaces, judge));
                let mut paths = paths.collect::<Result<Vec<_>>>()?;
                // In a thread of its own: what else is measured uses all processors.
                spaces[0].run(|| forms.take_turns(&mut paths))
            })?;
            for (all, round) in prices.iter_mut().zip(round) {
                for (all, round) in all.iter_mut().zip(round) {
                    all.push(median(round));
                }
            }
        }
        for (at, (kind, name)) in PACKETS.into_iter().enumerate() {
            let work = format!("{name}, {} sources", short(size));
            let price = |judge: Judge| Some(median(prices.get(judge as usize)?[at].clone()));
            let own = price(Judge::Sender).context("no sender")?;
            let of = |judge| price(judge).map(|price| price - own);
            for (judge, name) in &JUDGES[1..] {
                if let Some(nanoseconds) = of(*judge) {
                    let cost = Cost {
                        cpu: nanoseconds / 1e6,
                        wall: nanoseconds / 1e6,
                        peak: 0.0,
                    };
                    track.note(&work, name, rounds, cost);
                }
            }
            let (Some(nobody), Some(dfw), Some(late), Some(marked)) = (
                of(Judge::Nobody),
                of(Judge::Dfw),
                of(Judge::Late),
                of(Judge::Marked),
            ) else {
                continue;
            };
            let limits = Limits::of(kind, size);
            goals.at_most(&work, "dfw / no firewall", dfw / nobody, limits.dfw);
            goals.at_most(
                &work,
                "early-drop: false / no firewall",
                late / nobody,
                limits.late,
            );
            if let Some(more) = limits.more {
                goals.at_most(&work, "dfw / early-drop: false", dfw / late, Some(more));
            }
            goals.at_most(
                &work,
                "marked / no firewall",
                marked / nobody,
                limits.marked,
            );
            if let Some(by_hand) = of(Judge::DockerUser).filter(|_| kind != Packet::Datagram) {
                goals.at_least(&work, "DOCKER-USER / dfw", by_hand / dfw, limits.by_hand);
            }
        }
    }
    Ok(())
}

/// The limits of a row.
#[derive(Default)]
struct Limits {
    /// Of dfw as it is, in parts of no firewall.
    dfw: Option<f64>,
    /// Without early drop.
    late: Option<f64>,
    /// With it, in parts of without.
    more: Option<f64>,
    marked: Option<f64>,
    by_hand: Option<f64>,
}

impl Limits {
    fn of(kind: Packet, size: usize) -> Self {
        let is_small = size <= 10_000;
        match kind {
            Packet::Established | Packet::Reply => Self {
                dfw: is_small.then_some(1.25),
                late: is_small.then_some(1.2),
                more: Some(1.05),
                marked: is_small.then_some(1.05),
                ..Self::default()
            },
            Packet::New => Self {
                dfw: is_small.then_some(1.45),
                late: is_small.then_some(1.2),
                ..Self::default()
            },
            Packet::Denied => Self {
                dfw: (size == 1_000).then_some(0.45),
                by_hand: match size {
                    1_000 => Some(6.0),
                    10_000 => Some(50.0),
                    _ => None,
                },
                ..Self::default()
            },
            Packet::Datagram => Self::default(),
        }
    }
}

impl Forms {
    fn new(track: &Track, size: usize, scale: Scale) -> Result<Self> {
        let all = sources::sources(Kind::Lists, size, 4);
        let list = track.write("packets.txt", &sources::list(&all))?;
        let name = list.file_name().unwrap_or_default().to_string_lossy();
        let policy = |file, settings| {
            let text = format!(
                "default: deny\nsources: {{many: {{file: {name}}}}}\n\
                 ports: {{53: [many], 53/udp: [many]}}\nsettings: {{{settings}}}\n"
            );
            track.write(file, &text)
        };
        let mut iptables = "*filter\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n".to_owned();
        for source in &all {
            let _ = writeln!(
                iptables,
                "-A DOCKER-USER -i eth0 -p tcp -s {source} --dport 53 -j RETURN"
            );
        }
        iptables.push_str("-A DOCKER-USER -i eth0 -p tcp --dport 53 -j DROP\nCOMMIT\n");
        let first = |text: &String| {
            let address = text.split('/').next().unwrap_or_default();
            address.parse::<Ipv4Addr>()
        };
        // Evenly from the first to the last, singles and networks alike.
        let some = (0..FLOWS).map(|n| &all[n * all.len() / FLOWS]);
        Ok(Self {
            turns: if scale == Scale::Small {
                FEW_TURNS
            } else {
                TURNS
            },
            addresses: some.map(first).collect::<Result<_, _>>()?,
            policy: policy("packets.yaml", "")?,
            late: policy("late.yaml", "early-drop: false")?,
            marked: policy("marked.yaml", "connection-mark: true")?,
            iptables: track.write("packets.iptables", &iptables)?,
        })
    }

    fn judge(&self, host: &Namespace, judge: Judge) -> Result<()> {
        match judge {
            Judge::Sender | Judge::Nobody => {}
            Judge::Dfw | Judge::Late | Judge::Marked => {
                let policy = match judge {
                    Judge::Late => &self.late,
                    Judge::Marked => &self.marked,
                    _ => &self.policy,
                };
                output(host.command(dfw()).arg("apply").arg(policy))?;
            }
            Judge::DockerUser => {
                output(host.command("iptables-nft-restore").arg(&self.iptables))?;
            }
        }
        Ok(())
    }

    /// Returns what each path said in each of its turns.
    fn take_turns(&self, paths: &mut [Path]) -> Result<Vec<Prices>> {
        stay_on_one_processor()?;
        let mut prices = vec![Prices::default(); paths.len()];
        for turn in 0..self.turns {
            for at in 0..paths.len() {
                // Nobody is always the first.
                let at = (at + turn) % paths.len();
                for (price, (kind, _)) in prices[at].iter_mut().zip(PACKETS) {
                    price.push(paths[at].price(kind)?);
                }
            }
        }
        Ok(prices)
    }
}

/// A client, a host with its judge, and a container.
struct Path<'a> {
    addresses: &'a [Ipv4Addr],
    client: Sender,
    container: Sender,
    established: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
    /// How many packets were sent that must be new ones.
    sent: usize,
}

impl<'a> Path<'a> {
    fn open(
        forms: &'a Forms,
        [host, client, container]: &[Namespace; 3],
        judge: Judge,
    ) -> Result<Self> {
        wire(host, client, container)?;
        let first = to_port(Segment::Datagram, forms.addresses[0], 9_999);
        await_wires(client, container, &first)?;
        forms.judge(host, judge)?;
        let flows = |segment| -> Vec<Vec<u8>> {
            let sources = forms.addresses.iter().zip(FIRST_FLOW..);
            sources
                .map(|(source, port)| to_port(segment, *source, port))
                .collect()
        };
        let established = flows(Segment::Ack);
        if judge == Judge::Sender {
            load(host, DROP_ALL)?;
            load(host, DROP_REPLIES)?;
            load(container, DROP_ALL)?;
        } else {
            establish(host, client, container, &flows(Segment::Syn), &established)?;
        }
        load(client, DROP_ALL)?;
        let flows = forms.addresses.iter().copied().zip(FIRST_FLOW..);
        let reply = |to| frame::packet(Segment::Ack, (CONTAINER, PORT), to);
        Ok(Self {
            addresses: &forms.addresses,
            client: client.run(|| Sender::open(SERVER))?,
            container: container.run(|| Sender::open(forms.addresses[0]))?,
            established,
            replies: flows.map(reply).collect(),
            sent: 0,
        })
    }

    /// Returns the nanoseconds of one packet in one turn.
    fn price(&mut self, kind: Packet) -> Result<f64> {
        let addresses = self.addresses;
        // As the number of ports is prime, it takes long until the same source has the same port again.
        let mut next = || {
            self.sent += 1;
            let port = 10_000 + u16::try_from(self.sent % PORTS).unwrap_or_default();
            (self.sent, port)
        };
        match kind {
            Packet::Established => self.client.turn(|at| &self.established[at % FLOWS]),
            Packet::Reply => self.container.turn(|at| &self.replies[at % FLOWS]),
            Packet::New => self.client.turn(|_| {
                let (number, port) = next();
                to_port(Segment::Syn, addresses[number % FLOWS], port)
            }),
            Packet::Denied => self.client.turn(|_| {
                let (number, port) = next();
                to_port(Segment::Syn, stranger(number), port)
            }),
            Packet::Datagram => self.client.turn(|_| {
                let (number, port) = next();
                to_port(Segment::Datagram, stranger(number), port)
            }),
        }
    }
}

/// An address in no list.
fn stranger(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(
        240,
        0,
        0,
        u8::try_from(number / PORTS % 250).unwrap_or_default(),
    )
}

/// A packet to the published port.
fn to_port(segment: Segment, source: Ipv4Addr, port: u16) -> Vec<u8> {
    frame::packet(segment, (source, port), (SERVER, PORT))
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
    host.ip(&format!("link set docker0 address {BRIDGE_MAC}"))?;
    container.ip(&format!(
        "neigh add 172.17.0.1 lladdr {BRIDGE_MAC} dev eth0"
    ))?;
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
fn await_wires(client: &Namespace, container: &Namespace, packet: &[u8]) -> Result<()> {
    let server = container.run(|| Ok(UdpSocket::bind(("172.17.0.2", PORT))?))?;
    server.set_read_timeout(Some(PATIENCE / 200))?;
    let sender = client.run(|| Sender::open(SERVER))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        sender.send(packet)?;
        match server.recv(&mut [0; 64]) {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < deadline, "the wires stay dead: {error}"),
        }
    }
}

/// Lets the container answer each flow once, so that the host knows it in both directions.
fn establish(
    host: &Namespace,
    client: &Namespace,
    container: &Namespace,
    first: &[Vec<u8>],
    later: &[Vec<u8>],
) -> Result<()> {
    // The segments have no numbers that fit those of the container.
    host.sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1")?;
    let _server = container.run(|| Ok(TcpListener::bind(("172.17.0.2", PORT))?))?;
    let sender = client.run(|| Sender::open(SERVER))?;
    for packet in first {
        sender.send(packet)?;
    }
    let known = |state: &str| {
        let mut list = host.command("conntrack");
        let list = list.args(["-L", "-p", "tcp", "--state", state]);
        let count = |text: String| text.lines().count();
        output(list).is_ok_and(|text| count(text) == first.len())
    };
    wait_for("answers", PATIENCE, || known("SYN_RECV").then_some(()))?;
    // It would reset what it does not understand.
    load(container, DROP_ALL)?;
    for packet in later {
        sender.send(packet)?;
    }
    wait_for("connections", PATIENCE, || {
        known("ESTABLISHED").then_some(())
    })
}
