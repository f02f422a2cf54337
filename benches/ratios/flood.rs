//! Floods of strangers at a published port while an allowed client transfers.
//!
//! The topology is that of [`packets`](crate::packets); here the container serves TCP and takes UDP, and answers
//! whatever reaches it. Three things are measured for each judge: the processor time of the host for each packet of
//! a flood, the connections that conntrack keeps of it, and how much an allowed client still downloads while a flood
//! of a given rate shares its processor.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cost::Cost;
use crate::dfw;
use crate::frame::{self, Segment};
use crate::goal::Goals;
use crate::packets::{DROP_ALL, SERVER, load, wire};
use crate::race::{Track, median};
use crate::sender::{Sender, stay_on_one_processor};
use crate::size::Scale;
use crate::support::command::{output, wait_for};
use crate::support::netns::Namespace;

/// The container, and what it serves.
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const TCP: u16 = 80;
const UDP: u16 = 53;
/// How many packets a flood has in a second while a client transfers.
const RATE: usize = 100_000;
/// How long the client may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is written at once.
const PIECE: usize = 256 * 1024;

/// Docker's part of these two ports.
const PUBLISHED: &str = "
table ip published {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        iifname \"eth0\" tcp dport 80 dnat to 172.17.0.2:80
    }
}
";

const POLICY: &str = "default: deny\nports:\n  80: [203.0.113.2]\n  53/udp: [203.0.113.2]\n";

/// The rules that people write by hand: the allowed source, and nobody else.
const DOCKER_USER: &str = "*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -i eth0 -p tcp -s 203.0.113.2 --dport 80 -j RETURN
-A DOCKER-USER -i eth0 -p udp -s 203.0.113.2 --dport 53 -j RETURN
-A DOCKER-USER -i eth0 -p tcp --dport 80 -j DROP
-A DOCKER-USER -i eth0 -p udp --dport 53 -j DROP
COMMIT
";

/// What ufw-docker adds to `after.rules`, and the two `ufw route allow` of the same policy.
const UFW_DOCKER: &str = "*filter
:DOCKER-USER - [0:0]
:ufw-user-forward - [0:0]
:ufw-docker-logging-deny - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j ufw-user-forward
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A DOCKER-USER -m conntrack --ctstate INVALID -j DROP
-A DOCKER-USER -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN -s 10.0.0.0/8
-A DOCKER-USER -j RETURN -s 172.16.0.0/12
-A DOCKER-USER -j RETURN -s 192.168.0.0/16
-A DOCKER-USER -p udp -m udp --sport 53 --dport 1024:65535 -j RETURN
-A DOCKER-USER -m conntrack --ctstate NEW -d 10.0.0.0/8 -j ufw-docker-logging-deny
-A DOCKER-USER -m conntrack --ctstate NEW -d 172.16.0.0/12 -j ufw-docker-logging-deny
-A DOCKER-USER -m conntrack --ctstate NEW -d 192.168.0.0/16 -j ufw-docker-logging-deny
-A DOCKER-USER -j RETURN
-A ufw-user-forward -p tcp -s 203.0.113.2 -d 172.17.0.2 --dport 80 -j ACCEPT
-A ufw-user-forward -p udp -s 203.0.113.2 -d 172.17.0.2 --dport 53 -j ACCEPT
-A ufw-docker-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"denied \"
-A ufw-docker-logging-deny -j DROP
COMMIT
";

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// Everything is dropped as it comes in: what is left is the sender's share.
    Sender,
    Nobody,
    Dfw,
    DockerUser,
    UfwDocker,
}

const JUDGES: [(Judge, &str); 5] = [
    (Judge::Sender, "sender"),
    (Judge::Nobody, "no firewall"),
    (Judge::Dfw, "dfw"),
    (Judge::DockerUser, "DOCKER-USER"),
    (Judge::UfwDocker, "ufw-docker"),
];

/// What the strangers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    Syn,
    Udp,
}

/// What was measured of a flood, and of a client without one.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// Nanoseconds for each packet.
    price: f64,
    /// How many connections conntrack keeps for each packet.
    entries: f64,
    /// Bytes that the client has got in a second, in parts of those without a flood.
    goodput: f64,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// The processor time of a measured flood, in milliseconds.
    flood: f64,
    /// How long a client transfers.
    transfer: Duration,
    rounds: usize,
}

