//! Policies compared with each other, without a kernel.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::cost::{Cost, Work};
use crate::dfw;
use crate::goal::Goals;
use crate::load;
use crate::race::{Contender, Track};
use crate::size::{Scale, short};
use crate::sources::{self, Kind};

/// As many sources as a list must be able to have, and how many of them change.
const MANY: usize = 1_000_000;
const CHANGED: usize = 1_000;
/// How many sources each port has, and how many ports get another one.
const SOURCES: usize = 10;
const CHANGED_PORTS: usize = 20;

/// Compares policies of many sources and of many ports.
pub(crate) fn differences(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    for &size in scale.lists() {
        let changed = CHANGED.min(size / 10);
        let mut all = sources::sources(Kind::Lists, size + changed, 1);
        let new = all.split_off(size);
        let list = track.write("old.txt", &sources::list(&all))?;
        let old = load::policy(track, &list)?;
        for (number, new) in new.into_iter().enumerate() {
            all[number * (size / changed)] = new;
        }
        let list = track.write("new.txt", &sources::list(&all))?;
        let new = load::policy(track, &list)?;
        let work = format!("diff of {}, {changed} changed", short(size));
        let limit = |wanted, small| scale.limit(size == MANY, wanted, small);
        let cost = race(track, goals, &work, (&old, &new))?;
        waited(goals, &work, &cost, limit(1500.0, 100.0));
        goals.at_most(&work, "peak of diff, MiB", cost.peak, limit(200.0, 30.0));
    }
    for &ports in scale.ports() {
        let sources = sources::sources(Kind::Singles, ports * SOURCES + ports, 2);
        let old = track.write("old.yaml", &policy(ports, &sources, 0))?;
        let some = track.write("some.yaml", &policy(ports, &sources, CHANGED_PORTS))?;
        let all = track.write("all.yaml", &policy(ports, &sources, ports))?;
        for (new, what) in [(&some, "some"), (&all, "all")] {
            let ports_name = short(ports);
            let work = format!("diff of {ports_name} ports of {SOURCES}, {what} changed");
            let limit = |wanted, small| scale.limit(ports == 1_000, wanted, small);
            let cost = race(track, goals, &work, (&old, new))?;
            waited(goals, &work, &cost, limit(100.0, 100.0));
        }
    }
    Ok(())
}

/// Notes how long somebody waits for the answer: both families are compared at once, each on a processor.
fn waited(goals: &mut Goals, work: &str, cost: &Cost, limit: Option<f64>) {
    goals.at_most(work, "diff, ms", cost.wall, limit);
    goals.at_most(work, "diff, ms of processors", cost.cpu, None);
}

/// Lets `diff` run beside `check`, which reads one of both policies.
fn race(
    track: &mut Track,
    goals: &mut Goals,
    work: &str,
    (old, new): (&Path, &Path),
) -> Result<Cost> {
    let diff = Work::new([
        dfw().as_ref(),
        "diff".as_ref(),
        old.as_os_str(),
        new.as_os_str(),
    ]);
    let check = Work::new([dfw().as_ref(), "check".as_ref(), new.as_os_str()]);
    let contenders = [
        Contender::new("dfw diff", diff),
        Contender::new("dfw check", check),
    ];
    let costs = track.race(work, &contenders)?;
    let diff = costs["dfw diff"];
    goals.at_most(
        work,
        "diff / check",
        diff.cpu / costs["dfw check"].cpu,
        None,
    );
    Ok(diff)
}

/// A policy of ports with sources of their own, of which some have another one instead.
fn policy(ports: usize, sources: &[String], changed: usize) -> String {
    let (lists, others) = sources.split_at(ports * SOURCES);
    let mut text = "default: deny\nports:\n".to_owned();
    for (port, list) in lists.chunks(SOURCES).enumerate() {
        let mut list = list.to_vec();
        if port * changed / ports != (port + 1) * changed / ports {
            list[0].clone_from(&others[port]);
        }
        let _ = writeln!(text, "  {}: [{}]", 10_000 + port, list.join(", "));
    }
    text
}
