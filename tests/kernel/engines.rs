//! Engines that do not answer as they should: a firewall holds without them, and says what it does
//! not know.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::Named;
use crate::namespace::{Sandbox, compiled};
use crate::property::same;
use crate::pty::Screen;

pub(crate) const TRIALS: &[Named] = &[
    ("an_engine_that_hangs", hanging),
    ("an_engine_that_talks_nonsense", nonsense),
    ("an_engine_that_is_not_there", absent),
    ("no_engine_at_all", none),
];

const POLICY: &str = "policies/web.yaml";

/// Whatever the engine does, the policy is in force, dfw warns, and the audit reports that it is incomplete.
fn holds_without(socket: &Path) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let socket = socket.to_str().context("a path")?;
    let policy = format!("{}/{POLICY}", env!("CARGO_MANIFEST_DIR"));
    let report = sandbox.dfw(&["apply", &policy, "--docker-host", socket])?;
    ensure!(
        report.code == Some(0) && report.stderr.contains("warning[engine-unanswered]"),
        "{report:?}"
    );
    same(&sandbox.installed()?, &compiled(POLICY)?)?;
    let report = sandbox.dfw(&["audit", "--docker-host", socket])?;
    ensure!(
        report.code == Some(1) && report.stdout.contains("incomplete: "),
        "{report:?}"
    );
    let report = sandbox.dfw(&["init", "/nonexistent/policies", "--docker-host", socket])?;
    report.expect_failure(1, "no-engine")
}

struct Socket(PathBuf);

impl Socket {
    /// Listens, and leaves every client to `serve`.
    fn open(
        name: &str,
        serve: impl Fn(&mut std::os::unix::net::UnixStream) + Send + 'static,
    ) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("dfw-{}-{name}", std::process::id()));
        // A run that was killed may have had the same number.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                serve(&mut stream);
                kept.push(stream);
            }
        });
        Ok(Self(path))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn hanging() -> Result<()> {
    let socket = Socket::open("hanging", |_| {})?;
    holds_without(&socket.0)?;
    // On a terminal dfw shows what it waits for.
    let sandbox = Sandbox::new()?;
    let policy = format!("{}/{POLICY}", env!("CARGO_MANIFEST_DIR"));
    let socket = socket.0.to_str().context("a path")?;
    let arguments = ["apply", policy.as_str(), "--docker-host", socket];
    let mut screen = Screen::dfw(&sandbox, &arguments, &[], "")?;
    // After a second, or later on a machine that is busy.
    screen.wait("reading this host and its engines: ")?;
    screen.wait("applied")?;
    let (status, _) = screen.end()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn nonsense() -> Result<()> {
    let socket = Socket::open("nonsense", |stream| {
        // The question must be read, or the answer is lost with it.
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[{]");
    })?;
    holds_without(&socket.0)
}

fn absent() -> Result<()> {
    holds_without(Path::new("/nonexistent/engine.sock"))
}

/// The tests' own environment asks no engine.
fn none() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let report = sandbox.dfw(&["audit"])?;
    ensure!(
        report.code == Some(0) && report.stdout.contains("nothing to audit: "),
        "{report:?}"
    );
    Ok(())
}
