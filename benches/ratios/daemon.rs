//! A guard that runs, and what it costs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;

use dfw::guard::Answer;

use crate::dfw;
use crate::support::netns::Namespace;

/// How long guard may take for anything.
const PATIENCE: Duration = Duration::from_mins(2);

/// A guard; killed when it is dropped.
pub(crate) struct Guard {
    child: Child,
    folder: PathBuf,
}

impl Guard {
    /// Starts guard with its files in a folder, and waits until the policies are in force.
    pub(crate) fn start(
        namespace: &Namespace,
        folder: &Path,
        policy: &Path,
        engine: Option<&Path>,
    ) -> Result<Self> {
        let mut command: Command = namespace.command(dfw());
        let child = command
            .arg("guard")
            .arg("--docker-host")
            .arg(engine.unwrap_or(Path::new("none")))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--socket")
            .arg(folder.join("guard.sock"))
            .arg(policy)
            .env("DFW_CACHE", folder.join("cache"))
            // As in dfw.service.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let guard = Self {
            child,
            folder: folder.to_owned(),
        };
        until("its start", || guard.kept())?;
        Ok(guard)
    }

    /// Returns the number of the file with the last good policies, another one after each change.
    pub(crate) fn kept(&self) -> Option<u64> {
        let file = fs::metadata(self.folder.join("state/last-good"));
        file.ok().map(|file| file.ino())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("guard.sock")
    }

    pub(crate) fn status(&self) -> Result<Value> {
        match dfw::guard::ask(&self.socket()) {
            Answer::Status(status) => Ok(status),
            other => anyhow::bail!("guard does not answer: {other:?}"),
        }
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join(name)
    }

    /// Returns a line of its memory, in MiB.
    pub(crate) fn memory(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        let number: f64 = number.context("no memory")?;
        Ok(number / 1024.0)
    }

    /// Lets the peak begin at its size now: see `clear_refs` in proc(5).
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(self.proc("clear_refs"), "5")?)
    }

    /// Returns its processor time since its start, and the kernel's for it, in milliseconds.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        let time = clock_gettime(clock_getcpuclockid(pid)?)?;
        Ok(Duration::from(time).as_secs_f64() * 1e3)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` returns something.
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = done() {
            return Ok(done);
        }
        ensure!(Instant::now() < end, "guard takes too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
