//! A long list that is fetched, of which a little changes while guard runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Error, Result, ensure};
use dfw::policy::{Format, parse_list};
use dfw::store::Policies;
use dfw::text::SourceMap;

use crate::cost::Cost;
use crate::daemon::{Guard, until};
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
/// How often the whole list is replaced.
const REPLACED: usize = 10;

const POLICY: &str = "default: deny\n\
    sources: {many: {url: \"https://lists.example.com/many\", max: 2000000, max-loss: 100%}}\n\
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
    let follower = Follower::start(namespace, folder)?;
    let guard = &follower.guard;
    let (list, others) = all.split_at(size);
    let mut list = list.to_vec();
    follower.fetch(&list)?;
    let mut costs = Vec::new();
    for others in others.chunks(CHANGED) {
        for (number, other) in others.iter().enumerate() {
            list[number * (size / CHANGED)].clone_from(other);
        }
        let (cpu, before) = (guard.processor_time()?, guard.memory("VmRSS:")?);
        guard.forget_peak()?;
        let began = Instant::now();
        follower.fetch(&list)?;
        costs.push(Cost {
            cpu: guard.processor_time()? - cpu,
            wall: began.elapsed().as_secs_f64() * 1e3,
            peak: guard.memory("VmHWM:")? - before,
        });
    }
    Ok(costs)
}

/// Measures the memory of a guard with a long list, and after whole replacements of it.
pub(crate) fn memory(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let size = scale.lists().last().copied().unwrap_or_default();
    let lists = [1, 2].map(|seed| sources::sources(Kind::Lists, size, seed));
    let folder = track.dir().join("replaced");
    let (first, after) = track.inside(|[namespace]| {
        let follower = Follower::start(namespace, &folder)?;
        follower.fetch(&lists[0])?;
        let first = follower.guard.memory("VmRSS:")?;
        for number in 1..=REPLACED {
            follower.fetch(&lists[number % lists.len()])?;
        }
        Ok((first, follower.guard.memory("VmRSS:")?))
    })?;
    fs::remove_dir_all(&folder)?;
    let work = format!("guard with {} sources", short(size));
    let limit = |wanted, small| scale.limit(size == MANY, wanted, small);
    goals.at_most(&work, "memory, MiB", first, limit(45.0, 20.0));
    let what = "after 10 replaced, MiB";
    goals.at_most(&work, what, after, limit(50.0, 25.0));
    Ok(())
}

/// A guard and the list in its cache.
struct Follower {
    guard: Guard,
    folder: PathBuf,
    list: PathBuf,
}

impl Follower {
    fn start(namespace: &Namespace, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("cache"))?;
        let policy = folder.join("policy.yaml");
        fs::write(&policy, POLICY)?;
        let policies = Policies::read(SourceMap::new(), &policy);
        let policies = policies.map_err(|wrong| Error::msg(format!("{wrong:?}")))?;
        let (_, _, fetched) = policies.policy.fetched().next().context("no source")?;
        Ok(Self {
            guard: Guard::start(namespace, folder, &policy, None)?,
            folder: folder.to_owned(),
            list: folder.join("cache").join(fetched.request.key()),
        })
    }

    /// Puts a list into the cache; returns when it is in force and kept for the next boot.
    fn fetch(&self, sources: &[String]) -> Result<()> {
        let kept = self.guard.kept();
        let new = self.folder.join("new");
        // As the fetcher writes it: sorted, and networks that touch are one.
        let list = parse_list(sources::list(sources).into_bytes(), &Format::Lines);
        let list = list.map_err(Error::msg)?;
        fs::write(&new, list.lines().to_string())?;
        fs::rename(&new, &self.list)?;
        until("a change", || {
            self.guard.kept().filter(|now| Some(*now) != kept)
        })?;
        let status = self.guard.status()?;
        let entries = status["sources"][0]["entries"].as_u64();
        ensure!(entries == Some(list.len() as u64), "{status}");
        Ok(())
    }
}
