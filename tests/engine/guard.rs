//! A running guard hears of the engine what an apply would have to ask for.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Named;
use crate::paths;
use crate::support::command::wait_for;
use crate::support::lab::Lab;
use crate::support::paths::POLICY;
use crate::support::table::{Reading, Row, check, row};

pub(crate) const TRIALS: &[Named] = &[
    (
        "guard::container_made_while_guarded",
        container_made_while_guarded,
    ),
    (
        "guard::network_made_while_guarded",
        network_made_while_guarded,
    ),
    (
        "guard::named_bridge_made_while_guarded",
        named_bridge_made_while_guarded,
    ),
    (
        "guard::engine_restarts_while_guarded",
        engine_restarts_while_guarded,
    ),
];

/// How long a busy machine may take for anything.
const PATIENCE: Duration = Duration::from_mins(3);

/// A guard on the lab's host.
pub(crate) struct Guard<'a> {
    lab: &'a Lab,
    child: Child,
    lines: Receiver<String>,
    pub(crate) said: Vec<String>,
    /// Its folder of policies.
    pub(crate) policies: String,
    /// Where it listens.
    pub(crate) socket: String,
}

impl<'a> Guard<'a> {
    pub(crate) fn start(lab: &'a Lab, policy: &str) -> Result<Self> {
        Self::asking(lab, policy, "system")
    }

    /// Starts one that asks this engine.
    pub(crate) fn asking(lab: &'a Lab, policy: &str, engine: &str) -> Result<Self> {
        let dir = lab.write_policy(policy)?;
        let fresh = lab.fresh_folder()?;
        let socket = format!("{fresh}/guard.sock");
        // The process number is that of the lab's own namespace.
        let script = "echo $$ > /run/dfw.pid; exec \"$@\"";
        let mut command = lab.command("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_dfw"), "guard", &dir]);
        command.args(["--docker-host", engine]);
        command.args(["--state", &format!("{fresh}/state")]);
        command.args(["--socket", &socket]);
        let mut child = command
            .stderr(Stdio::piped())
            .env_remove("JOURNAL_STREAM")
            .spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut guard = Self {
            lab,
            child,
            lines,
            said: Vec::new(),
            policies: dir,
            socket,
        };
        guard.expect("answers: Docker")?;
        guard.expect("in force: ")?;
        Ok(guard)
    }

    /// Waits for a line, from here on, that has these words in it.
    pub(crate) fn expect(&mut self, words: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                bail!("no word of {words:?} in {:#?}", self.said);
            };
            let found = line.contains(words);
            self.said.push(line);
            if found {
                return Ok(());
            }
        }
    }

    /// Waits until what it knows of the engine's containers is in force.
    pub(crate) fn settles(&self) -> Result<()> {
        let plan = ["plan", "--exit-code", &self.policies];
        wait_for("the policies to be in force", PATIENCE, || {
            let plan = self.lab.dfw(&plan).ok()?;
            plan.status.success().then_some(())
        })
    }

    /// Kills it as a crash does: it has no time to do anything.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.lab.script("kill -KILL $(cat /run/dfw.pid)")?;
        self.child.wait()?;
        // The number may be that of another process later.
        self.lab.script("rm /run/dfw.pid")
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut kill = self.lab.command("sh");
        // Gone already is as good.
        let _ = crate::support::command::output(kill.args(["-c", "kill $(cat /run/dfw.pid)"]));
        let _ = self.child.wait();
    }
}

#[rustfmt::skip]
const LATE_CONTAINER: &[Row] = &[
    //  what                             to                     may                       must not
    row("a port that nobody names",      "tcp host:8091",       "",                       "trusted neighbour stranger office"),
    row("the same, IPv6",                "tcp host6:8091",      "",                       "trusted neighbour stranger office"),
    row("a port that is named",          "tcp host:8090",       "trusted",                "neighbour stranger office"),
];

