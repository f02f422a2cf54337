//! Many who ask guard at once, or ask and do not listen: it works no more for them than for one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::Named;
use crate::daemon::Daemon;
use crate::namespace::Sandbox;

pub(crate) const TRIALS: &[Named] = &[
    (
        "however_many_scrape_the_table_is_read_once_a_second",
        however_many_scrape_the_table_is_read_once_a_second,
    ),
    (
        "a_client_that_does_not_read_delays_no_other",
        a_client_that_does_not_read_delays_no_other,
    ),
    (
        "a_flood_of_reloads_is_one_a_second",
        a_flood_of_reloads_is_one_a_second,
    ),
    ("a_silent_guard_is_named", a_silent_guard_is_named),
    (
        "a_guard_that_ends_leaves_its_successors_socket",
        a_guard_that_ends_leaves_its_successors_socket,
    ),
    (
        "another_user_at_its_socket_is_no_guard",
        another_user_at_its_socket_is_no_guard,
    ),
    (
        "an_engines_error_fills_no_log",
        an_engines_error_fills_no_log,
    ),
];

const POLICY: &str = "default: deny\nports: {80: [203.0.113.7]}\n";
const ADDRESS: &str = "127.0.0.1:9123";
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PORTS: usize = 8000;

/// A policy that is as large as anybody's.
fn large() -> String {
    let ports: Vec<_> = (10_000..10_000 + PORTS)
        .map(|port| format!("  {port}: [203.0.113.7]\n"))
        .collect();
    format!("default: deny\nports:\n{}", ports.concat())
}

fn connect(sandbox: &Sandbox) -> Result<TcpStream> {
    sandbox.namespace().run(|| Ok(TcpStream::connect(ADDRESS)?))
}

/// The figures, which must be all of them.
fn scrape(sandbox: &Sandbox) -> Result<String> {
    let mut stream = connect(sandbox)?;
    stream.write_all(GET.as_bytes())?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    let (top, body) = heard.split_once("\r\n\r\n").context("no head")?;
    ensure!(top.starts_with("HTTP/1.1 200 "), "{top}");
    let length = format!("Content-Length: {}\r\n", body.len());
    ensure!(top.contains(&length), "{} bytes behind {top}", body.len());
    Ok(body.to_owned())
}

/// One of the figures.
fn figure(body: &str, name: &str) -> Result<u64> {
    let mut lines = body.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name}"))?.parse()?)
}

/// The line about guard of `dfw status`.
fn status(sandbox: &Sandbox) -> Result<String> {
    let socket = sandbox.dir().join("guard.sock");
    let text = sandbox.dfw_ok(&["status", "--socket", &socket.to_string_lossy()])?;
    let mut lines = text.lines().map(str::trim_start);
    let line = lines.find(|line| line.starts_with("guard: "));
    Ok(line.with_context(|| text.clone())?.to_owned())
}

/// What `dfw status --json` says of guard, which it always does.
fn document(sandbox: &Sandbox) -> Result<serde_json::Value> {
    let socket = sandbox.dir().join("guard.sock");
    let text = sandbox.dfw_ok(&["status", "--json", "--socket", &socket.to_string_lossy()])?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    Ok(all.get("guard").context("no key")?.clone())
}

