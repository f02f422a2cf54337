//! Members, hosts, pushers and the network fail at random: each host has one whole generation at every moment, and in the
//! end all have the last one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dfw::kernel::Kernel;

use crate::Named;
use crate::cluster::MEMBERS;
use crate::daemon::Daemon;
use crate::fleet::{Fleet, Host};
use crate::support::netns::Namespace;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[(
    "whatever_dies_no_host_has_a_mixture",
    whatever_dies_no_host_has_a_mixture,
)];

const HOSTS: [&str; 4] = ["canary-1", "web-1", "web-2", "web-3"];

/// Ports that all have the number of the generation.
fn policy(number: u32) -> String {
    let address = format!("198.18.{}.{}", number >> 8, number & 255);
    format!("default: deny\nports: {{22: [{address}], 443: [{address}], 8443: [{address}]}}\n")
}

/// Returns the generations that rules are of.
fn generations(rules: &str) -> Vec<u32> {
    let mut found: Vec<u32> = rules
        .match_indices("198.18.")
        .filter_map(|(at, text)| {
            let rest = &rules[at + text.len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (high, low) = rest[..end].split_once('.')?;
            Some((high.parse::<u32>().ok()? << 8) + low.parse::<u32>().ok()?)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Looks at the rules of a host until told to stop; fails if they are of none or of several generations.
fn look(namespace: &Namespace, is_over: &AtomicBool, highest: &AtomicU32) -> Result<u32> {
    namespace.run(|| {
        let kernel = Kernel::open()?;
        let mut looks = 0;
        while !is_over.load(Ordering::Relaxed) {
            let installed = kernel.snapshot()?.installed;
            let highest = highest.load(Ordering::SeqCst);
            let rules = installed.map(|installed| installed.ruleset.to_string());
            let rules = rules.unwrap_or_default();
            let found = generations(&rules);
            ensure!(
                matches!(found[..], [one] if one <= highest),
                "a mixture of {found:?} (pushed: {highest}): {rules}"
            );
            looks += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(looks)
    })
}

/// Random numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }
}

fn whatever_dies_no_host_has_a_mixture() -> Result<()> {
    let seconds = if is_long() { 600 } else { 20 };
    let mut fleet = Fleet::new(&HOSTS, &[])?;
    let mut hosts = fleet.hosts(&HOSTS)?;
    fleet.policy(&policy(1))?;
    let report = fleet.push(&["--now", "--settle", "0"])?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in &hosts {
        host.until("in-force")?;
    }
    let (is_over, highest) = (AtomicBool::new(false), AtomicU32::new(1));
    let namespaces: Vec<Namespace> = hosts
        .iter()
        .map(|host| host.sandbox.namespace().clone())
        .collect();
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let (looks, done) = std::thread::scope(|scope| {
        let looks: Vec<_> = namespaces
            .iter()
            .map(|namespace| scope.spawn(|| look(namespace, &is_over, &highest)))
            .collect();
        let done = fail(
            &mut fleet,
            &mut hosts,
            &highest,
            (seed, Duration::from_secs(seconds)),
        );
        is_over.store(true, Ordering::Relaxed);
        let looks: Vec<_> = looks
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        (looks, done)
    });
    let deeds = done?;
    let mut sum = 0;
    for look in looks {
        sum += look.map_err(|_| anyhow::anyhow!("a look panicked"))??;
    }
    let last = highest.load(Ordering::SeqCst);
    eprintln!("{deeds} failures, {last} generations, {sum} looks");
    ensure!(deeds > 5 && sum > 100);
    Ok(())
}

/// Has things fail for so long; then all are well, and all hosts get the last policies.
fn fail(
    fleet: &mut Fleet,
    hosts: &mut [Host],
    highest: &AtomicU32,
    (seed, time): (u64, Duration),
) -> Result<u32> {
    let mut random = Random(seed | 1);
    let end = Instant::now() + time;
    let (mut deeds, mut down, mut parted) = (0, None, None);
    while Instant::now() < end {
        deeds += 1;
        let host = random.below(hosts.len());
        match random.below(6) {
            0 => {
                // One member at a time: else nothing can be pushed for most of the time.
                if let Some(member) = down.take() {
                    fleet.cluster.start_member(member, "existing")?;
                } else {
                    let member = random.below(MEMBERS.len());
                    fleet.cluster.kill(member)?;
                    down = Some(member);
                }
            }
            1 => {
                if let Some(member) = parted.take() {
                    fleet.cluster.join(member)?;
                } else {
                    let member = random.below(MEMBERS.len());
                    fleet.cluster.part(member)?;
                    parted = Some(member);
                }
            }
            2 => {
                if let Some(guard) = hosts[host].guard.take() {
                    guard.kill()?;
                }
                hosts[host].start_guard()?;
            }
            3 => {
                if let Some(fetcher) = hosts[host].fetcher.take() {
                    fetcher.kill()?;
                }
                hosts[host].start_fetcher()?;
            }
            _ => {
                let number = highest.fetch_add(1, Ordering::SeqCst) + 1;
                fleet.policy(&policy(number))?;
                let policies = fleet.cluster.sandbox().dir().join("p");
                let policies = policies.to_string_lossy().into_owned();
                let words = fleet.signing(&["push", &policies, "--now", "--settle", "0"]);
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                let push = Daemon::of(fleet.command(&words)?)?;
                std::thread::sleep(Duration::from_millis(
                    100 * u64::try_from(random.below(30))?,
                ));
                push.kill()?;
            }
        }
    }
    if let Some(member) = down {
        fleet.cluster.start_member(member, "existing")?;
    }
    if let Some(member) = parted {
        fleet.cluster.join(member)?;
    }
    fleet.cluster.until_healthy()?;
    let number = highest.fetch_add(1, Ordering::SeqCst) + 1;
    fleet.policy(&policy(number))?;
    let report = fleet.push(&["--now", "--settle", "0", "--patience", "5m"])?;
    ensure!(report.code == Some(0), "{report:?}");
    for host in hosts.iter() {
        let found = generations(&host.rules()?);
        ensure!(found == [number], "{}: {found:?}, not {number}", host.name);
    }
    Ok(deeds)
}
