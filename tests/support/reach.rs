//! The audit both ways: every port that answers a client is listed as open to it, and every port that is listed
//! as open to a client answers it.
//!
//! Clients ask every address of the host and of its containers: over TCP at listening ports and those that the
//! audit lists, at the ports beside these, and at a random sample; over UDP at the ports that are bound. Where
//! trials run whole, unlisted clients ask all TCP ports under `default: deny`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::audit::audit;
use super::command::output;
use super::helper::HELPER;
use super::lab::Lab;
use super::netns::Namespace;
use super::probe::Transport;
use super::property::seed;
use super::scan::Scan;
use super::size::is_long;

/// Ports of every kind: for one source, for all, for nobody by name, and for nobody because no key names them.
const POLICY: &str = r#"
default: deny
sources:
  trusted: [203.0.113.20, "2001:db8:1::20"]
ports:
  80: [trusted]
  8083: any
  203.0.113.10:8082: [trusted]
  8084: []
  8085: [trusted]
  8086: any
  5353/udp: [trusted]
  5384/udp: any
  9000-9001: [trusted]
  9002: any
  7000: [trusted]
  7000/udp: any
  7004: [trusted]
"#;

/// A client.
#[derive(Clone, Copy)]
struct Asker {
    name: &'static str,
    is_on_link: bool,
    /// Whether the policy has a source of this name.
    is_listed: bool,
    /// Whether packets for 127.0.0.1 leave it.
    sends_loopback: bool,
}

const fn asker(name: &'static str, is_on_link: bool, is_listed: bool) -> Asker {
    Asker {
        name,
        is_on_link,
        is_listed,
        sends_loopback: false,
    }
}

const ASKERS: &[Asker] = &[
    asker("stranger", false, false),
    Asker {
        sends_loopback: true,
        ..asker("wire", true, false)
    },
    asker("trusted", true, true),
];

/// The size of the random sample of ports.
const SAMPLE: usize = 300;

/// Services of the host, and a container that joins the network of a container with host networking.
const SERVICES: &str = "tcp:2022 udp:2023 tcp4:2024 tcp:7004";
const JOINED: &str = "tcp:7002 udp:7003";

/// Compares the audit with what answers: under `default: deny`, and if wanted without dfw and under
/// `default: allow` as well.
pub(crate) fn both_ways(lab: &Lab, all_stages: bool) -> Result<()> {
    let me = std::env::current_exe()?;
    let me = me.display();
    lab.script(&format!(
        "{{ {me} {HELPER} serve {SERVICES} </dev/null >/dev/null 2>&1 & echo $! >/run/services.pid; }}"
    ))?;
    let tried = lab
        .run("joined", "--network container:open-host", JOINED)
        .and_then(|()| lab.wait_until_open("tcp localhost:7002"))
        .and_then(|()| lab.wait_until_open("tcp localhost:7004"))
        .and_then(|()| {
            let mut wrong = Vec::new();
            if all_stages {
                wrong.extend(wrong_now(lab, "without dfw", false)?);
            }
            for (default, is_whole) in [("default: deny", is_long()), ("default: allow", false)] {
                if !all_stages && default == "default: allow" {
                    continue;
                }
                lab.apply(&POLICY.replace("default: deny", default))?;
                wrong.extend(wrong_now(lab, default, is_whole)?);
            }
            none_is_wrong(&wrong)
        });
    lab.script("kill $(cat /run/services.pid)")?;
    lab.docker("rm --force joined")?;
    tried
}

/// Compares the audit with what answers under one default, without services of the trial's own.
pub(crate) fn guarded_now(lab: &Lab, default: &str) -> Result<()> {
    lab.apply(&POLICY.replace("default: deny", default))?;
    none_is_wrong(&wrong_now(lab, default, false)?)
}

fn none_is_wrong(wrong: &[String]) -> Result<()> {
    let (count, all) = (wrong.len(), wrong.join("\n"));
    ensure!(wrong.is_empty(), "{count} ports are wrong:\n{all}");
    Ok(())
}

/// A row of the audit.
struct Listed {
    address: IpAddr,
    /// All ports of the address where there is none.
    port: Option<u16>,
    transport: Transport,
    /// Whether it takes a common link to get there.
    on_link: bool,
    /// Whether it is a container's own port, which nobody need have bound.
    is_container: bool,
    open_to: OpenTo,
    text: String,
}

enum OpenTo {
    Any,
    /// The sources of the policy of these names.
    Sources(Vec<String>),
    /// Not judged: whether it answers is not dfw's to say.
    Unknown,
}

