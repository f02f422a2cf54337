//! What guard tells at its socket and to the service manager.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::Named;
use crate::daemon::{Daemon, arguments};
use crate::namespace::{DFW, Sandbox};

pub(crate) const TRIALS: &[Named] = &[
    ("status_tells_of_guard", status_tells_of_guard),
    ("only_root_reloads", only_root_reloads),
    ("slots_of_root_stay_reserved", slots_of_root_stay_reserved),
    (
        "without_descriptors_clients_are_accepted_later",
        without_descriptors_clients_are_accepted_later,
    ),
    (
        "the_service_manager_is_notified",
        the_service_manager_is_notified,
    ),
    ("metrics_are_written", metrics_are_written),
    ("metrics_are_served", metrics_are_served),
    ("the_journal_gets_levels", the_journal_gets_levels),
];

const POLICY: &str = "default: deny\nports: {80: [203.0.113.7]}\n";
/// The user `nobody`.
const NOBODY: u32 = 65534;

fn guarded(more: &[&str]) -> Result<(Sandbox, Daemon)> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, more)?;
    guard.expect_in_force()?;
    Ok((sandbox, guard))
}

fn status_tells_of_guard() -> Result<()> {
    let (sandbox, mut guard) = guarded(&["--no-owner"])?;
    let socket = sandbox
        .dir()
        .join("guard.sock")
        .to_string_lossy()
        .into_owned();
    let status = ["status", "--socket", &*socket];
    let text = sandbox.dfw_ok(&status)?;
    let line = format!(
        "guard: process {}: the policies are in force\n",
        guard.pid()
    );
    ensure!(text.ends_with(&line), "{text}");
    sandbox.nft("flush ruleset")?;
    guard.expect("restored after ")?;
    sandbox.write("policies/b.yaml", "ports: [\n")?;
    guard.expect("have errors and are not applied")?;
    let text = sandbox.dfw_ok(&[&status[..], &["--json"]].concat())?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let report = &report["guard"];
    let expected: [(&str, serde_json::Value); 7] = [
        ("schema", "dfw/guard/v2".into()),
        ("pid", guard.pid().into()),
        ("in_force", "policies".into()),
        ("owned", false.into()),
        ("changes", 2.into()),
        ("repairs", 1.into()),
        ("rejected", 1.into()),
    ];
    for (key, value) in expected {
        ensure!(report[key] == value, "{key}: {report:#}");
    }
    ensure!(report["last_repair"]["by"]["name"] == "nft", "{report:#}");
    ensure!(
        report["policy_errors"][0]
            .as_str()
            .is_some_and(|m| m.contains("b.yaml:1")),
        "{report:#}"
    );
    guard.stop()?;
    // Who is gone tells nothing.
    let text = sandbox.dfw_ok(&status)?;
    ensure!(
        text.contains("guard: not running") && !text.contains("guard: process"),
        "{text}"
    );
    Ok(())
}

