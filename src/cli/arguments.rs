//! Arguments that several verbs have: where policies are, and which engines are asked.

use std::path::{Path, PathBuf};

use crate::host::docker::{Ask, System};
use crate::untrusted;

/// Where policies are if the command line does not say.
pub(super) const DEFAULT_PATH: &str = "/etc/dfw/policies";

/// Where things are if neither the environment nor the service manager says.
const STATE: &str = "/var/lib/dfw";
const CACHE: &str = "/var/cache/dfw";

/// Returns the folder of what is kept: the last good policy, and the fetched lists that were accepted.
pub(super) fn state() -> PathBuf {
    folder("STATE_DIRECTORY", STATE)
}

/// Returns the folder of what `dfw fetch` fetches.
pub(super) fn cache() -> PathBuf {
    folder("DFW_CACHE", CACHE)
}

/// Returns the first folder that the environment names, or the usual one.
pub(super) fn folder(variable: &str, usual: &str) -> PathBuf {
    let folders = std::env::var(variable).unwrap_or_default();
    let first = folders.split(':').find(|folder| !folder.is_empty());
    Path::new(first.unwrap_or(usual)).to_owned()
}

/// Where the policies are.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyPath {
    /// A directory of *.yaml files, or one file
    #[arg(default_value = DEFAULT_PATH)]
    pub(super) path: PathBuf,
}

/// Which engines a verb asks.
#[derive(Debug, clap::Args)]
pub(super) struct EngineArgs {
    /// The engine to ask: a path, tcp://HOST:PORT, system, running, none
    ///
    /// May be given several times, or as a list with commas. `system`, the default, asks Docker and Podman
    /// at /run/docker.sock and /run/podman/podman.sock; `running` asks only those of them that run
    /// already: a question to Podman at a socket of systemd's starts it.
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

/// What to type for a verb; the usual place of policies need not be said.
pub(super) fn command(verb: &str, path: &Path) -> String {
    if path == Path::new(DEFAULT_PATH) {
        format!("`dfw {verb}`")
    } else {
        format!("`dfw {verb} {}`", untrusted::path(path))
    }
}
