//! What guard costs in a system that runs it, and what it may do there. The figures in docs/guard.md
//! are what these trials print, whole and with a release build on an idle machine.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::Named;
use crate::guest::PATIENCE;
use crate::site::Site;
use crate::support::command::wait_for;

pub(crate) const TRIALS: &[Named] = &[
    ("an_idle_guard_costs_nothing", an_idle_guard_costs_nothing),
    (
        "the_unit_is_confined_as_documented",
        the_unit_is_confined_as_documented,
    ),
];

fn an_idle_guard_costs_nothing() -> Result<()> {
    const WHILE: Duration = Duration::from_secs(10);
    /// Signs of life, and timers that are set anew; who polls wakes hundreds of times.
    const WAKES: u64 = 30;
    /// Others may have made it slow once, but not each time.
    const TRIES: usize = 3;
    let (site, _) = Site::guarded()?;
    site.is_settled()?;
    site.closed()?;
    let pid = site.pid()?;
    let worked = || -> Result<Duration> {
        // Of each thread, the first number is its time on a processor in nanoseconds
        // (Documentation/scheduler/sched-stats.rst). The hundredths of a second in `stat` turn over
        // at any moment, so one of them says nothing.
        let stat = site.run(&format!("cat /proc/{pid}/task/*/schedstat"))?;
        let times = stat.lines().map(|thread| {
            let time = thread.split_whitespace().next().context("no time")?;
            Ok(Duration::from_nanos(time.parse()?))
        });
        times.sum()
    };
    let wakes = || -> Result<u64> {
        let count = format!("cat /proc/{pid}/task/*/status | grep ^voluntary_ctxt_switches");
        let counts = site.run(&count)?;
        let counts = counts.lines().map(|thread| {
            let count = thread.split_whitespace().last().context("no count")?;
            Ok(count.parse::<u64>()?)
        });
        counts.sum()
    };
    // For two seconds after the last container or link has come, guard still looks for sockets of
    // docker-proxy.
    wait_for("guard to rest", PATIENCE, || {
        let before = wakes().ok()?;
        // Time itself is what is measured here.
        std::thread::sleep(Duration::from_secs(1));
        (wakes().ok()? == before).then_some(())
    })?;
    let mut least = WHILE;
    for _ in 0..TRIES {
        let before = (worked()?, wakes()?);
        ensure!(!before.0.is_zero(), "the kernel does not count time");
        std::thread::sleep(WHILE);
        let spent = worked()?
            .checked_sub(before.0)
            .context("a thread of guard's has ended")?;
        let woken = wakes()? - before.1;
        let status = site.run(&format!("grep -E 'VmRSS|RssAnon' /proc/{pid}/status"))?;
        let status: Vec<_> = status.split_whitespace().collect();
        eprintln!(
            "idle for {WHILE:?}: {spent:?} of CPU, woken {woken} times, {}",
            status.join(" ")
        );
        ensure!(
            woken <= WAKES,
            "an idle guard has woken {woken} times within {WHILE:?}"
        );
        least = least.min(spent);
        if least < WHILE / 1000 {
            return Ok(());
        }
    }
    bail!("an idle guard has worked for {least:?} within {WHILE:?}, and longer")
}

fn the_unit_is_confined_as_documented() -> Result<()> {
    let (site, _) = Site::guarded()?;
    let said = site.run("systemd-analyze security --no-pager dfw.service | tail -1")?;
    let level = |text: &str, before: &str| -> Result<f64> {
        let level = text.split_once(before).context("no level")?.1;
        let level = level.split_whitespace().next().context("no level")?;
        Ok(level.trim_end_matches('.').parse()?)
    };
    let found = level(&said, "dfw.service: ")?;
    let documented = level(
        include_str!("../../docs/guard.md"),
        "`systemd-analyze security dfw` says ",
    )?;
    eprintln!("systemd-analyze security: {found}, documented as {documented}");
    ensure!(found <= documented, "{said}");
    // It has given up by itself what the unit cannot know, and could do so.
    let pid = site.pid()?;
    let status = site.run(&format!("cat /proc/{pid}/status"))?;
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000081004"] {
        ensure!(status.contains(line), "no {line} in {status}");
    }
    let journal = site.journal();
    for complaint in [
        "cannot drop",
        "cannot filter",
        "cannot restrict",
        "no Landlock",
    ] {
        ensure!(!journal.contains(complaint), "{journal}");
    }
    Ok(())
}
