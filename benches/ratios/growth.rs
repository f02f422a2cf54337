//! How costs grow with the size: of lists, policies, hosts and grants.
//!
//! Each size is measured beside all others of its series, round by round. What the smallest one costs is the fixed
//! share, such as the start of the program; above it, the exponent of a fit says how costs grow: 1 is a cost for each
//! entry, 2 is a cost for each pair of entries.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use dfw::guard::{Answer, Request};

use crate::containers::{Host, as_f64};
use crate::cost::{Cost, Work};
use crate::daemon::Guard;
use crate::goal::Goals;
use crate::race::{Track, median};
use crate::size::{Scale, short};
use crate::sources::{self, Kind};
use crate::{dfw, load};

/// The greatest exponent.
const LINEAR: f64 = 1.15;
/// How far a cost must be above the fixed share to say something of growth, as a part of that share.
const ABOVE: f64 = 0.5;
/// How many sources each port has.
const SOURCES: usize = 10;

/// What the names of all series begin with.
pub(crate) const GROWTH: &str = "growth: ";

/// Measures all series.
pub(crate) fn growth(track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    let lists: &[usize] = match scale {
        Scale::Small => &[10, 1_000, 20_000],
        _ => &[10, 100, 1_000, 10_000, 100_000, 1_000_000],
    };
    let many: &[usize] = match scale {
        Scale::Small => &[1, 100, 1_000],
        _ => &[1, 10, 100, 1_000, 10_000],
    };
    let thousands: &[usize] = match scale {
        Scale::Small => &[1, 20, 200],
        _ => &[1, 10, 100, 1_000],
    };
    let hosts: &[usize] = match scale {
        Scale::Small => &[1, 50, 500],
        _ => &[1, 10, 100, 1_000, 5_000],
    };
    let list = |track: &Track, size| {
        let all = sources::sources(Kind::Lists, size, 5);
        let list = track.write(&format!("growth-{size}.txt"), &sources::list(&all))?;
        load::policy(track, &list)
    };
    applies(track, goals, ("sources", lists), list)?;
    applies(track, goals, ("ports", many), ports)?;
    applies(track, goals, ("files", thousands), files)?;
    audits(track, goals, hosts)?;
    grants(track, goals, many)
}

/// Measures the first apply of policies of each size.
fn applies(
    track: &mut Track,
    goals: &mut Goals,
    (what, sizes): (&str, &[usize]),
    policy: impl Fn(&Track, usize) -> Result<PathBuf>,
) -> Result<()> {
    let policies = sizes.iter().map(|size| policy(track, *size));
    let policies = policies.collect::<Result<Vec<_>>>()?;
    let mut costs = vec![Vec::new(); sizes.len()];
    for _ in 0..track.rounds {
        for (policy, costs) in policies.iter().zip(&mut costs) {
            let apply = Work::new([dfw().as_ref(), "apply".as_ref(), policy.as_os_str()]);
            costs.push(track.inside(|[namespace]| apply.measure(namespace))?.cpu);
        }
    }
    report(track, goals, what, sizes, costs);
    Ok(())
}

fn ports(track: &Track, size: usize) -> Result<PathBuf> {
    let all = sources::sources(Kind::Lists, size * SOURCES, 3);
    let mut policy = "default: deny\nports:\n".to_owned();
    for (port, sources) in (1..=size).zip(all.chunks(SOURCES)) {
        let _ = writeln!(policy, "  {port}: [{}]", sources.join(", "));
    }
    track.write(&format!("growth-ports-{size}.yaml"), &policy)
}

/// A folder of policies with a port each.
fn files(track: &Track, size: usize) -> Result<PathBuf> {
    let folder = track.dir().join(format!("growth-files-{size}"));
    fs::create_dir_all(&folder)?;
    let all = sources::sources(Kind::Lists, size * SOURCES, 3);
    for (number, sources) in all.chunks(SOURCES).enumerate() {
        let default = if number == 0 { "default: deny\n" } else { "" };
        let text = format!(
            "{default}ports:\n  {}: [{}]\n",
            1 + number,
            sources.join(", ")
        );
        fs::write(folder.join(format!("{number:05}.yaml")), text)?;
    }
    Ok(folder)
}