/// Over IPv6 docker-proxy serves it, and only the engine can tell of the port.
fn container_made_while_guarded(lab: &Lab) -> Result<()> {
    let mut guard = Guard::start(lab, &format!("{POLICY}  8090: [trusted]\n"))?;
    let begin = Instant::now();
    lab.create("late", "-p 8090:80 -p 8091:80", "tcp:80")?;
    let created = begin.elapsed();
    // Its port is closed before it is open.
    guard.expect("in force: ")?;
    eprintln!(
        "created after {created:?}, and its ports closed after {:?}",
        begin.elapsed()
    );
    let checked = lab
        .docker("start late")
        .and_then(|_| lab.wait_until_open("tcp late:80"))
        .and_then(|()| check(lab, LATE_CONTAINER, Reading::Guarded));
    lab.docker("rm --force late")?;
    checked
}

#[rustfmt::skip]
const LATE_NETWORK: &[Row] = &[
    row("ports of its host",             "tcp host:80",         "late",                   ""),
    row("its own port",                  "tcp host:8090",       "late trusted",           "neighbour stranger office"),
];

fn network_made_while_guarded(lab: &Lab) -> Result<()> {
    let mut guard = Guard::start(lab, &format!("{POLICY}  8090: [trusted, containers]\n"))?;
    lab.docker("network create lates")?;
    let checked = guard
        .expect("in force: ")
        .and_then(|()| lab.run("late", "--network lates -p 8090:80", "tcp:80"))
        .and_then(|()| lab.wait_until_open("tcp late:80"))
        .and_then(|()| check(lab, LATE_NETWORK, Reading::Guarded));
    lab.docker("rm --force late")?;
    lab.docker("network rm lates")?;
    checked
}

/// A bridge whose name does not show that it is an engine's. Docker before 28 accepts packets routed to its
/// containers; later versions do in the mode `nat-unprotected`, which earlier versions do not know.
const NAMED_BRIDGE: &str = "network create -o com.docker.network.bridge.name=public0 \
     -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
     --ipv6 --subnet 172.30.0.0/24 --subnet 2001:db8:c:30::/64 public";

#[rustfmt::skip]
const BEHIND_NAMED_BRIDGE: &[Row] = &[
    row("straight to it, published",     "tcp late:80",         "",                       "neighbour stranger"),
    row("straight to it, udp",           "udp late:53",         "",                       "neighbour stranger"),
];

fn named_bridge_made_while_guarded(lab: &Lab) -> Result<()> {
    // After `dfw apply` alone, such a bridge is open until the next apply.
    lab.apply(POLICY)?;
    lab.docker(NAMED_BRIDGE)?;
    let checked = lab
        .run(
            "late",
            "--network public -p 8090:80 -p 8090:53/udp",
            "tcp:80 udp:53",
        )
        .and_then(|()| lab.wait_until_open("tcp late:80"))
        .and_then(|()| check(lab, BEHIND_NAMED_BRIDGE, Reading::Bare));
    lab.docker("rm --force late")?;
    lab.docker("network rm public")?;
    checked?;
    lab.remove()?;
    let guard = Guard::start(lab, POLICY)?;
    lab.docker(NAMED_BRIDGE)?;
    let checked = bridge_is_known(lab, "public0")
        .and_then(|()| {
            let options = "--network public -p 8090:80 -p 8090:53/udp";
            lab.run("late", options, "tcp:80 udp:53")
        })
        .and_then(|()| lab.wait_until_open("tcp late:80"))
        .and_then(|()| check(lab, BEHIND_NAMED_BRIDGE, Reading::Guarded));
    lab.docker("rm --force late")?;
    lab.docker("network rm public")?;
    drop(guard);
    checked
}

/// Waits until the rules in force take a bridge for an engine's.
pub(crate) fn bridge_is_known(lab: &Lab, bridge: &str) -> Result<()> {
    // The set may be one that stands in for another, and be called so.
    let listed = format!("nft list table inet dfw-nft | grep -qw {bridge}");
    wait_for("the bridge", PATIENCE, || lab.script(&listed).ok())
}

fn engine_restarts_while_guarded(lab: &Lab) -> Result<()> {
    let mut guard = Guard::start(lab, POLICY)?;
    paths::guarded_now(lab)?;
    lab.stop_engine()?;
    guard.expect("stay filtered")?;
    lab.start_engine()?;
    guard.expect("answers: Docker")?;
    lab.wait_for_containers()?;
    paths::guarded_now(lab)?;
    paths::guarded_by_engine_reports(lab)?;
    ensure!(guard.child.try_wait()?.is_none(), "guard has ended");
    Ok(())
}