/// What a client hears.
fn hear(socket: &Path, say: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(say.as_bytes())?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

fn only_root_reloads() -> Result<()> {
    let (sandbox, mut guard) = guarded(&[])?;
    let socket = sandbox.dir().join("guard.sock");
    // Whatever the mask of who starts it.
    let mode = std::fs::metadata(&socket)?.permissions().mode();
    ensure!(mode & 0o7777 == 0o666, "{mode:o}");
    ensure!(hear(&socket, "reload\n")? == "{\"reload\":true}\n");
    guard.expect("reloading policies, engines and interfaces")?;
    for nonsense in ["relaod\n", "\n", &"x".repeat(100)] {
        let heard = hear(&socket, nonsense)?;
        ensure!(heard.contains("unknown command"), "{heard}");
    }
    // A silent client delays no other.
    let silent = UnixStream::connect(&socket)?;
    ensure!(hear(&socket, "status\n")?.contains("dfw/guard/v2"));
    drop(silent);
    // Another user may look, and no more. The folder above is root's alone, so the socket moves.
    let open = std::env::temp_dir().join(format!("dfw-guard-{}.sock", std::process::id()));
    std::fs::rename(&socket, &open)?;
    let asked = ["status", "reload"].map(|word| {
        let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                      s.sendall(sys.argv[2].encode()+b'\\n'); print(s.makefile().read())";
        let mut command = crate::support::command::program("python3");
        command.args(["-c", script]).arg(&open).arg(word);
        crate::support::command::output(command.uid(NOBODY).gid(NOBODY))
    });
    std::fs::remove_file(&open)?;
    let [status, reload] = asked;
    ensure!(status?.contains("dfw/guard/v2"));
    ensure!(reload?.contains("only root"));
    Ok(())
}

fn slots_of_root_stay_reserved() -> Result<()> {
    let (sandbox, guard) = guarded(&[])?;
    let open = std::env::temp_dir().join(format!("dfw-places-{}.sock", std::process::id()));
    std::fs::rename(sandbox.dir().join("guard.sock"), &open)?;
    // It says when it has all that it can get, and then which of them it still has.
    let script = "import socket,sys
held=[]
for _ in range(64):
    s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.setblocking(False); held.append(s)
print('held', flush=True); sys.stdin.readline()
def is_open(s):
    try: return s.recv(1) != b''
    except BlockingIOError: return True
    except ConnectionResetError: return False
print(sum(map(is_open, held)))";
    let mut command = crate::support::command::program("python3");
    command
        .args(["-c", script])
        .arg(&open)
        .uid(NOBODY)
        .gid(NOBODY);
    let mut holder = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut report = BufReader::new(holder.stdout.take().context("no stdout")?).lines();
    ensure!(report.next().context("nothing")?? == "held");
    let heard = hear(&open, "status\n")?;
    drop(holder.stdin.take());
    let held: u32 = report.next().context("nothing")??.parse()?;
    holder.wait()?;
    std::fs::remove_file(&open)?;
    ensure!(heard.contains("dfw/guard/v2"), "{heard}");
    ensure!((1..=8).contains(&held), "{held} places are held");
    guard.stop()
}

fn without_descriptors_clients_are_accepted_later() -> Result<()> {
    let (sandbox, guard) = guarded(&[])?;
    let pid = Pid::from_raw(i32::try_from(guard.pid())?);
    let none_free = || -> Result<Rlimit> {
        let mut taken = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", guard.pid()))? {
            taken.push(entry?.file_name().to_string_lossy().parse::<u64>()?);
        }
        let none = Rlimit {
            current: (0..1024).find(|number| !taken.contains(number)),
            ..getrlimit(Resource::Nofile)
        };
        Ok(prlimit(pid, Resource::Nofile, none)?)
    };
    let mut heard = String::new();
    for attempt in 0..20 {
        let former = none_free()?;
        let mut stream = UnixStream::connect(sandbox.dir().join("guard.sock"))?;
        stream.write_all(b"status\n")?;
        // It waits, and does not try all the time.
        let before = guard.ticks()?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let answer = stream.read_to_string(&mut heard);
        let spent = guard.ticks()? - before;
        prlimit(pid, Resource::Nofile, former)?;
        if answer.is_ok() && attempt < 19 {
            // A file that it had open for a moment, such as one of `/proc`, was counted and is closed.
            heard.clear();
            continue;
        }
        ensure!(answer.is_err(), "{heard}");
        ensure!(spent <= 10, "it has worked for {} ms", 10 * spent);
        stream.set_read_timeout(None)?;
        stream.read_to_string(&mut heard)?;
        break;
    }
    ensure!(heard.contains("dfw/guard/v2"), "{heard}");
    guard.stop()
}

fn the_service_manager_is_notified() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let path = sandbox.dir().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(Duration::from_mins(2)))?;
    let mut command = sandbox.namespace().command(DFW);
    command.args(arguments(&sandbox, &[]));
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "100000");
    let guard = Daemon::of(command)?;
    let expect = |word: &str| -> Result<String> {
        let mut heard = Vec::new();
        for _ in 0..1000 {
            let mut buffer = [0; 4096];
            let length = manager
                .recv(&mut buffer)
                .with_context(|| format!("{heard:?}"))?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(word)) {
                return Ok(text);
            }
            heard.push(text);
        }
        bail!("no word of {word:?} in {heard:?}")
    };
    expect("READY=1")?;
    expect("WATCHDOG=1")?;
    expect("WATCHDOG=1")?;
    guard.signal(Signal::HUP)?;
    expect("RELOADING=1")?;
    expect("READY=1")?;
    // The name of a file says nothing to it.
    sandbox.write("policies/b\nSTOPPING=1\n.yaml", "default: [")?;
    let report = expect("STATUS=the policies are in force; the files have ")?;
    ensure!(report.contains("b\\nSTOPPING=1\\n.yaml"), "{report}");
    ensure!(!report.contains("\nSTOPPING=1"), "{report}");
    guard.signal(Signal::TERM)?;
    expect("STOPPING=1")?;
    guard.stop()
}

