//! Which engine a lab runs: whose program, of which release, with which options.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::command::find;

/// One way to run an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edition {
    pub(crate) maker: Maker,
    /// The Debian release whose packages are run; `None` for those of the machine, whatever it is.
    pub(crate) release: Option<&'static str>,
    /// Further words for the engine's command line.
    pub(crate) options: &'static str,
    /// Whether the engine writes its rules with the older of the two iptables.
    pub(crate) legacy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Docker,
    Podman,
}

impl Maker {
    /// The host's address on the engine's default bridge.
    pub(crate) fn bridge_address(self) -> IpAddr {
        match self {
            Self::Docker => [172, 17, 0, 1].into(),
            Self::Podman => [10, 88, 0, 1].into(),
        }
    }
}

impl Edition {
    /// The machine's own Docker as it comes.
    pub(crate) const MACHINE: Self = Self {
        maker: Maker::Docker,
        release: None,
        options: "",
        legacy: false,
    };

    /// The directory that holds the release, or nothing for the machine's own.
    pub(crate) fn root(&self) -> Option<PathBuf> {
        self.release
            .filter(|release| !is_the_machines_own(release))
            .map(|release| roots().join(release))
    }

    /// What stands in the way of running it here; empty when nothing does.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !rustix::process::geteuid().is_root() {
            missing.push("the right to make namespaces: run as root".to_owned());
        }
        let tools = [
            ("iptables-save", "iptables"),
            ("nft", "nftables"),
            ("ip", "iproute2"),
            ("nsenter", "util-linux"),
            ("unshare", "util-linux"),
            ("ldd", "libc-bin"),
        ];
        let engine = [
            ("dockerd", "docker.io"),
            ("docker", "docker.io or docker-cli"),
            ("containerd", "containerd"),
            ("iptables", "iptables"),
        ];
        let own = if self.root().is_none() {
            &engine[..]
        } else {
            &[]
        };
        for (name, package) in tools.iter().chain(own) {
            if find(name).is_none() {
                missing.push(format!("the program {name}, of the package {package}"));
            }
        }
        if !Path::new("/sys/fs/cgroup").is_dir() {
            missing.push("cgroups, mounted on /sys/fs/cgroup".to_owned());
        }
        if let Some(root) = self.root()
            && !is_complete(&root)
        {
            missing.push(format!("{}, which tests/roots builds", root.display()));
        }
        missing
    }
}

/// Debian 12 needs no root of itself. The same rule stands in `tests/roots`.
fn is_the_machines_own(release: &str) -> bool {
    let about = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release == "bookworm"
        && about
            .lines()
            .any(|line| line == "VERSION_CODENAME=bookworm")
}

/// Where `tests/roots` builds.
pub(crate) fn roots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/roots")
}

/// Whether a root is there; where it is being built right now, this waits for the end of that.
pub(crate) fn is_complete(root: &Path) -> bool {
    if let Ok(lock) = File::open(roots().join("lock")) {
        // The process that builds holds the lock, and loses it however the build ends.
        let _ = flock(&lock, FlockOperation::LockShared);
    }
    root.join("complete").is_file()
}
