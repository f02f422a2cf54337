//! What a host said on a connection that was cut off reaches the store late, and takes nothing back that it said since.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Named;
use crate::cluster::MEMBERS;
use crate::daemon::until;
use crate::fleet::{Fleet, Host};
use crate::support::size::is_long;

pub(crate) const TRIALS: &[Named] = &[(
    "a_late_status_takes_nothing_back",
    a_late_status_takes_nothing_back,
)];

const KEY: &str = "/dfw/v1/prod/hosts/web-1/status";

fn a_late_status_takes_nothing_back() -> Result<()> {
    let mut fleet = Fleet::new(&["web-1"], &[])?;
    let mut host = fleet.host("web-1")?;
    host.start()?;
    fleet.push_now(1)?;
    host.until_policy(1)?;
    // From here on the trial says what guard says.
    host.guard.take().context("no guard")?.kill()?;
    for round in 0..if is_long() { 5 } else { 2 } {
        let said = |step: &str| json!({ "trial": format!("{round} {step}") });
        say(&host, &fleet, &said("before"))?;
        let member = connected(&host)?.context("it is connected to no member")?;
        let net = host.sandbox.namespace();
        // What it sends is lost, and sent again and again.
        net.ip(&format!(
            "neigh replace {member} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
        ))?;
        say(&host, &fleet, &said("meanwhile"))?;
        say(&host, &fleet, &said("after"))?;
        let other = connected(&host)?;
        ensure!(other != Some(member), "{other:?}");
        net.ip(&format!("neigh del {member} dev eth0"))?;
        until("the end of the connection that was cut off", || {
            let left = sockets(&host).ok()?;
            left.iter().all(|(to, _)| *to != member).then_some(())
        })?;
        // Through the same member, after whatever it was sent.
        let endpoint = format!("https://{member}:2379");
        let words = ["--endpoints", &endpoint, "put", "barrier", "x"];
        fleet.cluster.etcdctl_ok("root", &words)?;
        let last = stored(&fleet)?;
        ensure!(last == said("after"), "round {round}: {last}");
    }
    Ok(())
}

/// Writes what guard says, and waits until the store has it.
fn say(host: &Host, fleet: &Fleet, said: &Value) -> Result<()> {
    let file = host.sandbox.write("said", said.to_string())?;
    fs::rename(file, host.sandbox.dir().join("site-report.json"))?;
    until(&said.to_string(), || {
        (stored(fleet).ok()? == *said).then_some(())
    })
}

fn stored(fleet: &Fleet) -> Result<Value> {
    let words = ["get", KEY, "--print-value-only"];
    let status = fleet.cluster.etcdctl_ok("root", &words)?;
    let status: Value = serde_json::from_str(&status)?;
    Ok(status["guard"].clone())
}

/// The member that a host is connected to.
fn connected(host: &Host) -> Result<Option<&'static str>> {
    let sockets = sockets(host)?;
    let established = sockets.iter().find(|(_, state)| state == "01");
    Ok(established.map(|(member, _)| *member))
}

/// The members that a host has sockets to with something left to say, and their states, as `proc_pid_net(5)` has them.
fn sockets(host: &Host) -> Result<Vec<(&'static str, String)>> {
    let table = host
        .sandbox
        .namespace()
        .run(|| Ok(fs::read_to_string("/proc/thread-self/net/tcp")?))?;
    let mut sockets = Vec::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(2);
        let (Some(remote), Some(state)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some((address, _)) = remote.split_once(':') else {
            continue;
        };
        let address = u32::from_str_radix(address, 16)?
            .to_ne_bytes()
            .map(|part| part.to_string());
        let member = MEMBERS.iter().find(|member| **member == address.join("."));
        // 06 is TIME_WAIT.
        if let Some(member) = member
            && state != "06"
        {
            sockets.push((*member, state.to_owned()));
        }
    }
    Ok(sockets)
}
