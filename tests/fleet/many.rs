//! Many hosts: how long a push takes, and what hosts and members need.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dfw::kernel::Kernel;

use crate::Named;
use crate::cluster::MEMBERS;
use crate::daemon::Daemon;
use crate::fleet::{Fleet, policy};
use crate::support::netns::Namespace;
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[("many_hosts_take_a_push", many_hosts_take_a_push)];

/// How long all hosts together may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// How many descriptors of inotify this machine gives to a user, which all hosts of the trial share.
struct Instances(Option<String>);

impl Instances {
    const FILE: &str = "/proc/sys/fs/inotify/max_user_instances";

    /// Raises the number for many hosts, until it is dropped.
    fn raise(hosts: usize) -> Result<Self> {
        let former = fs::read_to_string(Self::FILE)?;
        let needed = hosts * 16;
        if former.trim().parse::<usize>()? >= needed || hosts < 20 {
            return Ok(Self(None));
        }
        fs::write(Self::FILE, needed.to_string())?;
        Ok(Self(Some(former)))
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        if let Some(former) = &self.0 {
            let _ = fs::write(Self::FILE, former);
        }
    }
}

/// The memory of a process, of which shared pages count in part, in KiB.
fn pss(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no memory")?.parse()?)
}

/// Waits until a host has the policy of a number; returns for how long, from a moment on.
fn taken(place: &Namespace, number: u32, since: Instant) -> Result<Duration> {
    let address = format!("203.0.113.{number}");
    place.run(|| {
        let kernel = Kernel::open()?;
        let mut seen = None;
        while since.elapsed() < PATIENCE {
            // All hosts share the processors with those who look at them.
            let generation = kernel.generation()?;
            if seen.replace(generation) != Some(generation) {
                let installed = kernel.snapshot()?.installed;
                let rules = installed.map(|installed| installed.ruleset.to_string());
                if rules.is_some_and(|rules| rules.contains(&address)) {
                    return Ok(since.elapsed());
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        anyhow::bail!("{} has not taken it", place.path().display())
    })
}

fn many_hosts_take_a_push() -> Result<()> {
    let count = match std::env::var("DFW_HOSTS") {
        Ok(count) => count.parse()?,
        Err(_) if is_long() => 200,
        Err(_) => 12,
    };
    let _instances = Instances::raise(count)?;
    let names: Vec<String> = (0..count).map(|number| format!("web-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut fleet = Fleet::new(&names, &[])?;
    let hosts = fleet.hosts(&names)?;
    fleet.push_now(1)?;
    for host in &hosts {
        host.until_policy(1)?;
    }
    let idle: Vec<u64> = (0..MEMBERS.len())
        .map(|member| fleet.cluster.ticks(member))
        .collect::<Result<_>>()?;
    let since = Instant::now();
    std::thread::sleep(Duration::from_secs(if is_long() { 20 } else { 1 }));
    let idle_time = since.elapsed();
    let mut idle_ticks = 0;
    for (member, before) in idle.iter().enumerate() {
        idle_ticks += fleet.cluster.ticks(member)? - before;
    }
    let places: Vec<Namespace> = hosts
        .iter()
        .map(|host| host.sandbox.namespace().clone())
        .collect();
    fleet.policy(&policy(2))?;
    let policies = fleet.cluster.sandbox().dir().join("p");
    let words = ["push", &*policies.to_string_lossy(), "--now", "--detach"];
    let words = fleet.signing(&words);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let began = Instant::now();
    let mut push = Daemon::of(fleet.command(&words)?)?;
    // The head is in the store; then old pieces are removed, and the status of all hosts is shown.
    push.expect("pushed: generation 2")?;
    let since = Instant::now();
    let pushed = began.elapsed();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let times: Vec<_> = places
            .iter()
            .map(|place| scope.spawn(move || taken(place, 2, since)))
            .collect();
        times
            .into_iter()
            .map(|time| time.join().map_err(|_| anyhow::anyhow!("panicked"))?)
            .collect::<Result<_>>()
    })?;
    times.sort();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    ensure!(push.end()? == Some(0), "the push failed");
    let report = fleet.signed(&["resume", "--settle", "0"])?;
    ensure!(report.code == Some(0), "{report:?}");
    let (mut guards, mut fetchers) = (Vec::new(), Vec::new());
    for host in &hosts {
        let pid = |daemon: &Option<Daemon>| daemon.as_ref().map(Daemon::pid).context("gone");
        guards.push(pss(pid(&host.guard)?)?);
        fetchers.push(pss(pid(&host.fetcher)?)?);
    }
    let members: Vec<u64> = (0..MEMBERS.len())
        .map(|member| fleet.cluster.memory(member))
        .collect::<Result<_>>()?;
    let most = |of: &[u64]| of.iter().max().copied().unwrap_or_default() >> 10;
    eprintln!(
        "{count} hosts: pushed after {pushed:?}; from then on half after {:?}, 99 % after {:?}, all after {:?}; guard {} MiB, fetch {} MiB, members {:?} KiB; \
         idle {} ms of CPU in {idle_time:?}",
        at(50),
        at(99),
        at(100),
        most(&guards),
        most(&fetchers),
        members,
        idle_ticks * 10,
    );
    Ok(())
}
