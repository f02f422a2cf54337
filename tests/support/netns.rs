//! Network namespaces: named ones of our own, and those of containers.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::{output, program};

/// A place that a thread or a program can be run in.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// Makes a new, empty namespace under `/run/netns`. The janitor removes it by its name.
    pub(crate) fn create(name: &str) -> Result<Self> {
        output(program("ip").args(["netns", "add", name]))?;
        let namespace = Self::at(Path::new("/run/netns").join(name));
        namespace.ip("link set lo up")?;
        // While the link-local address of an interface is tentative, which takes seconds on a busy machine, a router
        // does not ask for its neighbours there.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        Ok(namespace)
    }

    /// A namespace that exists already.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside, in a thread of its own: a thread that has entered a namespace is never
    /// used for anything else. Sockets that it opens stay in the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            self.enter()?;
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| anyhow!("the work in {} panicked", self.path.display()))?
    }

    /// Moves this thread inside. Sockets that it has stay where they were opened.
    pub(crate) fn enter(&self) -> Result<()> {
        let file = File::open(&self.path)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter {}", self.path.display()))
    }

    /// A program that will run inside.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program("nsenter");
        command
            .arg(format!("--net={}", self.path.display()))
            .arg("--")
            .arg(name);
        command
    }

    /// `ip` with the words of one line, run inside.
    pub(crate) fn ip(&self, words: &str) -> Result<String> {
        output(self.command("ip").args(words.split_whitespace()))
    }

    /// Sets one of the namespace's own values, such as `net/ipv4/ip_forward`.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| {
            std::fs::write(&path, value)
                .with_context(|| format!("cannot write {value} to {}", path.display()))
        })
    }
}