/// Reads the audit. This is the only place that knows its keys.
fn listed(audit: &Value) -> Result<Vec<Listed>> {
    let rows = |key: &str| audit[key].as_array().with_context(|| format!("no {key}"));
    let rows = rows("paths")?.iter().chain(rows("services")?);
    rows.map(|row| listed_by(row).with_context(|| row.to_string()))
        .collect()
}

fn listed_by(row: &Value) -> Result<Listed> {
    let open_to = match (&row["open_to"], row["verdict"].as_str()) {
        (Value::Null, Some("not-judged")) => OpenTo::Unknown,
        (Value::String(any), Some("allow")) if any == "any" => OpenTo::Any,
        // A stranger is denied where some sources are allowed.
        (Value::Array(_), Some("allow" | "deny")) => {
            OpenTo::Sources(serde_json::from_value(row["open_to"].clone())?)
        }
        _ => bail!("the verdict does not fit"),
    };
    Ok(Listed {
        address: serde_json::from_value(row["address"].clone())?,
        port: serde_json::from_value(row["port"].clone())?,
        transport: match row["protocol"].as_str() {
            Some("udp") => Transport::Udp,
            _ => Transport::Tcp,
        },
        on_link: row["reach"] == "on-link",
        is_container: row["path"] == "container",
        open_to,
        text: row.to_string(),
    })
}

impl Listed {
    /// Whether a client may get in by this row.
    fn may_let_in(&self, asker: &Asker) -> bool {
        let is_open = match &self.open_to {
            OpenTo::Any | OpenTo::Unknown => true,
            OpenTo::Sources(names) => asker.is_listed && names.iter().any(|it| it == asker.name),
        };
        is_open && (asker.is_on_link || !self.on_link)
    }

    /// Whether a client must be answered where somebody listens behind the row.
    fn lets_in(&self, asker: &Asker) -> bool {
        let is_known = matches!(self.open_to, OpenTo::Any | OpenTo::Sources(_));
        is_known && self.may_let_in(asker)
    }

    /// Returns whether the row is about a destination. An unspecified address is every address of the host.
    fn is_about(&self, transport: Transport, asked: SocketAddr, host: &[IpAddr]) -> bool {
        let every = self.address.is_unspecified()
            && self.address.is_ipv4() == asked.is_ipv4()
            && host.contains(&asked.ip());
        let all_ports = self.port.is_none();
        (self.address == asked.ip() || every)
            && (all_ports || self.transport == transport && self.port == Some(asked.port()))
    }
}

/// A network namespace: its addresses, and its bound sockets.
struct Place {
    addresses: Vec<IpAddr>,
    sockets: Vec<Bound>,
}

/// A bound port.
struct Bound {
    transport: Transport,
    port: u16,
    /// Other hosts reach it through a translation or a proxy at most.
    is_loopback: bool,
}

impl Place {
    fn look(namespace: &Namespace, addresses: Vec<IpAddr>) -> Result<Self> {
        let sockets = namespace.run(|| {
            let mut sockets = bound(Transport::Tcp, "tcp", "0A")?;
            sockets.extend(bound(Transport::Udp, "udp", "07")?);
            Ok(sockets)
        })?;
        Ok(Self { addresses, sockets })
    }
}

/// The sockets in a state, in this thread's namespace and in both families.
fn bound(transport: Transport, protocol: &str, state: &str) -> Result<Vec<Bound>> {
    let mut sockets = Vec::new();
    for family in ["", "6"] {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}"))?;
        for line in table.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().and_then(|local| local.split_once(':'));
            let (address, port) = local.with_context(|| format!("no socket: {line}"))?;
            if fields.nth(1) == Some(state) {
                sockets.push(Bound {
                    transport,
                    port: u16::from_str_radix(port, 16)?,
                    // Words of the machine's byte order, which is that of all machines that have engines.
                    is_loopback: address.len() == 8 && address.ends_with("7F")
                        || address == "00000000000000000000000001000000",
                });
            }
        }
    }
    Ok(sockets)
}

