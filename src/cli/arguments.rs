//! Arguments shared by several commands: the path of the policies and the engines to query.

use std::path::{Path, PathBuf};

use crate::host::docker::{Ask, System};
use crate::untrusted;

/// The default path of policies.
pub(super) const DEFAULT_PATH: &str = "/etc/dfw/policies";

/// The default directories; the environment and the service manager override them.
const STATE: &str = "/var/lib/dfw";
const CACHE: &str = "/var/cache/dfw";

/// Returns the state directory: the last good policies, and the accepted lists.
pub(super) fn state() -> PathBuf {
    folder("STATE_DIRECTORY", STATE)
}

/// Returns the cache: the directory that `dfw fetch` writes to.
pub(super) fn cache() -> PathBuf {
    folder("DFW_CACHE", CACHE)
}

/// Returns the first directory in a variable of the environment, or the default.
pub(super) fn folder(variable: &str, usual: &str) -> PathBuf {
    let folders = std::env::var(variable).unwrap_or_default();
    let first = folders.split(':').find(|folder| !folder.is_empty());
    Path::new(first.unwrap_or(usual)).to_owned()
}

/// The argument with the path of the policies.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyPath {
    /// A directory of *.yaml files, or one file
    #[arg(default_value = DEFAULT_PATH)]
    pub(super) path: PathBuf,
}

/// The option with the engines to query.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// Engine to query: PATH, tcp://HOST:PORT, system, running or none
    ///
    /// Can be repeated, or a comma-separated list. `system`, the default, queries Docker at
    /// /run/docker.sock and Podman at /run/podman/podman.sock; `running` only those that already run,
    /// because a query starts a socket-activated Podman.
    #[arg(
        long,
        value_name = "ENGINE",
        env = "DFW_DOCKER_HOST",
        value_delimiter = ',',
        hide_env_values = true
    )]
    docker_host: Option<Vec<String>>,
}

impl EngineArgs {
    pub(super) fn ask(&self) -> Ask {
        let Some(given) = &self.docker_host else {
            return Ask {
                system: System::All,
                ..Ask::default()
            };
        };
        let mut ask = Ask::default();
        for engine in given {
            match engine.trim() {
                "none" | "" => {}
                "running" => ask.system = System::Running,
                "system" => ask.system = System::All,
                address if ask.names(address) => {}
                address => ask.named.push(address.to_owned()),
            }
        }
        ask
    }
}

/// Returns the command to type for a verb, without the path if it is the default.
pub(super) fn command(verb: &str, path: &Path) -> String {
    if path == Path::new(DEFAULT_PATH) {
        format!("`dfw {verb}`")
    } else {
        format!("`dfw {verb} {}`", untrusted::path(path))
    }
}