fn metrics_are_written() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.write("metrics/before", "")?;
    let path = sandbox.dir().join("metrics/dfw.prom");
    let guard = Daemon::start(&sandbox, &["--metrics-file", &path.to_string_lossy()])?;
    crate::daemon::until("metrics", || path.exists().then_some(()))?;
    let text = std::fs::read_to_string(&path)?;
    for line in [
        "dfw_port_packets_total{port=\"80/tcp\",verdict=\"denied\"} 0",
        "dfw_table_in_force 1",
        "dfw_repairs_total 0",
        "dfw_policy_errors 0",
    ] {
        ensure!(text.lines().any(|is| is == line), "no {line} in\n{text}");
    }
    guard.stop()
}

/// What a client hears over HTTP.
fn ask<S: Read + Write>(mut stream: S, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The metrics that are served at a socket.
pub(crate) fn metrics(socket: &Path) -> Result<String> {
    ask(UnixStream::connect(socket)?, GET)
}

fn metrics_are_served() -> Result<()> {
    const ADDRESS: &str = "127.0.0.1:9123";
    let (sandbox, guard) = guarded(&["--metrics-listen", ADDRESS])?;
    let tcp = |request: &str| {
        let connect = || Ok(std::net::TcpStream::connect(ADDRESS)?);
        ask(sandbox.namespace().run(connect)?, request)
    };
    let heard = tcp(GET)?;
    let (top, body) = heard.split_once("\r\n\r\n").context("no head")?;
    ensure!(top.starts_with("HTTP/1.1 200 OK\r\n"), "{top}");
    ensure!(top.contains("text/plain; version=0.0.4"), "{top}");
    ensure!(
        top.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{top}"
    );
    for line in ["dfw_table_in_force 1", "dfw_table_owned 1"] {
        ensure!(body.lines().any(|is| is == line), "no {line} in\n{body}");
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        (
            &format!("GET /metrics HTTP/1.1\r\nA: {}", "b".repeat(4096 - 26)),
            "431",
        ),
    ] {
        let heard = tcp(request)?;
        ensure!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    }
    // More than are listened to at once say nothing: they have their time, and then it is others' turn.
    let silent = sandbox.namespace().run(|| {
        let connect = |_| std::net::TcpStream::connect(ADDRESS);
        Ok((0..40).map(connect).collect::<Result<Vec<_>, _>>()?)
    })?;
    ensure!(tcp(GET)?.starts_with("HTTP/1.1 200 "));
    drop(silent);
    guard.stop()?;

    let path = sandbox.dir().join("run/metrics.sock");
    let at = format!("unix:{}", path.display());
    let mut guard = Daemon::start(&sandbox, &["--metrics-listen", &at])?;
    guard.expect("only this process can modify it")?;
    crate::daemon::until("metrics", || path.exists().then_some(()))?;
    let heard = metrics(&path)?;
    ensure!(heard.contains("\ndfw_table_in_force 1\n"), "{heard}");
    guard.stop()?;
    ensure!(!path.exists(), "the socket is still there");
    // Nobody else's business.
    let guard = crate::support::command::outcome(
        sandbox
            .namespace()
            .command(DFW)
            .args(arguments(&sandbox, &["--metrics-listen", "0.0.0.0:9123"])),
    )?;
    let said = String::from_utf8_lossy(&guard.stderr);
    ensure!(guard.status.code() == Some(2), "{said}");
    ensure!(said.contains("0.0.0.0 is not a loopback address"), "{said}");
    Ok(())
}

fn the_journal_gets_levels() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", "default: [")?;
    // Tests run without a journal; the variable is what tells.
    let mut command = sandbox.namespace().command("env");
    command
        .args(["JOURNAL_STREAM=8:1", DFW])
        .args(arguments(&sandbox, &[]));
    let mut guard = Daemon::of(command)?;
    let line = guard.expect("a.yaml")?;
    ensure!(line.starts_with("<3>"), "{line}");
    let line = guard.expect("have errors and are not applied")?;
    ensure!(line.starts_with("<5>"), "{line}");
    guard.stop()
}