/// The host first, and then each container that has addresses of its own.
fn places(lab: &Lab) -> Result<Vec<Place>> {
    let host = lab.host()?;
    let links = output(host.command("ip").args(["-json", "address"]))?;
    let links: Value = serde_json::from_str(&links)?;
    let mut addresses = Vec::new();
    for link in links.as_array().into_iter().flatten() {
        for address in link["addr_info"].as_array().into_iter().flatten() {
            // Of the addresses of links, a client on the same link as the first card knows that one.
            let is_asked = address["scope"] == "global"
                || address["local"] == "127.0.0.1"
                || address["scope"] == "link" && link["ifname"] == "eth0";
            if is_asked {
                addresses.push(serde_json::from_value(address["local"].clone())?);
            }
        }
    }
    let mut places = vec![Place::look(host, addresses)?];
    let names = lab.docker("ps --format {{.Names}}")?;
    for name in names.split_whitespace() {
        let addresses: Vec<IpAddr> = [name.to_owned(), format!("{name}6")]
            .iter()
            .filter_map(|name| lab.address(name).ok())
            .filter(|address| !places[0].addresses.contains(address))
            .collect();
        if !addresses.is_empty() {
            places.push(Place::look(&lab.client(name)?.namespace, addresses)?);
        }
    }
    Ok(places)
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// What must answer, and what does.
type Scanned = (Transport, BTreeSet<SocketAddr>, BTreeSet<SocketAddr>);

/// Everything that one comparison knows.
struct Comparison<'a> {
    lab: &'a Lab,
    places: Vec<Place>,
    listed: Vec<Listed>,
    tcp: Vec<u16>,
    udp: Vec<u16>,
    /// All TCP ports, where unlisted clients ask them.
    whole: Option<Vec<u16>>,
}

/// Returns where the audit and the packets disagree now.
fn wrong_now(lab: &Lab, when: &str, is_whole: bool) -> Result<Vec<String>> {
    let comparison = Comparison::prepare(lab, is_whole).with_context(|| when.to_owned())?;
    let wrong = thread::scope(|scope| {
        let asking: Vec<_> = ASKERS
            .iter()
            .map(|asker| scope.spawn(|| comparison.wrong(asker)))
            .collect();
        let asked = asking
            .into_iter()
            .map(|asker| asker.join().map_err(|_| anyhow!("an asker panicked"))?);
        asked.collect::<Result<Vec<_>>>()
    })
    .with_context(|| when.to_owned())?;
    let wrong = wrong.into_iter().flatten();
    Ok(wrong.map(|wrong| format!("{when}: {wrong}")).collect())
}

/// All ports that are bound anywhere.
fn ports_of(places: &[Place], transport: Transport) -> BTreeSet<u16> {
    let sockets = places.iter().flat_map(|place| &place.sockets);
    let sockets = sockets.filter(|socket| socket.transport == transport);
    sockets.map(|socket| socket.port).collect()
}

/// The TCP ports that are asked where not all are.
fn tcp_ports(places: &[Place], listed: &[Listed]) -> Result<Vec<u16>> {
    let known = ports_of(places, Transport::Tcp).into_iter();
    let known = known.chain(listed.iter().filter_map(|row| row.port));
    let beside = known.flat_map(|port| [port.saturating_sub(1), port, port.saturating_add(1)]);
    let seed = seed()?;
    eprintln!("DFW_SEED={seed}");
    let chance = (0..SAMPLE).map(|number| {
        let mut hasher = DefaultHasher::new();
        (seed, number).hash(&mut hasher);
        let [high, low, ..] = hasher.finish().to_ne_bytes();
        u16::from_ne_bytes([high, low])
    });
    let ports: BTreeSet<u16> = beside.chain(chance).filter(|port| *port != 0).collect();
    Ok(ports.into_iter().collect())
}

impl<'a> Comparison<'a> {
    fn prepare(lab: &'a Lab, is_whole: bool) -> Result<Self> {
        let places = places(lab)?;
        let listed = listed(&audit(lab, &[], None)?)?;
        let tcp = tcp_ports(&places, &listed)?;
        let udp = ports_of(&places, Transport::Udp);
        Ok(Self {
            lab,
            places,
            listed,
            tcp,
            udp: udp.into_iter().collect(),
            whole: is_whole.then(|| (1..=u16::MAX).collect()),
        })
    }

    /// Returns where the audit and what one client finds disagree, a line a port.
    fn wrong(&self, asker: &Asker) -> Result<Vec<String>> {
        let mut wrong: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (transport, expected, found) in self.scanned(asker)? {
            let mut add = |at: &SocketAddr, what: &str, rest: &str| {
                let (name, port) = (asker.name, at.port());
                let what = format!("{transport:?} {port} {what} {name}, and is {rest}");
                wrong.entry(what).or_default().push(at.ip());
            };
            for at in &found {
                let rows = self.rows(transport, *at);
                if !rows.iter().any(|row| row.may_let_in(asker)) {
                    let row = rows.first().map_or("in no row", |row| &row.text);
                    add(at, "answers", &format!("not listed as open to it: {row}"));
                }
            }
            for at in expected.difference(&found) {
                add(at, "does not answer", "listed as open to it");
            }
        }
        let wrong = wrong.into_iter();
        Ok(wrong
            .map(|(what, at)| format!("{what} (at {at:?})"))
            .collect())
    }