/// Measures both floods.
pub(crate) fn floods(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let times = match scale {
        Scale::Small => Times {
            flood: 80.0,
            transfer: Duration::from_millis(150),
            rounds: 1,
        },
        _ => Times {
            flood: 200.0,
            transfer: Duration::from_millis(400),
            rounds: track.rounds,
        },
    };
    let files = Files {
        policy: track.write("flood.yaml", POLICY)?,
        docker_user: track.write("docker-user", DOCKER_USER)?,
        ufw_docker: track.write("ufw-docker", UFW_DOCKER)?,
    };
    for (flood, name) in [(Flood::Syn, "SYN"), (Flood::Udp, "UDP")] {
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); JUDGES.len()];
        for round in 0..times.rounds {
            for turn in 0..JUDGES.len() {
                let at = (turn + round) % JUDGES.len();
                let judge = JUDGES[at].0;
                found[at].push(track.inside(|[host, client, container]| {
                    wire(host, client, container)?;
                    load(host, PUBLISHED)?;
                    files.judge(host, judge)?;
                    measure((host, client, container), judge, flood, times)
                })?);
            }
        }
        report(track, goals, name, &found);
    }
    Ok(())
}

/// Notes the medians of one flood.
fn report(track: &mut Track, goals: &mut Goals, name: &str, found: &[Vec<Found>]) {
    let of = |judge: Judge, part: fn(&Found) -> f64| {
        let at = JUDGES.iter().position(|(known, _)| *known == judge);
        at.map_or(f64::NAN, |at| median(found[at].iter().map(part).collect()))
    };
    let own = of(Judge::Sender, |f| f.price);
    let price = |judge| of(judge, |f| f.price) - own;
    let work = format!("flood: {name} of strangers");
    for (judge, contender) in &JUDGES[1..] {
        let nanoseconds = price(*judge);
        let cost = Cost {
            cpu: nanoseconds / 1e6,
            wall: nanoseconds / 1e6,
            peak: 0.0,
        };
        track.note(&work, contender, found[0].len(), cost);
    }
    let syn = name == "SYN";
    let dfw = price(Judge::Dfw);
    let more = price(Judge::Nobody) / dfw;
    goals.at_least(&work, "no firewall / dfw", more, syn.then_some(3.0));
    let more = price(Judge::DockerUser) / dfw;
    goals.at_least(&work, "DOCKER-USER / dfw", more, None);
    let more = price(Judge::UfwDocker) / dfw;
    goals.at_least(&work, "ufw-docker / dfw", more, None);
    for (judge, what) in [
        (Judge::Nobody, "entries, no firewall"),
        (Judge::Dfw, "entries, dfw"),
        (Judge::DockerUser, "entries, DOCKER-USER"),
        (Judge::UfwDocker, "entries, ufw-docker"),
    ] {
        // Of the host itself there may be one or the other.
        let limit = (judge == Judge::Dfw).then_some(0.001);
        goals.at_most(&work, what, of(judge, |f| f.entries), limit);
    }
    for (judge, what) in [
        (Judge::Nobody, "goodput, no firewall"),
        (Judge::Dfw, "goodput, dfw"),
        (Judge::DockerUser, "goodput, DOCKER-USER"),
        (Judge::UfwDocker, "goodput, ufw-docker"),
    ] {
        goals.at_least(&work, what, of(judge, |f| f.goodput), None);
    }
}

/// The rules of each judge.
struct Files {
    policy: PathBuf,
    docker_user: PathBuf,
    ufw_docker: PathBuf,
}

impl Files {
    fn judge(&self, host: &Namespace, judge: Judge) -> Result<()> {
        let (program, words, file) = match judge {
            Judge::Sender => return load(host, DROP_ALL),
            Judge::Nobody => return Ok(()),
            Judge::Dfw => (dfw(), &["apply"][..], &self.policy),
            Judge::DockerUser => ("iptables-nft-restore", &[][..], &self.docker_user),
            Judge::UfwDocker => ("iptables-nft-restore", &[][..], &self.ufw_docker),
        };
        output(host.command(program).args(words).arg(file))?;
        Ok(())
    }
}

