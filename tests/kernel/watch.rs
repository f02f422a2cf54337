//! `dfw trace` and `dfw log`: packets are shown as the kernel judges them, and nothing stays behind.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use dfw::kernel::Tracer;
use dfw::nftables::tracer::Filter;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Named;
use crate::namespace::{Report, Sandbox};
use crate::support::command::wait_for;
use crate::support::probe::PATIENCE;
use crate::traffic::World;

pub(crate) const TRIALS: &[Named] = &[
    (
        "trace_shows_the_rule_that_dropped",
        trace_shows_the_rule_that_dropped,
    ),
    (
        "trace_shows_a_connection_dropped_as_it_arrives",
        trace_shows_a_connection_dropped_as_it_arrives,
    ),
    ("trace_leaves_nothing_behind", trace_leaves_nothing_behind),
    (
        "a_table_without_owner_is_removed",
        a_table_without_owner_is_removed,
    ),
    ("two_traces_at_once", two_traces_at_once),
    ("log_shows_denied_clients", log_shows_denied_clients),
    ("log_bears_a_flood", log_bears_a_flood),
];

const POLICY: &str = "default: deny
ports:
  80: [203.0.113.0/24]
  53/udp: {allow: [203.0.113.0/24], log: true}
settings: {log: true}
";

/// A firewall of somebody else, behind dfw.
const OTHER: &str = "
table inet other {
    chain forward {
        type filter hook forward priority 10;
        ip saddr 203.0.113.9 udp dport 8053 counter drop comment \"not ours\"
    }
}
";

/// The client's and the stranger's way to the host.
const CLIENT: &str = "203.0.113.9";
const STRANGER: &str = "198.51.100.66";
const TO_CLIENT: &str = "203.0.113.1:53";
const TO_STRANGER: &str = "198.51.100.1:53";

