//! `dfw guard`: keeps the policies in force.

use std::path::PathBuf;

use crate::bundle::Address;
use crate::cli::arguments::{self, EngineArgs};
use crate::cli::report::failure::Failure;
use crate::guard::{self, Error, Listen, Options};
use crate::text::diagnostic::Diagnostic;

/// The default runtime directory; `RUNTIME_DIRECTORY` and the command line override it.
const RUNTIME: &str = "/run/dfw";
const SOCKET: &str = "guard.sock";
/// The file that tells `dfw fetch` what to fetch.
const REQUESTS: &str = "requests.yaml";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GuardArgs {
    #[command(flatten)]
    policy: crate::cli::arguments::PolicyPath,
    #[command(flatten)]
    engine: EngineArgs,
    /// State directory [default: /var/lib/dfw]
    ///
    /// Holds the last good policy. Under systemd, `STATE_DIRECTORY` is the default.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
    /// Fetch large files from this web server, if the policies are in etcd
    ///
    /// <https://HOST/SITE/>. What it does not have is fetched from etcd.
    #[arg(long, value_name = "URL", hide_short_help = true)]
    contents: Option<Address>,
    /// Write Prometheus metrics every 15 seconds
    ///
    /// For the textfile collector of `node_exporter`: the name must end in .prom.
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    /// Serve metrics at unix:PATH or a loopback ADDR:PORT
    ///
    /// Serves Prometheus metrics; the path is `/metrics`.
    #[arg(long, value_name = "WHERE")]
    metrics_listen: Option<Listen>,
    /// Do not own the table; restore it when another program modifies it
    #[arg(long, hide = true, env = "DFW_NO_OWNER")]
    no_owner: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SocketArgs {
    /// Control socket [default: /run/dfw/guard.sock]
    ///
    /// Answers `dfw status`. Under systemd, the default is in `RUNTIME_DIRECTORY`.
    #[arg(
        long,
        value_name = "PATH",
        env = "DFW_GUARD_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
}

impl SocketArgs {
    pub(in crate::cli) fn path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(usual_socket)
    }
}

/// Returns the control socket of guard, unless an argument or `DFW_GUARD_SOCKET` names another one.
fn usual_socket() -> PathBuf {
    arguments::folder("RUNTIME_DIRECTORY", RUNTIME).join(SOCKET)
}

/// Returns the control socket of guard for verbs that have no argument for it.
pub(in crate::cli) fn default_socket() -> PathBuf {
    std::env::var_os("DFW_GUARD_SOCKET").map_or_else(usual_socket, PathBuf::from)
}

pub(in crate::cli) fn run(args: &GuardArgs) -> Result<(), Failure> {
    let (site, location) = match args.policy.address()? {
        Some(address) => {
            if address.is_etcd() && args.policy.host().is_none() {
                let message = "a host that follows a store has a name: `--host-id NAME`";
                return Err(Failure::plain(Diagnostic::error("host", message)));
            }
            let location = args.policy.to_follow(&address)?;
            (Some(address), location)
        }
        None => (None, args.policy.to_enforce()?),
    };
    let options = Options {
        location,
        site,
        contents: args.contents.clone(),
        engines: args.engine.ask(),
        state: args.state.clone().unwrap_or_else(arguments::state),
        cache: arguments::cache(),
        requests: args.socket.path().with_file_name(REQUESTS),
        socket: args.socket.path(),
        metrics: args.metrics_file.clone(),
        listen: args.metrics_listen.clone(),
        own: !args.no_owner,
    };
    guard::run(&options).map_err(|error| match error {
        Error::Kernel(error) => error.into(),
        Error::Watch(_) | Error::Site(_) => {
            Failure::plain(Diagnostic::error("guard", error.to_string()))
        }
    })
}
