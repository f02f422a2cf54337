//! What a program costs: processor time and memory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::support::command::PATH;
use crate::support::helper::HELPER;
use crate::support::netns::Namespace;

/// The costs of one process from its start to its end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Processor time in milliseconds, the program's own and the kernel's for it.
    pub(crate) cpu: f64,
    /// Time that passed, in milliseconds.
    pub(crate) wall: f64,
    /// The most memory that it had at once, in MiB.
    pub(crate) peak: f64,
}

/// A program and what it is told.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    arguments: Vec<OsString>,
    stdin: Option<PathBuf>,
}

impl Work {
    pub(crate) fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter();
        Self {
            arguments: arguments.map(|a| a.as_ref().to_owned()).collect(),
            stdin: None,
        }
    }

    pub(crate) fn stdin(mut self, path: &Path) -> Self {
        self.stdin = Some(path.to_owned());
        self
    }

    /// Runs it in a namespace, by way of a small process of its own: what the kernel counts for
    /// the children of that one is the program alone.
    pub(crate) fn measure(&self, namespace: &Namespace) -> Result<Cost> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([HELPER, "measure"])
            .arg(namespace.path())
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("DFW_DOCKER_HOST", "none");
        match &self.stdin {
            Some(path) => command.stdin(File::open(path)?),
            None => command.stdin(Stdio::null()),
        };
        let output = command.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "{:?} failed", self.arguments);
        serde_json::from_slice(&output.stdout).context("no measurement")
    }
}

/// The helper's part: runs the program inside and prints its [`Cost`].
pub(crate) fn measure_here(namespace: &Path, program: &str, arguments: &[String]) -> Result<()> {
    let file = File::open(namespace)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    let wall = start.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success(), "{program} ended with {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
    let cost = Cost {
        cpu: microseconds as f64 / 1e3,
        wall,
        peak: usage.max_rss() as f64 / 1024.0,
    };
    serde_json::to_writer(std::io::stdout(), &cost)?;
    Ok(())
}
