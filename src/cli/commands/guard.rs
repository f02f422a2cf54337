//! `dfw guard`: the policies stay in force.

use std::path::PathBuf;

use crate::cli::arguments::{self, EngineArgs};
use crate::cli::report::failure::Failure;
use crate::guard::{self, Error, Listen, Options};
use crate::text::diagnostic::Diagnostic;

/// Where things are if neither the command line nor the service manager says.
const RUNTIME: &str = "/run/dfw";
const SOCKET: &str = "guard.sock";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GuardArgs {
    #[command(flatten)]
    policy: crate::cli::arguments::PolicyPath,
    #[command(flatten)]
    engine: EngineArgs,
    /// Where the last good policy is kept [default: /var/lib/dfw]
    ///
    /// Or the folder that systemd says in `STATE_DIRECTORY`.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgs,
    /// Write figures for Prometheus every 15 seconds
    ///
    /// A file whose name ends in .prom, in the folder of a textfile collector.
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    /// Tell them at unix:PATH or a loopback ADDR:PORT
    ///
    /// To a Prometheus that asks there, at `/metrics`.
    #[arg(long, value_name = "WHERE")]
    metrics_listen: Option<Listen>,
    /// Leave the table to whoever wants to change it, and put it back
    #[arg(long, hide = true, env = "DFW_NO_OWNER")]
    no_owner: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SocketArgs {
    /// Where guard answers [default: /run/dfw/guard.sock]
    ///
    /// Or in the folder that systemd says in `RUNTIME_DIRECTORY`.
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
        self.socket
            .clone()
            .unwrap_or_else(|| arguments::folder("RUNTIME_DIRECTORY", RUNTIME).join(SOCKET))
    }
}

pub(in crate::cli) fn run(args: &GuardArgs) -> Result<(), Failure> {
    let options = Options {
        path: args.policy.path.clone(),
        engines: args.engine.ask(),
        state: args.state.clone().unwrap_or_else(arguments::state),
        cache: arguments::cache(),
        socket: args.socket.path(),
        metrics: args.metrics_file.clone(),
        listen: args.metrics_listen.clone(),
        own: !args.no_owner,
    };
    guard::run(&options).map_err(|error| match error {
        Error::Kernel(error) => error.into(),
        Error::Watch(_) => Failure::plain(Diagnostic::error("guard", error.to_string())),
    })
}