/// A program that watches, after it has said that it does.
struct Watching {
    child: Child,
    said: String,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Watching {
    fn start(sandbox: &Sandbox, arguments: &[&str]) -> Result<Self> {
        let mut child = sandbox
            .program(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let mut watching = Self {
            child,
            said: String::new(),
            stdout: BufReader::new(stdout),
            stderr: BufReader::new(stderr),
        };
        watching.stderr.read_line(&mut watching.said)?;
        ensure!(!watching.said.is_empty(), "dfw {arguments:?} said nothing");
        Ok(watching)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no process")?, signal)?)
    }

    /// Waits for its end.
    fn end(mut self) -> Result<Report> {
        let (mut stdout, mut stderr) = (String::new(), self.said.clone());
        self.stdout.read_to_string(&mut stdout)?;
        self.stderr.read_to_string(&mut stderr)?;
        Ok(Report {
            code: self.child.wait()?.code(),
            stdout,
            stderr,
        })
    }

    /// Its lines of JSON, after it has ended well.
    fn lines(self) -> Result<Vec<Value>> {
        let report = self.end()?;
        ensure!(report.code == Some(0), "{report:?}");
        let lines = report.stdout.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Ended already, unless the trial has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One datagram.
fn send(from: &Sandbox, to: &str) -> Result<()> {
    let to: SocketAddr = to.parse()?;
    from.namespace().run(|| {
        UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", to)?;
        Ok(())
    })
}

fn world() -> Result<World> {
    let world = World::new()?;
    let policy = world.host.write("web.yaml", POLICY)?;
    world.host.dfw_ok(&["apply", &policy.to_string_lossy()])?;
    Ok(world)
}

/// What a trace says of one datagram: as JSON, then as text.
fn traced(world: &World, from: &str, sender: &Sandbox, to: &str) -> Result<(Value, String)> {
    let once = ["trace", "--from", from, "--count", "1", "--for", "1m"];
    let watching = Watching::start(&world.host, &[&once[..], &["--json"]].concat())?;
    send(sender, to)?;
    let packet = watching.lines()?.pop().context("nothing was traced")?;
    let watching = Watching::start(&world.host, &once)?;
    send(sender, to)?;
    let report = watching.end()?;
    ensure!(report.code == Some(0), "{report:?}");
    Ok((packet, report.stdout))
}

fn is(value: &Value, expected: &Value) -> Result<()> {
    ensure!(value == expected, "{value:#} is not {expected:#}");
    Ok(())
}

fn trace_shows_the_rule_that_dropped() -> Result<()> {
    let world = world()?;
    let (packet, text) = traced(&world, STRANGER, &world.stranger, TO_STRANGER)?;
    let steps = packet["steps"].as_array().context("no steps")?;
    let last = steps.last().context("no step")?;
    is(&packet["schema"], &"dfw/trace/v1".into())?;
    is(&packet["verdict"], &"dropped".into())?;
    is(&packet["incoming"], &"eth1".into())?;
    is(&packet["packet"]["source"]["address"], &STRANGER.into())?;
    is(&packet["packet"]["destination"]["port"], &53.into())?;
    is(&packet["rewritten"]["destination"]["port"], &8053.into())?;
    ensure!(
        steps.iter().any(|step| step["table"] == "docker"),
        "{packet:#}"
    );
    is(&last["table"], &"dfw-nft".into())?;
    is(&last["chain"], &"port-53-udp".into())?;
    is(&last["origin"], &"web.yaml:4".into())?;
    let verdict = "  dropped by inet dfw-nft, chain port-53-udp, web.yaml:4\n";
    ensure!(text.ends_with(verdict), "{text}");
    ensure!(text.starts_with("eth1  198.51.100.66:"), "{text}");

    world.host.nft_load(&["-f"], OTHER)?;
    let (packet, text) = traced(&world, CLIENT, &world.client, TO_CLIENT)?;
    let steps = packet["steps"].as_array().context("no steps")?;
    let last = steps.last().context("no step")?;
    is(&packet["verdict"], &"dropped".into())?;
    is(&last["table"], &"other".into())?;
    is(&last["comment"], &"not ours".into())?;
    is(&last["origin"], &Value::Null)?;
    ensure!(
        steps.iter().any(|step| step["table"] == "dfw-nft"),
        "{packet:#}"
    );
    let handle = &last["handle"];
    let verdict = format!("  dropped by inet other, chain forward, rule {handle} (not ours)\n");
    ensure!(text.ends_with(&verdict), "{text}");

    world.host.nft("delete table inet other")?;
    let (packet, text) = traced(&world, CLIENT, &world.client, TO_CLIENT)?;
    is(&packet["verdict"], &"accepted".into())?;
    ensure!(text.contains("  accepted by every chain"), "{text}");

    // It works without dfw's rules, too.
    world.host.dfw_ok(&["remove"])?;
    let (packet, _) = traced(&world, STRANGER, &world.stranger, TO_STRANGER)?;
    is(&packet["verdict"], &"accepted".into())
}

fn trace_shows_a_connection_dropped_as_it_arrives() -> Result<()> {
    let world = world()?;
    let arguments = ["trace", "--from", STRANGER, "--count", "1", "--for", "1m"];
    let watching = Watching::start(&world.host, &[&arguments[..], &["--json"]].concat())?;
    world.stranger.namespace().run(|| {
        let to: SocketAddr = "198.51.100.1:80".parse()?;
        // The first segment is sent at once, and nobody answers it.
        let answer = TcpStream::connect_timeout(&to, Duration::from_millis(1));
        ensure!(answer.is_err(), "it is open");
        Ok(())
    })?;
    let packet = watching.lines()?.pop().context("nothing was traced")?;
    let last = packet["steps"].as_array().and_then(|steps| steps.last());
    let last = last.context("no step")?;
    is(&packet["verdict"], &"dropped".into())?;
    is(&packet["rewritten"], &Value::Null)?;
    is(&last["table"], &"dfw-nft".into())?;
    is(&last["chain"], &"early-80-tcp".into())?;
    is(&last["origin"], &"web.yaml:3".into())?;
    // What is dropped there is counted as denied at its port, and known to no connection tracking.
    let status: Value = serde_json::from_str(&world.host.dfw_ok(&["--json", "status"])?)?;
    let ports = status["installed"]["ports"].as_array();
    let row = ports.and_then(|ports| ports.iter().find(|row| row["port"] == "80/tcp"));
    let denied = &row.context("no port 80")?["denied"]["packets"];
    ensure!(denied.as_u64() > Some(0), "{status:#}");
    let known = world
        .host
        .namespace()
        .command("conntrack")
        .args(["-L", "-s", STRANGER])
        .output()?;
    ensure!(
        known.status.success() && known.stdout.is_empty(),
        "{known:?}"
    );
    Ok(())
}

fn has_table(sandbox: &Sandbox) -> Result<bool> {
    Ok(sandbox.nft("list tables")?.contains("dfw-trace-"))
}

fn trace_leaves_nothing_behind() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let start = |time| Watching::start(&sandbox, &["trace", "--to", "9/udp", "--for", time]);
    // It may have ended before anybody looks.
    let report = start("1s")?.end()?;
    ensure!(report.code == Some(0), "{report:?}");
    ensure!(report.stderr.contains("no packet matched"), "{report:?}");
    ensure!(!has_table(&sandbox)?, "left behind by a good end");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let watching = start("1h")?;
        ensure!(has_table(&sandbox)?, "no table");
        watching.signal(signal)?;
        let report = watching.end()?;
        ensure!(report.code == Some(0), "{signal:?}: {report:?}");
        ensure!(!has_table(&sandbox)?, "left behind by {signal:?}");
    }
    let watching = start("1h")?;
    ensure!(has_table(&sandbox)?, "no table");
    watching.signal(Signal::KILL)?;
    ensure!(watching.end()?.code.is_none(), "not killed");
    wait_for("the table to go", PATIENCE, || {
        (!has_table(&sandbox).ok()?).then_some(())
    })
}

/// As on kernels that know no owners of tables.
fn a_table_without_owner_is_removed() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let filter = Filter {
        source: Some("192.0.2.1".parse()?),
        ..Filter::default()
    };
    sandbox.nft("add table inet dfw-trace-4242")?;
    sandbox.nft("add table inet dfw-trace-of-somebody")?;
    sandbox.namespace().run(|| {
        let tracer = Tracer::begin_as(&filter, false)?;
        let tables = sandbox.nft("list tables")?;
        ensure!(!tables.contains("dfw-trace-4242"), "stale: {tables}");
        ensure!(tables.contains(tracer.table()), "{tables}");
        // Another run lets it be, as its socket is there.
        sandbox.dfw_ok(&["trace", "--to", "9", "--for", "1s"])?;
        let tables = sandbox.nft("list tables")?;
        ensure!(tables.contains(tracer.table()), "{tables}");
        drop(tracer);
        Ok(())
    })?;
    let tables = sandbox.nft("list tables")?;
    ensure!(tables == "table inet dfw-trace-of-somebody\n", "{tables}");
    Ok(())
}

fn two_traces_at_once() -> Result<()> {
    let world = world()?;
    let host = &world.host;
    let by_port = [
        "trace", "--json", "--to", "53/udp", "--count", "1", "--for", "1m",
    ];
    let by_port = Watching::start(host, &by_port)?;
    let by_source = [
        "trace", "--json", "--from", STRANGER, "--count", "2", "--for", "1m",
    ];
    let by_source = Watching::start(host, &by_source)?;
    ensure!(
        host.nft("list tables")?.matches("dfw-trace-").count() == 2,
        "not two"
    );
    // Of the second alone, then of both.
    send(&world.stranger, "198.51.100.1:9")?;
    send(&world.stranger, TO_STRANGER)?;
    let port = |packet: &Value| packet["packet"]["destination"]["port"].clone();
    let of = |packets: Vec<Value>| -> Vec<Value> { packets.iter().map(port).collect() };
    let (one, both) = (by_port.lines()?, by_source.lines()?);
    for packet in one.iter().chain(&both) {
        let text = packet.to_string();
        ensure!(!text.contains("dfw-trace-"), "{text}");
    }
    let mut both = of(both);
    both.sort_by_key(Value::as_u64);
    is(&of(one).into(), &vec![53].into())?;
    is(&both.into(), &vec![9, 53].into())
}

fn log_shows_denied_clients() -> Result<()> {
    let world = world()?;
    let watching = Watching::start(&world.host, &["log", "--json", "--count", "1"])?;
    ensure!(watching.said.starts_with("listening"), "{}", watching.said);
    world
        .host
        .dfw(&["log", "--for", "1s"])?
        .expect_failure(1, "group-taken")?;
    // Packets of allowed clients are not shown.
    send(&world.client, TO_CLIENT)?;
    send(&world.stranger, TO_STRANGER)?;
    let denied = watching.lines()?.pop().context("nothing")?;
    is(&denied["schema"], &"dfw/log/v1".into())?;
    is(&denied["port"], &"53/udp".into())?;
    is(&denied["origin"], &"web.yaml:4".into())?;
    is(&denied["incoming"], &"eth1".into())?;
    is(&denied["lost_before"], &0.into())?;
    let packet = &denied["packet"];
    is(&packet["source"]["address"], &STRANGER.into())?;
    is(&packet["destination"]["address"], &"172.17.0.2".into())?;
    is(&packet["destination"]["port"], &8053.into())?;
    is(&packet["protocol"], &"udp".into())?;
    let time = denied["time"].as_str().context("no time")?;
    ensure!(time.starts_with("20") && time.ends_with('Z'), "{time}");

    let watching = Watching::start(&world.host, &["log", "--count", "1"])?;
    send(&world.stranger, TO_STRANGER)?;
    let report = watching.end()?;
    for part in [
        "  eth1  198.51.100.66:",
        "  denied at 53/udp, destination 172.17.0.2:8053/udp  (web.yaml:4)\n",
    ] {
        ensure!(report.stdout.contains(part), "{report:?}");
    }
    // Past the host's ports, which `default: deny` denies.
    let watching = Watching::start(&world.host, &["log", "--json", "--count", "1"])?;
    send(&world.stranger, "172.17.0.3:8053")?;
    let denied = watching.lines()?.pop().context("nothing")?;
    is(&denied["port"], &Value::Null)?;
    is(&denied["origin"], &"web.yaml:1".into())?;
    is(
        &denied["packet"]["destination"]["address"],
        &"172.17.0.3".into(),
    )?;

    world.host.dfw_ok(&["remove"])?;
    let report = world.host.dfw(&["log", "--for", "1s"])?;
    ensure!(
        report.stderr.contains("dfw's rules are not in force"),
        "{report:?}"
    );
    Ok(())
}

/// Without the limit that dfw's own rules have.
const FLOODED: &str = "
table inet flood {
    chain input {
        type filter hook input priority 0;
        udp dport 9 log prefix \"dfw denied 9/udp at web.yaml:3\" group 223 drop
        udp dport 10 log prefix \"dfw denied 10/udp at web.yaml:4\" group 223 drop
    }
}
";
const FLOOD: u64 = 60_000;
/// What dfw may take at most, with its program text and libraries.
const MEMORY: u64 = 32 * 1024;

fn log_bears_a_flood() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.nft_load(&["-f"], FLOODED)?;
    let mut watching = Watching::start(&sandbox, &["log", "--json"])?;
    watching.signal(Signal::STOP)?;
    sandbox.namespace().run(|| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        for _ in 0..FLOOD {
            socket.send_to(b"flood", "127.0.0.1:9")?;
        }
        Ok(())
    })?;
    watching.signal(Signal::CONT)?;
    // A last one that gets through; it may have to be sent again while the rest is being read.
    let (mut shown, mut lost) = (0, 0);
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(|| {
            let stopped = stopped;
            while stopped.recv_timeout(Duration::from_millis(100)).is_err() {
                let _ = send(&sandbox, "127.0.0.1:10");
            }
        });
        loop {
            let mut line = String::new();
            watching.stdout.read_line(&mut line)?;
            let denied: Value = serde_json::from_str(&line).context(line)?;
            shown += 1;
            lost += denied["lost_before"].as_u64().context("no number")?;
            if denied["port"] == "10/udp" {
                break;
            }
        }
        stop.send(()).map_err(|_| anyhow!("nobody sends"))
    })?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", watching.child.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok())
        .context("no VmHWM")?;
    ensure!(peak < MEMORY, "{peak} KiB");
    ensure!(
        lost > 0 && shown + lost > FLOOD,
        "{shown} shown, {lost} lost"
    );
    watching.signal(Signal::INT)?;
    let report = watching.end()?;
    ensure!(
        report.code == Some(0),
        "{:?} {}",
        report.code,
        report.stderr
    );
    ensure!(report.stderr.contains(" lost\n"), "{}", report.stderr);
    Ok(())
}