fn however_many_scrape_the_table_is_read_once_a_second() -> Result<()> {
    const CLIENTS: usize = 16;
    const TIMES: usize = 8;
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", large())?;
    let file = sandbox.dir().join("dfw.prom");
    let more = [
        "--metrics-listen",
        ADDRESS,
        "--metrics-file",
        &file.to_string_lossy(),
    ];
    let mut guard = Daemon::start(&sandbox, &more)?;
    guard.expect_in_force()?;
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let client = || {
            (0..TIMES)
                .map(|_| scrape(&sandbox))
                .collect::<Result<Vec<_>>>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        // Status requests are answered meanwhile.
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            let line = status(&sandbox)?;
            let expected = format!("guard: process {}: the policies are in force", guard.pid());
            ensure!(line == expected, "{line}");
        }
        for client in clients {
            let Ok(bodies) = client.join() else {
                bail!("a client panicked");
            };
            for body in bodies? {
                let ports = body.lines().filter(|line| line.starts_with("dfw_port_"));
                ensure!(ports.count() == 4 * (PORTS + 1), "not all ports");
            }
        }
        Ok(())
    })?;
    let reads = figure(&scrape(&sandbox)?, "dfw_metrics_reads_total")?;
    // The first at once, and then one for each second that has begun.
    let most = began.elapsed().as_secs() + 2;
    ensure!(reads <= most, "the table was read {reads} times");
    let text = std::fs::read_to_string(&file)?;
    ensure!(figure(&text, "dfw_metrics_reads_total")? <= reads);
    guard.stop()
}

fn a_client_that_does_not_read_delays_no_other() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", large())?;
    let mut guard = Daemon::start(&sandbox, &["--metrics-listen", ADDRESS])?;
    guard.expect_in_force()?;
    let mut held = Vec::new();
    for number in 0..48 {
        let mut stream = connect(&sandbox)?;
        match number % 3 {
            // Not even the whole question.
            0 => stream.write_all(b"GET /met")?,
            1 => stream.write_all(GET.as_bytes())?,
            _ => {
                stream.write_all(GET.as_bytes())?;
                stream.shutdown(Shutdown::Both)?;
            }
        }
        held.push(stream);
    }
    let expected = format!("guard: process {}: the policies are in force", guard.pid());
    ensure!(status(&sandbox)? == expected, "{}", status(&sandbox)?);
    // They have had their time by then.
    scrape(&sandbox)?;
    drop(held);
    guard.stop()
}

fn a_flood_of_reloads_is_one_a_second() -> Result<()> {
    const RELOADS: usize = 200;
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    let began = Instant::now();
    for _ in 0..RELOADS {
        let mut stream = UnixStream::connect(sandbox.dir().join("guard.sock"))?;
        stream.write_all(b"reload\n")?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        ensure!(heard == "{\"reload\":true}\n", "{heard}");
    }
    let most = usize::try_from(began.elapsed().as_secs())? + 2;
    // None of them is lost: what was written before the last is in force.
    sandbox.write("policies/b.yaml", "ports: {443: any}\n")?;
    guard.expect_in_force()?;
    let lines = guard.said.iter();
    let reloads = lines.filter(|line| line.contains("reloading policies, engines and interfaces"));
    let reloads = reloads.count();
    ensure!((1..=most).contains(&reloads), "{reloads} reloads");
    guard.stop()
}

fn a_silent_guard_is_named() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    ensure!(document(&sandbox)?.is_null(), "{}", document(&sandbox)?);
    let mut guard = Daemon::start(&sandbox, &[])?;
    guard.expect_in_force()?;
    ensure!(
        document(&sandbox)?["answers"] == true,
        "{}",
        document(&sandbox)?
    );
    let pid = guard.pid();
    guard.signal(Signal::STOP)?;
    let expected = format!("guard: does not answer (process {pid}): it is stopped, hung or busy");
    ensure!(status(&sandbox)? == expected, "{}", status(&sandbox)?);
    let report = document(&sandbox)?;
    ensure!(
        report["answers"] == false && report["pid"] == pid,
        "{report}"
    );
    guard.signal(Signal::CONT)?;
    ensure!(document(&sandbox)?["pid"] == pid, "{}", document(&sandbox)?);
    // Its socket is left behind.
    guard.kill()?;
    ensure!(sandbox.dir().join("guard.sock").exists(), "no socket");
    ensure!(document(&sandbox)?.is_null(), "{}", document(&sandbox)?);
    ensure!(status(&sandbox)?.starts_with("guard: not running"));
    Ok(())
}

