//! What dfw's work costs, against those who do the same work otherwise.
//!
//! Everything is measured side by side in one run: all contenders in turn, round by round, each in
//! a network namespace that is new, and of each the median. Ratios carry over from one machine to
//! another; the figures behind them do not.
//!
//! ```text
//! cargo bench                     everything, in some minutes; as root
//! cargo bench -- load change      these parts: load change fetched memory ports containers growth difference
//!                                 packets flood
//! cargo bench -- --goals          only the sizes that have limits
//! cargo bench -- --rounds=3       each contender so often
//! cargo bench -- --program=PATH   another program than Cargo's, such as the static one of packages
//! cargo bench --profile dist      the program as packages have it, but not static
//! cargo bench -- --publish        writes figures to docs/performance, and tables and pictures of them
//! cargo bench -- --draw           writes these tables and pictures anew, and measures nothing
//! cargo bench -- --guard          little of everything, failing where a ratio is off by a factor, twice
//! ```
//!
//! The table goes to stdout, and as JSON to `target/ratios.json`.
#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench starts the programs that it measures and tells what it found"
)]

mod containers;
mod cost;
mod daemon;
mod difference;
mod fetched;
mod flood;
mod frame;
mod goal;
mod growth;
mod load;
mod packets;
mod page;
mod plot;
mod ports;
mod race;
mod raw;
mod report;
mod sender;
mod size;
mod sources;
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use support::command::find;
use support::helper::HELPER;

use cost::Work;
use goal::Goals;
use race::Track;
use size::Scale;

/// The program that is measured: Cargo's, unless another is named.
static DFW: OnceLock<String> = OnceLock::new();
/// By which factor a ratio of a small run may miss its limit.
const SLACK: f64 = 2.0;
const PARTS: [&str; 10] = [
    "load",
    "change",
    "fetched",
    "memory",
    "ports",
    "containers",
    "growth",
    "difference",
    "packets",
    "flood",
];
/// How often each contender runs.
const ROUNDS: usize = 5;

fn main() -> Result<ExitCode> {
    if let Some(code) = support::helper_main() {
        return Ok(code);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if !has("--bench") {
        println!("a bench says nothing of a program that is not optimized: `cargo bench`");
        plot::compare().context("`cargo bench -- --draw` writes tables and pictures")?;
        return Ok(ExitCode::SUCCESS);
    }
    if has("--draw") {
        plot::again()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (scale, slack) = match (has("--guard"), has("--goals")) {
        (true, _) => (Scale::Small, SLACK),
        (false, true) => (Scale::Goals, 1.0),
        (false, false) => (Scale::Full, 1.0),
    };
    let rounds = arguments.iter().find_map(|a| a.strip_prefix("--rounds="));
    let rounds = rounds
        .map_or(Ok(ROUNDS), str::parse)
        .context("--rounds=NUMBER")?;
    let program = arguments.iter().find_map(|a| a.strip_prefix("--program="));
    let _ = DFW.set(match program {
        Some(path) => {
            let path = Path::new(path).canonicalize();
            let path = path.context("--program=PATH")?;
            path.to_str().context("--program=PATH")?.to_owned()
        }
        None => env!("CARGO_BIN_EXE_dfw").to_owned(),
    });
    let named: Vec<&str> = PARTS.into_iter().filter(|part| has(part)).collect();
    let parts = if named.is_empty() {
        PARTS.to_vec()
    } else {
        named
    };
    needs()?;
    let mut track = Track::open(rounds)?;
    let mut goals = Goals::default();
    for part in parts {
        let mut found = Goals::default();
        measure(part, &mut track, &mut found, scale)?;
        // Others on the machine pass by; what is off by a factor is so again.
        if scale == Scale::Small && found.is_missed(slack) {
            println!("{part}: a limit is missed; it is measured once more");
            found = Goals::default();
            measure(part, &mut track, &mut found, scale)?;
        }
        goals.0.extend(found.0);
    }
    report::print(&goals.0, slack);
    let document = report::document(&track.rows, &goals.0);
    // Beside what Cargo builds.
    if let Some(target) = Path::new(env!("CARGO_TARGET_TMPDIR")).parent() {
        report::save(&document, target)?;
    }
    if has("--publish") {
        plot::publish(&document)?;
    }
    Ok(if goals.is_missed(slack) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Measures one of the [`PARTS`].
fn measure(part: &str, track: &mut Track, goals: &mut Goals, scale: Scale) -> Result<()> {
    match part {
        "load" => load::load(track, goals, scale),
        "change" => load::change(track, goals, scale),
        "fetched" => fetched::changes(track, goals, scale),
        "memory" => fetched::memory(track, goals, scale),
        "growth" => growth::growth(track, goals, scale),
        "containers" => containers::containers(track, goals, scale),
        "ports" => {
            ports::many(track, goals, scale)?;
            ports::few(track, goals, scale)
        }
        "difference" => difference::differences(track, goals, scale),
        "flood" => flood::floods(track, goals, scale),
        _ => packets::packets(track, goals, scale),
    }
}

/// The program's path.
fn dfw() -> &'static str {
    DFW.get().map(String::as_str).unwrap_or_default()
}

/// This program in another role.
fn itself(role: &str, file: &Path) -> Result<Work> {
    let me = std::env::current_exe()?;
    Ok(Work::new([
        me.as_os_str(),
        HELPER.as_ref(),
        role.as_ref(),
        file.as_os_str(),
    ]))
}

fn needs() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the bench makes network namespaces: it needs root"
    );
    for program in [
        "ip",
        "nft",
        "ipset",
        "iptables-nft-restore",
        "nsenter",
        "conntrack",
    ] {
        ensure!(
            find(program).is_some(),
            "the bench needs the program {program}"
        );
    }
    Ok(())
}