    /// Returns what must answer one client and what does, by transport and family.
    fn scanned(&self, asker: &Asker) -> Result<Vec<Scanned>> {
        let ask = |transport, family: &str| -> Result<Scanned> {
            let expected = self.expected(asker, transport, family.is_empty());
            let found = self.found(asker, transport, family, &expected)?;
            Ok((transport, expected, found))
        };
        let ask = &ask;
        // SYNs come in floods, of which each client sends one at a time; few datagrams wait for silence.
        thread::scope(|scope| {
            let datagrams =
                ["", "6"].map(|family| scope.spawn(move || ask(Transport::Udp, family)));
            let mut scans = vec![ask(Transport::Tcp, "")?, ask(Transport::Tcp, "6")?];
            for scan in datagrams {
                scans.push(scan.join().map_err(|_| anyhow!("a scan panicked"))??);
            }
            Ok(scans)
        })
    }

    fn host(&self) -> &[IpAddr] {
        &self.places[0].addresses
    }

    /// The rows about what is asked. A row about all ports is about those that no other row of its address
    /// is about.
    fn rows(&self, transport: Transport, asked: SocketAddr) -> Vec<&Listed> {
        let about = |row: &&Listed| row.is_about(transport, asked, self.host());
        let (exact, all): (Vec<_>, Vec<_>) = self
            .listed
            .iter()
            .filter(about)
            .partition(|row| row.port.is_some());
        if exact.is_empty() { all } else { exact }
    }

    /// The addresses of a place that a client can send to.
    fn addresses(&self, asker: &Asker, is_v4: bool) -> Vec<IpAddr> {
        let all = self.places.iter().flat_map(|place| &place.addresses);
        all.filter(|address| address.is_ipv4() == is_v4)
            .filter(|address| asker.sends_loopback || !address.is_loopback())
            .filter(|address| asker.is_on_link || !is_link_local(address))
            .copied()
            .collect()
    }

    /// What must answer a client: what is published, and of all ports of a container those that are bound.
    fn expected(&self, asker: &Asker, transport: Transport, is_v4: bool) -> BTreeSet<SocketAddr> {
        let mut expected = BTreeSet::new();
        for address in self.addresses(asker, is_v4) {
            let mut places = self.places.iter();
            let place = places.find(|place| place.addresses.contains(&address));
            let sockets = place.into_iter().flat_map(|place| &place.sockets);
            let sockets = sockets.filter(|it| it.transport == transport && !it.is_loopback);
            let listening: BTreeSet<u16> = sockets.map(|socket| socket.port).collect();
            let must_answer = |asked: &SocketAddr| {
                self.rows(transport, *asked).iter().any(|row| {
                    let listens = !row.is_container || listening.contains(&asked.port());
                    // No row about every address of the host is about its loopback ones.
                    let is_led = row.address == address || !address.is_loopback();
                    row.lets_in(asker) && listens && is_led
                })
            };
            let published = self.listed.iter().filter_map(|row| row.port);
            let ports: BTreeSet<u16> = published.chain(listening.iter().copied()).collect();
            let all = ports.iter().map(|port| SocketAddr::new(address, *port));
            expected.extend(all.filter(must_answer));
        }
        expected
    }

    fn found(
        &self,
        asker: &Asker,
        transport: Transport,
        family: &str,
        expected: &BTreeSet<SocketAddr>,
    ) -> Result<BTreeSet<SocketAddr>> {
        let client = self.lab.client(asker.name)?;
        let from = self.lab.address(&format!("{}{family}", asker.name))?;
        let marker = SocketAddr::new(self.lab.address(&format!("host{family}"))?, 22);
        let addresses = self.addresses(asker, family.is_empty());
        let ports = match transport {
            Transport::Tcp => match &self.whole {
                Some(all) if !asker.is_listed => all,
                _ => &self.tcp,
            },
            Transport::Udp => &self.udp,
        };
        let scan = Scan {
            from,
            addresses: &addresses,
            ports,
            expected,
        };
        client.namespace.run(|| match transport {
            Transport::Tcp => scan.tcp(marker),
            Transport::Udp => scan.udp(),
        })
    }
}