fn a_guard_that_ends_leaves_its_successors_socket() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    let mut first = Daemon::start(&sandbox, &["--no-owner"])?;
    first.expect_in_force()?;
    ensure!(document(&sandbox)?["pid"] == first.pid());
    let second = Daemon::start(&sandbox, &["--no-owner"])?;
    crate::daemon::until("the second to answer", || {
        (document(&sandbox).ok()?["pid"] == second.pid()).then_some(())
    })?;
    first.stop()?;
    ensure!(
        document(&sandbox)?["pid"] == second.pid(),
        "{}",
        document(&sandbox)?
    );
    second.stop()?;
    ensure!(!sandbox.dir().join("guard.sock").exists(), "it is left");
    Ok(())
}

fn another_user_at_its_socket_is_no_guard() -> Result<()> {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;
    let sandbox = Sandbox::new()?;
    sandbox.write("policies/a.yaml", POLICY)?;
    sandbox.dfw_ok(&["apply", &sandbox.dir().join("policies").to_string_lossy()])?;
    let path = std::env::temp_dir().join(format!("dfw-squat-{}.sock", std::process::id()));
    let script =
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
print('listens', flush=True); sys.stdin.readline()";
    let mut command = crate::support::command::program("python3");
    command.args(["-c", script]).arg(&path);
    let mut squatter = command
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = squatter.stdout.take().context("no stdout")?;
    let said = BufReader::new(stdout).lines().next();
    let text = sandbox.dfw(&["status", "--socket", &path.to_string_lossy()]);
    drop(squatter.stdin.take());
    let _ = squatter.wait();
    std::fs::remove_file(&path)?;
    ensure!(said.context("nothing")?? == "listens");
    let text = text?.stdout;
    let expected = format!(
        "  guard: cannot be queried: process {} listens on the socket and runs as user 65534",
        squatter.id()
    );
    ensure!(text.contains(&expected), "{text}");
    Ok(())
}

/// An engine whose every answer is an error of five million bytes and some lines.
fn an_engines_error_fills_no_log() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let policies = sandbox.write("policies/a.yaml", POLICY)?;
    let path = sandbox.dir().join("engine.sock");
    let listener = UnixListener::bind(&path)?;
    thread::spawn(move || {
        let message = format!("no\\nforged: line\\u001b[8m{}", "x".repeat(5_000_000));
        let body = format!("{{\"message\":\"{message}\"}}");
        for mut stream in listener.incoming().flatten() {
            let body = body.clone();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                let head = format!(
                    "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.read(&mut bytes);
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(body.as_bytes());
            });
        }
    });
    let engine = path.to_string_lossy().into_owned();
    let short = |text: &str| -> Result<()> {
        for line in text.lines() {
            ensure!(line.len() < 8192, "a line of {} bytes", line.len());
            ensure!(!line.trim_start().starts_with("forged"), "{line}");
            ensure!(!line.contains('\u{1b}'), "{line}");
        }
        Ok(())
    };
    let mut guard = Daemon::start(&sandbox, &["--docker-host", &engine])?;
    guard.expect("its last known published ports stay filtered")?;
    short(&guard.said.join("\n"))?;
    short(&document(&sandbox)?.to_string().replace(',', "\n"))?;
    guard.stop()?;
    let policies = policies.to_string_lossy();
    for words in [&["audit"][..], &["plan", &policies], &["apply", &policies]] {
        let options = ["--docker-host", &engine, "--color", "always"];
        let report = sandbox.dfw(&[words, &options].concat())?;
        let error = report.stderr.contains("engine-unanswered");
        ensure!(error, "{words:?}: {:.1000}", report.stderr);
        short(&strip(&report.stdout))?;
        short(&strip(&report.stderr))?;
    }
    Ok(())
}

/// The text without dfw's own colours.
fn strip(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';');
        let (parameters, after) = after.split_at(end.unwrap_or(after.len()));
        // What hides text is none of them.
        if parameters == "8" {
            plain.push('\u{1b}');
        }
        rest = after.strip_prefix('m').unwrap_or(after);
    }
    plain + rest
}
