//! Clean-up that does not depend on how the test ends.
//!
//! Everything a lab creates outside its own process is found again from one directory: its name
//! is the prefix of the namespaces and cgroups, and a file in it lists the processes. A second
//! process, the janitor, holds the read end of a pipe whose write end only the test has. End of
//! file means that the test is gone, by return, panic, SIGTERM or SIGKILL alike; then the janitor
//! cleans. The ordinary way is the same way: [`Ledger`] closes the pipe and waits for the janitor.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{output, program, wait_for};
use super::helper::HELPER;

/// Directories, namespaces and cgroups of a lab begin with this, followed by its creator's pid and
/// by the number of the lab among those of this creator.
const PREFIX: &str = "dfw-lab-";
static LABS: AtomicU32 = AtomicU32::new(0);
const OWNER: &str = "owner";
const PROCESSES: &str = "processes";
/// How long a killed process may take to be gone on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// The record of what a lab has created, and the promise that it will go away.
pub(crate) struct Ledger {
    dir: PathBuf,
    janitor: Child,
    alive: Option<ChildStdin>,
}

impl Ledger {
    /// Removes what dead labs have left behind, then opens a ledger for this process.
    pub(crate) fn open() -> Result<Self> {
        sweep(&std::env::temp_dir())?;
        let me = std::process::id();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("{PREFIX}{me}-{number}"));
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Others must never find it there and empty.
        let owner = dir.join(".owner");
        fs::write(&owner, identity(me).unwrap_or_default())?;
        fs::rename(&owner, dir.join(OWNER))?;
        fs::write(dir.join(PROCESSES), "")?;
        let mut janitor = Command::new(std::env::current_exe()?)
            .args([HELPER, "janitor"])
            .arg(&dir)
            .stdin(Stdio::piped())
            // A Ctrl-C on the terminal must end the test, not the one who cleans up after it.
            .process_group(0)
            .spawn()
            .context("cannot start the janitor")?;
        let alive = janitor.stdin.take();
        Ok(Self {
            dir,
            janitor,
            alive,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the names of namespaces and cgroups of this lab begin with.
    pub(crate) fn prefix(&self) -> String {
        prefix(&self.dir)
    }

    /// Writes down a process that must not outlive the lab.
    pub(crate) fn record(&self, pid: u32) -> Result<()> {
        let Some(identity) = identity(pid) else {
            return Ok(());
        };
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.dir.join(PROCESSES))?;
        writeln!(file, "{identity}")?;
        Ok(())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Err(error) = self.janitor.wait() {
            eprintln!("the lab's janitor was lost: {error}");
        }
    }
}

/// The janitor's life: nothing until the test is gone, then the clean-up.
pub(crate) fn wait_and_clean(dir: &Path) -> Result<()> {
    // An error on this pipe means the same as its end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    clean(dir)
}

/// Cleans up after labs whose creator, and whose janitor with it, is gone.
fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent)? {
        let dir = entry?.path();
        // Everyone can write there: a file of another user must not decide which process root kills.
        let ours = fs::symlink_metadata(&dir)
            .is_ok_and(|is| is.is_dir() && is.uid() == rustix::process::geteuid().as_raw());
        if !ours || !prefix(&dir).starts_with(PREFIX) {
            continue;
        }
        // A directory without an owner is one that is being made or unmade right now.
        let Ok(owner) = fs::read_to_string(dir.join(OWNER)) else {
            continue;
        };
        if !lives(&owner)
            && let Err(error) = clean(&dir)
        {
            eprintln!("{} stays behind: {error:#}", dir.display());
        }
    }
    Ok(())
}

fn clean(dir: &Path) -> Result<()> {
    let processes = fs::read_to_string(dir.join(PROCESSES)).unwrap_or_default();
    for line in processes.lines().filter(|line| lives(line)) {
        let pid = line.split_once(' ').and_then(|(pid, _)| pid.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // Gone between the look and the kill is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    wait_for("the lab's processes to end", PATIENCE, || {
        (!processes.lines().any(lives)).then_some(())
    })?;
    let prefix = prefix(dir);
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{prefix}-")) {
            let deleted = output(program("ip").args(["netns", "delete", &name]));
            // A test that starts just now may be sweeping up the same lab.
            if entry.path().exists() {
                deleted?;
            }
        }
    }
    remove_cgroups(&prefix);
    // Unmounting the dead engine's layers may still be under way.
    wait_for(
        "the lab's directory to be removable",
        PATIENCE,
        || match fs::remove_dir_all(dir) {
            Ok(()) => Some(()),
            Err(_) => (!dir.exists()).then_some(()),
        },
    )
}

/// Empty cgroups stay behind when an engine is killed: one per hierarchy in version 1.
fn remove_cgroups(prefix: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let mut candidates: Vec<PathBuf> = hierarchies.map(|entry| entry.path().join(prefix)).collect();
    candidates.push(root.join(prefix));
    for candidate in candidates {
        if candidate.is_dir() {
            // The kernel empties a cgroup a moment after its last process is gone.
            let gone = wait_for("an empty cgroup", Duration::from_secs(5), || {
                remove_empty(&candidate).then_some(())
            });
            if let Err(error) = gone {
                eprintln!("{} stays behind: {error:#}", candidate.display());
            }
        }
    }
}

/// Removes a cgroup and its children; `rmdir` is all that a cgroup understands.
fn remove_empty(cgroup: &Path) -> bool {
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_empty(&child.path());
        }
    }
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

fn prefix(dir: &Path) -> String {
    dir.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// A process as `pid start-time`, which no later process with the same pid shares. `None` when
/// there is no such process, or only what its parent has yet to collect.
pub(crate) fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let born = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| format!("{pid} {born}"))
}

/// Whether the process that a line of [`identity`] describes is still there.
pub(crate) fn lives(line: &str) -> bool {
    let line = line.trim();
    let pid = line.split_once(' ').and_then(|(pid, _)| pid.parse().ok());
    pid.is_some_and(|pid| identity(pid).as_deref() == Some(line))
}
