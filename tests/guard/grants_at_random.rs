//! Grants, other policies, other guards, flushes and time, by chance: who gets in is what a plain list of all grants
//! says, at every moment. `DFW_SEED` repeats a run.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Named;
use crate::daemon::{Daemon, until};
use crate::fetched::status;
use crate::namespace::Sandbox;
use crate::support::probe::{Outcome, SILENCE, Transport, ask};
use crate::support::service::spawn;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[(
    "random_grants_admit_as_a_list_does",
    random_grants_admit_as_a_list_does,
)];

/// How exact an end is.
const EXACT: Duration = Duration::from_secs(1);
/// The clients, and the host.
const CLIENTS: [&str; 10] = [
    "198.51.100.1",
    "198.51.100.2",
    "198.51.100.3",
    "198.51.100.4",
    "198.51.100.5",
    "198.51.100.6",
    "198.51.100.7",
    "198.51.100.8",
    "2001:db8::1",
    "2001:db8::2",
];
const HOST: [&str; 2] = ["198.51.100.254", "2001:db8::fe"];
/// The ports of the host's services.
const PORTS: [u16; 3] = [5432, 8000, 8001];
/// What a grant is for.
const TO: [(&str, Range<u16>); 3] = [
    ("5432", 5432..5433),
    ("8000-8001", 8000..8002),
    ("8001", 8001..8002),
];
/// The sources of grants, and which last parts of addresses they are.
const FROM: [(&str, bool, Range<u32>); 9] = [
    ("198.51.100.3", false, 3..4),
    ("198.51.100.5", false, 5..6),
    ("198.51.100.8", false, 8..9),
    ("198.51.100.0/30", false, 0..4),
    ("198.51.100.4/30", false, 4..8),
    ("198.51.100.0/29", false, 0..8),
    ("198.51.100.3-198.51.100.6", false, 3..7),
    ("2001:db8::1", true, 1..2),
    ("2001:db8::/64", true, 0..u32::MAX),
];
/// The seconds of a grant.
const TIMES: [u64; 5] = [2, 3, 5, 8, 50];

/// A policy: its longest grant in seconds, what a grant may name, and whether it has an entry for all ports.
struct Policy {
    grants: Option<(u64, &'static [u16])>,
    is_whole: bool,
}

const POLICIES: [Policy; 5] = [
    Policy {
        grants: Some((60, &PORTS)),
        is_whole: true,
    },
    Policy {
        grants: Some((4, &PORTS)),
        is_whole: true,
    },
    Policy {
        grants: Some((60, &[5432])),
        is_whole: true,
    },
    Policy {
        grants: Some((60, &PORTS)),
        is_whole: false,
    },
    Policy {
        grants: None,
        is_whole: true,
    },
];

impl Policy {
    /// The text, with a port that no other version has.
    fn text(&self, version: u16) -> String {
        let grants = self.grants.map_or_else(String::new, |(most, ports)| {
            let ports = if ports.len() > 1 {
                "5432, 8000-8001"
            } else {
                "5432"
            };
            format!("grants: {{max-time: {most}s, ports: [{ports}]}}\n")
        });
        let more = if self.is_whole {
            "  8000-8001: {allow: [], deny-with: reject}\n"
        } else {
            ""
        };
        format!(
            "default: deny\n{grants}ports:\n  5432: {{allow: [], deny-with: reject}}\n{more}  {version}: any\n"
        )
    }

    fn names(&self, port: u16) -> bool {
        self.is_whole || port == 5432
    }