/// Measures `audit` with containers that an engine runs.
fn audits(track: &mut Track, goals: &mut Goals, sizes: &[usize]) -> Result<()> {
    let hosts = sizes.iter().map(|size| Host::new(track, *size));
    let hosts = hosts.collect::<Result<Vec<_>>>()?;
    let mut costs = vec![Vec::new(); sizes.len()];
    for _ in 0..track.rounds {
        for (host, costs) in hosts.iter().zip(&mut costs) {
            let cost = track.inside(|[namespace]| host.audit().run(namespace))?;
            costs.push(cost.cpu);
        }
    }
    report(track, goals, "containers", sizes, costs);
    Ok(())
}

/// Measures guard's share of giving so many permissions at once.
fn grants(track: &mut Track, goals: &mut Goals, sizes: &[usize]) -> Result<()> {
    let folder = track.dir().join("growth-grants");
    fs::create_dir_all(&folder)?;
    let policy = "default: deny\ngrants: {max-time: 8h, ports: [5432]}\nports: {5432: []}\n";
    let policy = track.write("growth-grants.yaml", policy)?;
    let mut costs = vec![Vec::new(); sizes.len()];
    for _ in 0..track.rounds {
        for (size, costs) in sizes.iter().zip(&mut costs) {
            let cost = track.inside(|[namespace]| {
                let guard = Guard::start(namespace, &folder, &policy, None)?;
                grant(&guard, *size)
            })?;
            costs.push(cost);
            fs::remove_dir_all(folder.join("state"))?;
        }
    }
    report(track, goals, "grants", sizes, costs);
    Ok(())
}

fn grant(guard: &Guard, size: usize) -> Result<f64> {
    // None touches another.
    let from = (0..size).map(|n| format!("10.{}.{}.{}", n >> 15, n >> 7 & 255, (2 * n) & 255));
    let request = Request::Add {
        from: from.collect(),
        to: "5432".to_owned(),
        seconds: 3600,
        reason: String::new(),
    };
    let before = guard.processor_time()?;
    match dfw::guard::request(&guard.socket(), &request) {
        Answer::Status(answer) if answer["error"].is_null() => Ok(guard.processor_time()? - before),
        other => bail!("no grant: {other:?}"),
    }
}

/// Notes the medians of a series and how they grow.
fn report(track: &mut Track, goals: &mut Goals, what: &str, sizes: &[usize], costs: Vec<Vec<f64>>) {
    let mut points = Vec::new();
    for (size, costs) in sizes.iter().zip(costs) {
        let rounds = costs.len();
        let cpu = median(costs);
        let cost = Cost {
            cpu,
            wall: 0.0,
            peak: 0.0,
        };
        track.note(
            &format!("{GROWTH}{} {what}", short(*size)),
            "dfw",
            rounds,
            cost,
        );
        points.push((as_f64(*size), cpu));
    }
    let work = format!("{GROWTH}{what}");
    if let Some(exponent) = exponent(&points) {
        goals.at_most(&work, "exponent", exponent, Some(LINEAR));
    }
}

/// Returns the exponent of the fit of costs above those of the first size; `None` if fewer than two sizes cost
/// more than that.
fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let ((_, fixed), larger) = points.split_first()?;
    let above = larger.iter().filter_map(|(size, cost)| {
        let above = cost - fixed;
        (above > fixed * ABOVE).then(|| (size.ln(), above.ln()))
    });
    let points: Vec<(f64, f64)> = above.collect();
    if points.len() < 2 {
        return None;
    }
    let mean =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / as_f64(points.len());
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let together: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let alone: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    Some(together / alone)
}
