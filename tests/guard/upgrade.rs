//! The program of the release before is replaced by today's, with its table in the kernel and its state on disk:
//! nobody gets in who may not, nobody is kept out who may, and what was counted and kept is still there.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::Named;
use crate::daemon::{Daemon, arguments, until};
use crate::namespace::Sandbox;
use crate::stranger::Stranger;
use crate::support::command::output;

pub(crate) const TRIALS: &[Named] = &[
    ("an_upgrade_without_guard", an_upgrade_without_guard),
    ("an_upgrade_of_guard", an_upgrade_of_guard),
    ("last_good_policies_survive", last_good_policies_survive),
    ("former_spellings_survive", former_spellings_survive),
];

/// The port of an allowed client.
const SERVED: u16 = 5354;
/// The stranger's port is closed to the host that the client's is open to: by addresses in place, by a list that
/// several ports share, and by one that is long enough for what is remembered of it.
const POLICY: &str = "
default: deny
sources:
  office: [198.51.100.0/26, 198.51.100.66, '2001:db8::/32']
  long: {file: ../long}
ports:
  5353/udp: [203.0.113.7, long]
  5354/udp: [office]
  80: [office]
  443: any
  8080: {allow: [office], except: [198.51.100.9], log: true}
";

/// Returns the program that `tests/former` builds.
fn former() -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/former/dfw");
    ensure!(path.exists(), "tests/former has built no program");
    Ok(path)
}

/// Starts the guard of the release before.
fn former_guard(host: &Sandbox) -> Result<Daemon> {
    let mut command = host.namespace().command(&former()?.to_string_lossy());
    command.args(arguments(host, &[]));
    Daemon::of(command)
}

/// A client that may, whose every request must be answered, each from another port.
fn served(stranger: &Stranger, host: &Sandbox, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let server = host.namespace().run(|| {
        let server = UdpSocket::bind(("198.51.100.1", SERVED))?;
        server.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(server)
    })?;
    let stop = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 16];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = server.recv_from(&mut bytes) {
                    // A client that is gone counts what it lacks.
                    let _ = server.send_to(&bytes[..length], from);
                }
            }
        });
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let client = stranger.socket()?;
                client.connect(("198.51.100.1", SERVED))?;
                client.set_read_timeout(Some(crate::support::probe::PATIENCE))?;
                client.send(b"?")?;
                client
                    .recv(&mut [0; 16])
                    .with_context(|| format!("request {asked:?} was not answered"))?;
                asked.fetch_add(1, Ordering::Relaxed);
                // Some thousand flows are enough, and the kernel has to remember them all.
                std::thread::sleep(Duration::from_millis(1));
            }
            anyhow::Ok(())
        });
        // Some before, and some behind what is done.
        let some = || {
            let enough = asked.load(Ordering::Relaxed) + 20;
            until("answers", || {
                let is_enough = asked.load(Ordering::Relaxed) >= enough;
                (is_enough || asking.is_finished()).then_some(())
            })
        };
        let done = some().and_then(|()| work()).and_then(|()| some());
        stop.store(true, Ordering::Relaxed);
        asking
            .join()
            .map_err(|_| anyhow!("the client panicked"))??;
        done
    })
}

/// A host where the release before has closed a port to a stranger.
fn beset(host: &Sandbox, close: impl FnOnce() -> Result<()>) -> Result<Stranger> {
    let stranger = Stranger::beside(host)?;
    until("the first packet", || {
        (stranger.arrived().ok()? > 0).then_some(())
    })?;
    let long: Vec<String> = (0..20_000)
        .map(|n| format!("10.{}.{}.1", n / 256, n % 256))
        .collect();
    host.write("long", long.join("\n"))?;
    host.write("policies/a.yaml", POLICY)?;
    close()?;
    stranger.send_some()?;
    stranger.forget()?;
    Ok(stranger)
}

/// Returns the counters of a port: allowed and denied packets.
fn counted(host: &Sandbox, port: &str) -> Result<(u64, u64)> {
    let status: Value = serde_json::from_str(&host.dfw_ok(&["--json", "status"])?)?;
    let ports = status["installed"]["ports"]
        .as_array()
        .context("no ports")?;
    let row = ports.iter().find(|row| row["port"] == port);
    let row = row.with_context(|| format!("no {port} in {status:#}"))?;
    let packets = |what: &str| row[what]["packets"].as_u64().context("no packets");
    Ok((packets("allowed")?, packets("denied")?))
}

