//! A newcomer who follows pages beside a real engine, command by command.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::support::command::{PATH, outcome, output, wait_for};
use crate::support::edition::{Edition, Maker};
use crate::support::engine::Engine;
use crate::support::janitor::Ledger;
use crate::support::probe::{self, Outcome, SILENCE, Transport, ask};
use crate::support::topology::{SECOND_CARD, Topology};

/// Debian 12's Docker: the page shows its version, and what it leaves open.
pub(crate) const EDITION: Edition = Edition {
    maker: Maker::Docker,
    release: Some("bookworm"),
    options: "",
    legacy: false,
};

/// What the page says that runs: name, options, what it serves.
const CONTAINERS: &[(&str, &str, &str)] = &[
    ("web", "-p 80:80", "tcp:80"),
    ("db", "-p 5432:5432", "tcp:5432"),
    ("admin", "-p 127.0.0.1:8081:80", "tcp:80"),
    ("metrics", "--net=host", "tcp:7000"),
];

const PATIENCE: Duration = Duration::from_mins(3);

/// Follows each page from its beginning; behind the last, the policy that it leads to holds.
pub(crate) fn follow(pages: &[PathBuf]) -> Result<()> {
    let ledger = Ledger::open()?;
    let topology = Topology::start(&ledger.prefix())?;
    let host = topology.machine("host").context("no host")?;
    // The page's host has one card.
    host.ip(&format!("link delete {SECOND_CARD}"))?;
    let engine = Engine::start(&ledger, host, EDITION)?;
    for (name, options, serves) in CONTAINERS {
        engine.run(name, options, serves)?;
    }
    for port in [80, 5432, 8081, 7000] {
        wait_for("a container", PATIENCE, || {
            let to = ([127, 0, 0, 1], port);
            let open = reaches(&topology, "host", to, SILENCE).ok()?;
            open.then_some(())
        })?;
    }
    // The page writes into /etc/dfw: nothing of that may come to the machine's own.
    let shadow = "mkdir /run/etc /run/etc-work && \
                  mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc-work x /etc";
    output(engine.command("sh").args(["-c", shadow]))?;

    let dfw = Path::new(env!("CARGO_BIN_EXE_dfw"));
    let path = format!("{}:{PATH}", dfw.parent().context("a folder")?.display());
    // A reader that closes the pipe after the first line does not stop it.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let audit = outcome(engine.command(dfw).arg("audit").stdout(writer))?;
    ensure!(audit.status.code() == Some(11), "{audit:?}");
    for page in pages {
        let afresh = "dfw remove && rm -rf /etc/dfw";
        output(engine.command("sh").env("PATH", &path).args(["-c", afresh]))?;
        let before = fs::read_to_string(page)?;
        let after = with_outputs(&before, |command| {
            let mut shell = engine.command("sh");
            // Who is asked says yes, which is seen on a terminal.
            let script = format!("echo y | {command} 2>&1");
            let output = outcome(shell.env("PATH", &path).args(["-c", &script]))?;
            let said = String::from_utf8(output.stdout)?;
            Ok(said.replace("(rollback in 1m) ", "(rollback in 1m) y\n"))
        })?;
        if crate::update() {
            fs::write(page, &after)?;
        } else {
            ensure!(
                anytime(&before) == anytime(&after),
                "{} does not say what its commands print; UPDATE=1 writes\n{after}",
                page.display()
            );
        }
    }

    let address = [203, 0, 113, 10];
    for (who, port, open) in [
        ("trusted", 80, true),
        ("trusted", 5432, true),
        ("trusted", 7000, true),
        ("stranger", 80, false),
        ("stranger", 5432, false),
        ("neighbour", 7000, false),
    ] {
        let patience = if open { probe::PATIENCE } else { SILENCE };
        let reached = reaches(&topology, who, (address, port), patience)?;
        ensure!(reached == open, "{who} at port {port}: {reached}");
    }
    Ok(())
}

fn reaches(
    topology: &Topology,
    who: &str,
    to: impl Into<SocketAddr>,
    patience: Duration,
) -> Result<bool> {
    let machine = topology.machine(who).context("no such machine")?;
    let to = to.into();
    let outcome = machine.run(|| ask(Transport::Tcp, None, to, patience))?;
    Ok(outcome == Outcome::Open)
}

/// What root types; the comments of a policy begin with the same sign.
fn command(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ")?;
    ["dfw ", "cat /"]
        .iter()
        .any(|begin| line.starts_with(begin))
        .then_some(line)
}

/// The page with what its commands print now.
fn with_outputs(page: &str, mut run: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut text = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let _ = writeln!(text, "{line}");
        if line != "```console" {
            continue;
        }
        let mut first = true;
        for line in lines.by_ref().take_while(|line| *line != "```") {
            if let Some(command) = command(line) {
                let gap = if first { "" } else { "\n" };
                let said = run(command)?;
                let _ = write!(text, "{gap}{line}\n{said}");
                first = false;
            }
        }
        text.push_str("```\n");
    }
    Ok(text)
}

/// The text without the time at which a policy was applied.
fn anytime(text: &str) -> String {
    let is_time = |word: &str| word.ends_with('Z') && word.contains('T') && word.contains(':');
    let words = text.split(' ');
    let words: Vec<&str> = words
        .map(|word| if is_time(word) { "TIME" } else { word })
        .collect();
    words.join(" ")
}