type Places<'a> = (&'a Namespace, &'a Namespace, &'a Namespace);

fn measure(places: Places<'_>, judge: Judge, flood: Flood, times: Times) -> Result<Found> {
    let (host, client, container) = places;
    // It is never read: a full socket takes no more.
    let udp = container.run(|| Ok(UdpSocket::bind((CONTAINER, UDP))?))?;
    let listener = container.run(|| Ok(TcpListener::bind((CONTAINER, TCP))?))?;
    let mut found = Found::default();
    if judge != Judge::Sender {
        std::thread::scope(|scope| -> Result<()> {
            let server = scope.spawn(|| serve(&listener, 2));
            let alone = download(client, times.transfer, None)?;
            let flooded = download(client, times.transfer, Some(flood))?;
            found.goodput = flooded / alone;
            match server.join() {
                Ok(done) => done,
                Err(_) => bail!("the server panicked"),
            }
        })?;
    }
    let before = connections(host)?;
    let (price, sent) = client.run(|| {
        stay_on_one_processor()?;
        let sender = Sender::open(SERVER)?;
        let mut sent = 0;
        let price = sender.price(times.flood, |number| {
            sent = number + 1;
            packet(flood, number)
        })?;
        Ok((price, sent))
    })?;
    drop(udp);
    let sent = u32::try_from(sent)?;
    found.price = price;
    found.entries = (connections(host)? - before).max(0.0) / f64::from(sent);
    Ok(found)
}

/// Serves so many clients, one after the other: each gets bytes until it leaves.
fn serve(listener: &TcpListener, clients: usize) -> Result<()> {
    stay_on_one_processor()?;
    listener.set_nonblocking(true)?;
    let bytes = vec![0; PIECE];
    for _ in 0..clients {
        let client = wait_for("a client", 2 * PATIENCE, || listener.accept().ok());
        let (mut stream, _) = client?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        while stream.write_all(&bytes).is_ok() {}
    }
    Ok(())
}

/// Returns how many KiB an allowed client gets in a second.
fn download(client: &Namespace, time: Duration, flood: Option<Flood>) -> Result<f64> {
    client.run(|| {
        stay_on_one_processor()?;
        let mut stream = connect()?;
        let until = Instant::now() + time;
        std::thread::scope(|scope| {
            // A thread starts where its parent is: in the namespace, and on the same processor.
            let flooding = scope.spawn(move || match flood {
                // None of those whose price is measured later.
                Some(flood) => Sender::open(SERVER)?
                    .flood(RATE, until, |number| packet(flood, number + (1 << 20))),
                None => Ok(0),
            });
            let (mut bytes, mut got) = (vec![0; PIECE], 0);
            let began = Instant::now();
            while Instant::now() < until {
                got += stream.read(&mut bytes)?;
            }
            let seconds = began.elapsed().as_secs_f64();
            match flooding.join() {
                Ok(flooded) => flooded?,
                Err(_) => bail!("the flood panicked"),
            };
            Ok(f64::from(u32::try_from(got / 1024)?) / seconds)
        })
    })
}

/// Connects to the published port: a bridge takes a moment until it forwards.
fn connect() -> Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&(SERVER, TCP).into(), PATIENCE / 20) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error).context("no connection"),
            Err(_) => {}
        }
    }
}

/// Returns how many connections conntrack has.
fn connections(host: &Namespace) -> Result<f64> {
    host.run(|| {
        let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
        Ok(text.trim().parse()?)
    })
}

/// A packet of a flood, from a source and a port of its own.
fn packet(flood: Flood, number: usize) -> Vec<u8> {
    let number = u32::try_from(number).unwrap_or_default();
    // 198.18.0.0/15 is reserved for benchmarks; in no list.
    let source = Ipv4Addr::from(0xc612_0000 | number & 0x1_ffff);
    let port = 1024 + u16::try_from(number % 60_000).unwrap_or_default();
    let (segment, to) = match flood {
        Flood::Syn => (Segment::Syn, TCP),
        Flood::Udp => (Segment::Datagram, UDP),
    };
    frame::packet(segment, (source, port), (SERVER, to))
}