fn an_upgrade_without_guard() -> Result<()> {
    let host = Sandbox::new()?;
    let policies = host.dir().join("policies");
    let apply = [
        "apply",
        &policies.to_string_lossy(),
        "--docker-host",
        "none",
    ];
    let stranger = beset(&host, || {
        let mut command = host.namespace().command(&former()?.to_string_lossy());
        output(command.args(apply)).map(drop)
    })?;
    served(&stranger, &host, || {
        stranger.send_some()?;
        let before = (counted(&host, "5353/udp")?, counted(&host, "5354/udp")?);
        ensure!(before.0.1 > 0 && before.1.0 > 0, "{before:?}");
        host.dfw_ok(&apply)?;
        stranger.send_some()?;
        let after = (counted(&host, "5353/udp")?, counted(&host, "5354/udp")?);
        ensure!(
            after.0.1 > before.0.1 && after.1.0 >= before.1.0,
            "counters began anew: {before:?}, then {after:?}"
        );
        // Another policy on top of it, and the one before.
        host.write("policies/b.yaml", "ports: {8443: any}\n")?;
        host.dfw_ok(&apply)?;
        std::fs::remove_file(policies.join("b.yaml"))?;
        host.dfw_ok(&apply)?;
        stranger.send_some()
    })?;
    stranger.nothing_arrived()?;
    stranger.stop().map(drop)
}

fn an_upgrade_of_guard() -> Result<()> {
    let host = Sandbox::new()?;
    let mut guard = None;
    let stranger = beset(&host, || {
        let mut former = former_guard(&host)?;
        former.expect_in_force()?;
        guard = Some(former);
        Ok(())
    })?;
    let mut guard = guard.context("no guard")?;
    served(&stranger, &host, || {
        for _ in 0..3 {
            stranger.send_some()?;
            guard.stop()?;
            stranger.send_some()?;
            guard = Daemon::start(&host, &[])?;
            policies_in_force(&host)?;
            stranger.send_some()?;
            guard.stop()?;
            stranger.send_some()?;
            guard = former_guard(&host)?;
            // What it says of the table it says once it takes signals.
            guard.expect("the table")?;
            stranger.send_some()?;
        }
        guard.stop()
    })?;
    stranger.nothing_arrived()?;
    stranger.stop().map(drop)
}

/// Waits until guard's status reports it: if nothing changes, guard does not log the table's contents.
fn policies_in_force(host: &Sandbox) -> Result<()> {
    let socket = host.dir().join("guard.sock");
    until("an answer", || {
        let status = host.dfw_ok(&["--json", "status", "--socket", &socket.to_string_lossy()]);
        let status: Value = serde_json::from_str(&status.ok()?).ok()?;
        (status["guard"]["in_force"] == "policies").then_some(())
    })
}

/// The policies have a key that is spelt otherwise today: what was kept of them stays in force until they are
/// changed, after a boot too.
fn former_spellings_survive() -> Result<()> {
    let host = Sandbox::new()?;
    let former_key = "  8081: {allow: [office], refuse: reject}\n";
    let stranger = beset(&host, || {
        host.write("policies/b.yaml", format!("ports:\n{former_key}"))?;
        let mut former = former_guard(&host)?;
        former.expect_in_force()?;
        former.stop()
    })?;
    for boots in [false, true] {
        if boots {
            host.nft("flush ruleset")?;
        }
        let mut guard = Daemon::start(&host, &[])?;
        guard.expect("renamed-key: write `deny-with` here")?;
        guard.expect("in force: the last good policies of ")?;
        stranger.send_some()?;
        stranger.forget()?;
        served(&stranger, &host, || stranger.send_some())?;
        let status: Value = serde_json::from_str(&host.dfw_ok(&["--json", "status"])?)?;
        let port = &status["installed"]["ports"]
            .as_array()
            .context("no ports")?;
        ensure!(
            port.iter().any(|row| row["port"] == "8081/tcp"),
            "{status:#}"
        );
        guard.stop()?;
    }
    let today = former_key.replace("refuse", "deny-with");
    host.write("policies/b.yaml", format!("ports:\n{today}"))?;
    let guard = Daemon::start(&host, &[])?;
    policies_in_force(&host)?;
    guard.stop()?;
    stranger.nothing_arrived()?;
    stranger.stop().map(drop)
}

/// The files are wrong when today's guard starts, and no table is there, as after a boot.
fn last_good_policies_survive() -> Result<()> {
    let host = Sandbox::new()?;
    let stranger = beset(&host, || {
        let mut former = former_guard(&host)?;
        former.expect_in_force()?;
        // It writes them before it ends.
        former.stop()
    })?;
    ensure!(
        host.dir().join("state/last-good").exists(),
        "nothing is kept"
    );
    host.nft("flush ruleset")?;
    host.write(
        "policies/a.yaml",
        "default: deny\nports: {5353/udp: [wrong]}\n",
    )?;
    let mut guard = Daemon::start(&host, &[])?;
    guard.expect("in force: the last good policies of ")?;
    stranger.send_some()?;
    stranger.forget()?;
    served(&stranger, &host, || stranger.send_some())?;
    stranger.nothing_arrived()?;
    stranger.stop().map(drop)
}
