//! A fleet of two versions of dfw: hosts and administrators are not upgraded all at once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::daemon::Daemon;
use crate::fleet::{Fleet, Host, policy};
use crate::namespace::Report;
use crate::rollout::STAGES;

pub(crate) const TRIALS: &[Named] = &[(
    "a_fleet_of_two_versions_is_one_fleet",
    a_fleet_of_two_versions_is_one_fleet,
)];

/// The first two run today's program, and the others an older one.
const HOSTS: [&str; 4] = ["canary-1", "new-1", "canary-2", "old-1"];

/// Returns the older program, which `tests/former` builds.
fn elder() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/elder/dfw");
    ensure!(path.exists(), "tests/former has built no program");
    Ok(path)
}

/// Pushes in stages by a version, and waits until all hosts have it and say so.
fn push(fleet: &Fleet, hosts: &[Host], program: Option<&Path>, number: u32) -> Result<()> {
    fleet.policy(&policy(number))?;
    let report = match program {
        None => fleet.push(&STAGES)?,
        Some(program) => {
            let policies = fleet.cluster.sandbox().dir().join("p");
            let policies = policies.to_string_lossy();
            let words = [&["push", &*policies], &STAGES[..]].concat();
            let words = fleet.signing(&words);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            Report::of(&mut fleet.command_of(program, &words)?)?
        }
    };
    let staged = [
        "stage 1 of 2: all hosts have it",
        "stage 2 of 2: all hosts have it",
    ];
    ensure!(
        report.code == Some(0) && staged.iter().all(|text| report.stderr.contains(text)),
        "{report:?}"
    );
    for host in hosts {
        host.until_policy(number)?;
        host.until("in-force").context("by guard")?;
        let row = fleet.until_host(&host.name, "in-force")?;
        ensure!(row["generation"] == number, "{row}");
    }
    Ok(())
}

fn a_fleet_of_two_versions_is_one_fleet() -> Result<()> {
    let elder = elder()?;
    let mut fleet = Fleet::new(&HOSTS, &[])?;
    let mut hosts = Vec::new();
    for (number, name) in HOSTS.into_iter().enumerate() {
        let mut host = fleet.host(name)?;
        if number >= 2 {
            host.program.clone_from(&elder);
        }
        host.start()?;
        hosts.push(host);
    }
    for name in HOSTS {
        fleet.until_host(name, "nothing")?;
    }
    push(&fleet, &hosts, None, 1).context("pushed by today's")?;
    push(&fleet, &hosts, Some(&elder), 2).context("pushed by the older one")?;
    // An upgrade takes over what is in force, and the numbers that were seen.
    for host in &mut hosts {
        if host.program == elder {
            for daemon in [host.guard.take(), host.fetcher.take()] {
                daemon.map(Daemon::kill).transpose()?;
            }
            host.program = crate::namespace::DFW.into();
            host.start()?;
            let status = host.until("in-force")?;
            ensure!(status["generation"] == 2, "{status}");
            host.until_policy(2)?;
        }
    }
    push(&fleet, &hosts, None, 3).context("after the upgrade")
}
