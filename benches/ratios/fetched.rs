//! A long list that is fetched, of which a little changes while guard runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use dfw::guard::Answer;
use dfw::policy::{Format, parse_list};
use dfw::store::Policies;
use dfw::text::SourceMap;

use crate::cost::Cost;
use crate::dfw;
use crate::goal::Goals;
use crate::race::{Track, median};
use crate::size::{Scale, short};
use crate::sources::{self, Kind};
use crate::support::netns::Namespace;

/// As many as a list must be able to have, and how many of them change each time.
const MANY: usize = 1_000_000;
const CHANGED: usize = 100;
/// The first change and the next one: what guard keeps of a former list counts.
const CHANGES: usize = 2;
/// How long guard may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);

const POLICY: &str = "default: deny\n\
    sources: {many: {url: \"https://lists.example.com/many\", max: 2000000}}\n\
    ports: {53/udp: [many]}\n";

/// Lets guard follow a list of each size.
pub(crate) fn changes(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    for &size in scale.lists().iter().rev().take(2) {
        let all = sources::sources(Kind::Lists, size + CHANGES * CHANGED, 1);
        let mut costs: [Vec<Cost>; CHANGES] = Default::default();
        for round in 0..track.rounds {
            let folder = track.dir().join(format!("guard-{size}-{round}"));
            let round = track.inside(|[namespace]| measure(namespace, &folder, &all, size))?;
            fs::remove_dir_all(&folder)?;
            for (costs, cost) in costs.iter_mut().zip(round) {
                costs.push(cost);
            }
        }
        for (costs, which) in costs.iter().zip(["first", "second"]) {
            let of = |part: fn(&Cost) -> f64| median(costs.iter().map(part).collect());
            let cost = Cost {
                cpu: of(|c| c.cpu),
                wall: of(|c| c.wall),
                peak: of(|c| c.peak),
            };
            let changed = short(CHANGED);
            let work = format!("{which} {changed} changed in {} fetched", short(size));
            track.note(&work, "dfw guard", costs.len(), cost);
            let limit = |wanted, small| scale.limit(size == MANY, wanted, small);
            goals.at_most(&work, "guard, ms", cost.cpu, limit(500.0, 100.0));
            goals.at_most(&work, "above its size, MiB", cost.peak, limit(30.0, 10.0));
        }
    }
    Ok(())
}

/// Measures what each change costs a guard: its processor time, and how far its peak is above its size before.
fn measure(namespace: &Namespace, folder: &Path, all: &[String], size: usize) -> Result<Vec<Cost>> {
    let guard = Guard::start(namespace, folder)?;
    let (list, others) = all.split_at(size);
    let mut list = list.to_vec();
    guard.fetch(&list)?;
    let mut costs = Vec::new();
    for others in others.chunks(CHANGED) {
        for (number, other) in others.iter().enumerate() {
            list[number * (size / CHANGED)].clone_from(other);
        }
        let (cpu, before) = (guard.processor_time()?, guard.memory("VmRSS:")?);
        guard.forget_peak()?;
        let began = Instant::now();
        guard.fetch(&list)?;
        costs.push(Cost {
            cpu: guard.processor_time()? - cpu,
            wall: began.elapsed().as_secs_f64() * 1e3,
            peak: guard.memory("VmHWM:")? - before,
        });
    }
    Ok(costs)
}

/// A guard and the cache that it reads.
struct Guard {
    child: Child,
    folder: PathBuf,
    /// The list in the cache.
    list: PathBuf,
}

impl Guard {
    fn start(namespace: &Namespace, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("cache"))?;
        let policy = folder.join("policy.yaml");
        fs::write(&policy, POLICY)?;
        let policies = Policies::read(SourceMap::new(), &policy);
        let policies = policies.map_err(|wrong| Error::msg(format!("{wrong:?}")))?;
        let (_, _, fetched) = policies.policy.fetched().next().context("no source")?;
        let list = folder.join("cache").join(fetched.request.key());
        let mut command: Command = namespace.command(dfw());
        let child = command
            .args(["guard", "--docker-host", "none", "--state"])
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(folder.join("guard.sock"))
            .arg(&policy)
            .env("DFW_CACHE", folder.join("cache"))
            // As in dfw.service.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let guard = Self {
            child,
            folder: folder.to_owned(),
            list,
        };
        until("its start", || guard.kept())?;
        Ok(guard)
    }

    /// Puts a list into the cache; returns when it is in force and kept for the next boot.
    fn fetch(&self, sources: &[String]) -> Result<()> {
        let kept = self.kept();
        let new = self.folder.join("new");
        // As the fetcher writes it: sorted, and networks that touch are one.
        let list = parse_list(sources::list(sources).into_bytes(), &Format::Lines);
        let list = list.map_err(Error::msg)?;
        fs::write(&new, list.lines().to_string())?;
        fs::rename(&new, &self.list)?;
        until("a change", || self.kept().filter(|now| Some(*now) != kept))?;
        let Answer::Status(status) = dfw::guard::ask(&self.folder.join("guard.sock")) else {
            bail!("guard does not answer");
        };
        let entries = status["sources"][0]["entries"].as_u64();
        ensure!(entries == Some(list.len() as u64), "{status}");
        Ok(())
    }

    /// The last good policies: each new file has another number.
    fn kept(&self) -> Option<u64> {
        let file = fs::metadata(self.folder.join("state/last-good"));
        file.ok().map(|file| file.ino())
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    /// Returns a line of its memory, in MiB.
    fn memory(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        let number: f64 = number.context("no memory")?;
        Ok(number / 1024.0)
    }

    /// Lets the peak begin at its size now: see `clear_refs` in proc(5).
    fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(self.proc("clear_refs"), "5")?)
    }

    /// Returns its processor time since its start, and the kernel's for it, in milliseconds.
    fn processor_time(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
        #[expect(clippy::cast_precision_loss, reason = "it is a hundred")]
        let second = rustix::param::clock_ticks_per_second() as f64;
        Ok(ticks.iter().sum::<f64>() / second * 1e3)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = done() {
            return Ok(done);
        }
        ensure!(Instant::now() < end, "guard takes too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