    fn allows(&self, to: &Range<u16>) -> bool {
        let is_given = |(_, ports): (u64, &[u16])| to.clone().all(|port| ports.contains(&port));
        self.grants.is_some_and(is_given) && to.clone().any(|port| self.names(port))
    }
}

/// A grant of the list.
#[derive(Debug, Clone)]
struct Grant {
    id: u64,
    from: usize,
    to: usize,
    /// When it was given, between two moments, and for how long.
    made: Range<Instant>,
    time: Duration,
}

impl Grant {
    fn end(&self) -> Range<Instant> {
        self.made.start + self.time..self.made.end + self.time
    }
}

struct World {
    host: Sandbox,
    far: Sandbox,
    guard: Option<Daemon>,
    random: u64,
    policy: usize,
    version: u16,
    list: Vec<Grant>,
    next: u64,
    /// How often a client had to get in, and had not to.
    seen: [u32; 2],
}

impl World {
    fn new(random: u64) -> Result<Self> {
        let (host, far) = (Sandbox::new()?, Sandbox::new()?);
        host.namespace().ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            far.namespace().path().display()
        ))?;
        for (sandbox, addresses) in [(&host, &HOST[..]), (&far, &CLIENTS[..])] {
            let namespace = sandbox.namespace();
            for address in addresses {
                let (bits, nodad) = if address.contains(':') {
                    (64, "nodad")
                } else {
                    (24, "")
                };
                namespace.ip(&format!("address add {address}/{bits} dev eth0 {nodad}"))?;
            }
            namespace.ip("link set eth0 up")?;
        }
        let services = PORTS.map(|port| format!("tcp:{port}"));
        host.namespace()
            .run(|| spawn(&services.each_ref().map(String::as_str)))?;
        host.write("policies/a.yaml", POLICIES[0].text(7000))?;
        let mut world = Self {
            host,
            far,
            guard: None,
            random,
            policy: 0,
            version: 7000,
            list: Vec::new(),
            next: 1,
            seen: [0; 2],
        };
        world.start()?;
        Ok(world)
    }

    fn start(&mut self) -> Result<()> {
        self.guard = Some(Daemon::start(&self.host, &["--no-owner"])?);
        // The rules of the one before are there already.
        until("policies in force", || {
            let is_in_force = status(&self.host).ok()?["in_force"] == "policies";
            is_in_force.then_some(())
        })?;
        self.is_settled()
    }

    fn random(&mut self, below: usize) -> usize {
        // The generator of Knuth's MMIX.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or_default() % below
    }

    fn grant(&self, words: &[&str]) -> Result<crate::namespace::Report> {
        let socket = self.host.dir().join("guard.sock");
        let socket = socket.to_string_lossy();
        self.host
            .dfw(&[&["grant"], words, &["--socket", &*socket]].concat())
    }

    /// Waits until this version of the policy is in force, and guard has the grants of the list.
    fn is_settled(&self) -> Result<()> {
        let version = self.version.to_string();
        until("the policy", || {
            self.host.listing().ok()?.contains(&version).then_some(())
        })?;
        until("the grants of the list", || {
            let report = self.grant(&["list", "--json"]).ok()?;
            let document: Value = serde_json::from_str(&report.stdout).ok()?;
            let now = Instant::now();
            let listed = document["grants"].as_array()?.iter();
            let listed: Vec<u64> = listed.filter_map(|grant| grant["id"].as_u64()).collect();
            let lasts = |grant: &&Grant| grant.end().start > now + EXACT;
            let has_all = self
                .list
                .iter()
                .filter(lasts)
                .all(|g| listed.contains(&g.id));
            let is_known = |id: &u64| self.list.iter().any(|grant| grant.id == *id);
            (has_all && listed.iter().all(is_known)).then_some(())
        })
    }

    fn add(&mut self) -> Result<()> {
        let (from, to) = (self.random(FROM.len()), self.random(TO.len()));
        let seconds = TIMES[self.random(TIMES.len())];
        self.give(from, to, seconds)
    }

    fn give(&mut self, from: usize, to: usize, seconds: u64) -> Result<()> {
        let time = format!("{seconds}s");
        let before = Instant::now();
        let report = self.grant(&["add", FROM[from].0, "--to", TO[to].0, "--for", &time])?;
        let policy = &POLICIES[self.policy];
        let is_short = policy.grants.is_some_and(|(most, _)| seconds <= most);
        let is_given = is_short && policy.allows(&TO[to].1);
        ensure!(
            report.code == Some(i32::from(!is_given)),
            "{} to {} for {time}: {report:?}",
            FROM[from].0,
            TO[to].0
        );
        if is_given {
            self.list.push(Grant {
                id: self.next,
                from,
                to,
                made: before..Instant::now(),
                time: Duration::from_secs(seconds),
            });
            self.next += 1;
        }
        Ok(())
    }

    /// Revokes all of somebody.
    fn revoke(&mut self) -> Result<()> {
        let of = self.random(FROM.len());
        let (what, is_v6, all) = &FROM[of];
        let is_meant = |grant: &Grant| {
            let (_, v6, range) = &FROM[grant.from];
            v6 == is_v6 && all.start <= range.start && range.end <= all.end
        };
        let now = Instant::now();
        let report = self.grant(&["revoke", what])?;
        // One that ends just now may be there still, or not.
        let is_sure = |grant: &&Grant| is_meant(grant) && grant.end().start > now + EXACT;
        let is_needed = self.list.iter().any(|grant| is_sure(&grant));
        ensure!(report.code == Some(0) || !is_needed, "{what}: {report:?}");
        self.list.retain(|grant| !is_meant(grant));
        Ok(())
    }

    fn change_policy(&mut self) -> Result<()> {
        self.policy = self.random(POLICIES.len());
        self.version += 1;
        let policy = &POLICIES[self.policy];
        self.host
            .write("policies/a.yaml", policy.text(self.version))?;
        self.list.retain(|grant| policy.allows(&TO[grant.to].1));
        if let Some((most, _)) = policy.grants {
            for grant in &mut self.list {
                grant.time = grant.time.min(Duration::from_secs(most));
            }
        }
        self.is_settled()
    }

    /// Waits until the grant that ends next has ended in the kernel.
    fn wait(&mut self) -> Result<()> {
        let next = self.list.iter().min_by_key(|grant| grant.end().start);
        let Some(next) = next.filter(|grant| grant.time <= Duration::from_secs(8)) else {
            return Ok(());
        };
        let id = next.id;
        until("the next end", || {
            let report = self.grant(&["list", "--json"]).ok()?;
            let document: Value = serde_json::from_str(&report.stdout).ok()?;
            let mut listed = document["grants"].as_array()?.iter();
            listed.all(|grant| grant["id"] != id).then_some(())
        })
    }

    fn step(&mut self) -> Result<&'static str> {
        let what = self.random(20);
        Ok(match what {
            0..10 => {
                self.add()?;
                "add"
            }
            10..12 => {
                self.revoke()?;
                "revoke"
            }
            12..15 => {
                self.change_policy()?;
                "policy"
            }
            15 | 16 => {
                let guard = self.guard.take().context("no guard")?;
                let is_killed = what == 15;
                if is_killed {
                    guard.kill()?;
                } else {
                    guard.stop()?;
                }
                // The kernel alone, and the next guard.
                self.check()?;
                self.start()?;
                "another guard"
            }
            17 => {
                self.host.nft("flush ruleset")?;
                let guard = self.guard.as_mut().context("no guard")?;
                guard.expect("restored after ")?;
                "flush"
            }
            _ => {
                self.wait()?;
                "wait"
            }
        })
    }

    /// Fails unless the clients that the list admits get in, and no others.
    fn check(&mut self) -> Result<()> {
        let now = Instant::now();
        self.list.retain(|grant| grant.end().end + 2 * EXACT > now);
        for client in CLIENTS {
            let source: IpAddr = client.parse()?;
            let last = match source {
                IpAddr::V4(address) => u32::from(address.octets()[3]),
                IpAddr::V6(address) => u32::from(address.segments()[7]),
            };
            let host: IpAddr = HOST[usize::from(source.is_ipv6())].parse()?;
            for port in PORTS {
                if !POLICIES[self.policy].names(port) {
                    continue;
                }
                let ends: Vec<Range<Instant>> = (self.list.iter())
                    .filter(|grant| {
                        let (_, is_v6, range) = &FROM[grant.from];
                        *is_v6 == source.is_ipv6()
                            && range.contains(&last)
                            && TO[grant.to].1.contains(&port)
                    })
                    .map(Grant::end)
                    .collect();
                let before = Instant::now();
                let to = SocketAddr::new(host, port);
                let outcome = self
                    .far
                    .namespace()
                    .run(|| ask(Transport::Tcp, Some(source), to, SILENCE))?;
                let after = Instant::now();
                let gets_in = outcome == Outcome::Open;
                let must = ends.iter().any(|end| end.start > after + EXACT);
                let must_not = ends.iter().all(|end| end.end + EXACT < before);
                ensure!(
                    (!must || gets_in) && !(must_not && gets_in),
                    "{client} at port {port}: {outcome:?}, by {:?}",
                    self.list
                );
                self.seen[0] += u32::from(must);
                self.seen[1] += u32::from(must_not);
            }
        }
        Ok(())
    }
}

fn random_grants_admit_as_a_list_does() -> Result<()> {
    let seed = match std::env::var("DFW_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => rand_seed()?,
    };
    let steps = if is_long() { 600 } else { 30 };
    let mut world = World::new(seed)?;
    let mut story = Vec::new();
    // By chance no grant may be given at all in a short run.
    world.give(0, 0, 50)?;
    world.check()?;
    for number in 0..steps {
        let done = world.step().and_then(|what| {
            story.push(what);
            world.check()
        });
        done.with_context(|| format!("DFW_SEED={seed}, step {number} after {story:?}"))?;
    }
    let [admitted, denied] = world.seen;
    eprintln!("{steps} steps: {admitted} times admitted, {denied} times denied");
    ensure!(admitted > 0 && denied > 0, "DFW_SEED={seed}: {story:?}");
    Ok(())
}

/// A seed by chance.
fn rand_seed() -> Result<u64> {
    let bytes = std::fs::read("/proc/sys/kernel/random/uuid")?;
    let text = String::from_utf8(bytes)?;
    let (digits, _) = text.split_once('-').context("no number")?;
    Ok(u64::from_str_radix(digits, 16)?)
}
