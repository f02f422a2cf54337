//! `dfw fleet`: policies for many hosts through etcd, rolled out in stages.

#[cfg(feature = "etcd")]
mod drive;
mod init;
#[cfg(feature = "etcd")]
mod open;
#[cfg(feature = "etcd")]
mod push;
#[cfg(feature = "etcd")]
mod status;

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::bundle::word::{HostPattern, Word};
use crate::bundle::{Address, Stage};
use crate::cli::commands::bundle::{group, valid};
use crate::cli::page_file::Destination;
use crate::cli::report::failure::Failure;
use crate::output::terminal::Terminal;
use crate::policy::parse_time;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct FleetVerbs {
    #[command(subcommand)]
    verb: FleetVerb,
}

#[derive(Debug, Subcommand)]
enum FleetVerb {
    /// Print the commands that give the site its users and roles in etcd
    Init(InitArgs),
    /// Push policies to all hosts of a site, and roll them out in stages
    ///
    /// Numbers and signs the policies, uploads what the store lacks, and then opens one stage after the other: once all
    /// its hosts have confirmed the policies and stayed healthy. Stops when a host refuses them, takes them back or
    /// falls silent. A push that was interrupted goes on with `dfw fleet resume`. Pushing the same policies again only
    /// renews the time until which they are valid.
    Push(PushArgs),
    /// Show each host, and what to do about those that have a problem
    Status(StatusArgs),
    /// Stop the roll-out: no further host takes the policies
    Pause(SteerArgs),
    /// Go on with a roll-out that was stopped or interrupted
    Resume(ResumeArgs),
    /// Push the policies of an earlier generation under a new number
    Rollback(RollbackArgs),
    /// Free space in etcd, and end the alarm of a full database
    ///
    /// Takes the certificate of an administrator of etcd, who may defragment.
    Repair(RepairArgs),
}

// The store, and who may have signed what is in it.
#[derive(Debug, clap::Args)]
struct StoreArgs {
    /// The store: <etcd://HOST,HOST,HOST/SITE>
    #[arg(value_name = "STORE", env = "DFW_STORE", hide_env_values = true)]
    store: Address,
    /// The directory with ca.pem, cert.pem and key.pem [default: /etc/dfw/etcd]
    #[arg(long, value_name = "DIR", env = "DFW_ETCD_TLS", hide_env_values = true)]
    tls: Option<PathBuf>,
    /// Trust this key of minisign: a file, or a directory of *.pub files [default: /etc/dfw/policy.pub.d]
    #[arg(long, value_name = "KEY")]
    trusted_key: Vec<PathBuf>,
    /// Trust this key for heads and roll-outs only [default: /etc/dfw/operations.pub.d]
    #[arg(long, value_name = "KEY")]
    operations_key: Vec<PathBuf>,
}

// How a roll-out goes on.
#[derive(Debug, clap::Args)]
struct WaitArgs {
    /// Open all stages at once
    #[arg(long)]
    now: bool,
    /// How long all hosts of a stage must be healthy before the next one
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    settle: Duration,
    /// How long a host may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    patience: Duration,
}

// The keys that sign.
#[derive(Debug, clap::Args)]
struct SecretArgs {
    /// Sign with this secret key of minisign
    #[arg(long, value_name = "FILE")]
    secret_key: PathBuf,
    /// Sign heads and roll-outs with this one instead
    #[arg(long, value_name = "FILE")]
    operations_secret_key: Option<PathBuf>,
    /// The file that remembers the last numbers [default: ~/.local/state/dfw/SITE.json]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    record: Option<PathBuf>,
    /// The quota of etcd's database in MiB: nothing is pushed to one that is more than half full
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = 2048,
        hide_short_help = true
    )]
    quota: u64,
    /// For how long hosts accept the head: from `1m` to `366d`
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = valid, hide_short_help = true)]
    expires_in: Duration,
}

#[derive(Debug, clap::Args)]
struct InitArgs {
    /// The store: <etcd://HOST,HOST,HOST/SITE>
    #[arg(value_name = "STORE", env = "DFW_STORE", hide_env_values = true)]
    store: Address,
    /// A host, by the name that its certificate has. Can be repeated
    #[arg(long = "host", value_name = "NAME", required = true)]
    hosts: Vec<Word>,
}

#[derive(Debug, clap::Args)]
struct PushArgs {
    /// A directory of policies, or a bundle that is signed already
    #[arg(value_name = "POLICIES")]
    policies: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    secret: SecretArgs,
    /// A group and its hosts: `web=web-1,web-2` or `web=web-*`. Can be repeated
    #[arg(long, value_name = "NAME=HOSTS", value_parser = group)]
    group: Vec<(Word, Vec<HostPattern>)>,
    /// A stage: a group, or a share such as `5%`. Can be repeated [default: canary if there is such a group, 5%, 25%]
    #[arg(long, value_name = "GROUP|SHARE")]
    stage: Vec<Stage>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Push and end: the first stage is open, and `dfw fleet resume` opens the others
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Show it again whenever something changes
    #[arg(long, conflicts_with_all = ["html", "metrics_file"])]
    watch: bool,
    /// Write a page to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    html: Option<Destination>,
    /// Write Prometheus metrics for the textfile collector to this file
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct SteerArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Sign with this secret key of minisign
    #[arg(long, value_name = "FILE")]
    secret_key: PathBuf,
    /// Why, for `dfw fleet status` and the hosts
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "paused by an administrator"
    )]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct ResumeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Sign with this secret key of minisign
    #[arg(long, value_name = "FILE")]
    secret_key: PathBuf,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
struct RollbackArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    secret: SecretArgs,
    /// The generation to go back to [default: the one before]
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Push and end: the first stage is open, and `dfw fleet resume` opens the others
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, clap::Args)]
struct RepairArgs {
    #[command(flatten)]
    store: StoreArgs,
}

fn time(text: &str) -> Result<Duration, String> {
    /// The longest wait.
    const MOST: Duration = Duration::from_hours(24);
    let time = if text == "0" {
        Some(Duration::ZERO)
    } else {
        parse_time(text)
    };
    let time = time.filter(|time| *time <= MOST);
    time.ok_or_else(|| "write a time such as `30s` or `10m`, at most `24h`".to_owned())
}

pub(in crate::cli) fn run(terminal: Terminal, args: &FleetVerbs) -> Result<(), Failure> {
    match &args.verb {
        FleetVerb::Init(args) => init::run(terminal, args),
        #[cfg(feature = "etcd")]
        FleetVerb::Push(args) => push::run(terminal, args),
        #[cfg(feature = "etcd")]
        FleetVerb::Rollback(args) => push::roll_back(terminal, args),
        #[cfg(feature = "etcd")]
        FleetVerb::Status(args) => status::run(terminal, args),
        #[cfg(feature = "etcd")]
        FleetVerb::Pause(args) => drive::pause(terminal, args),
        #[cfg(feature = "etcd")]
        FleetVerb::Resume(args) => drive::resume(terminal, args),
        #[cfg(feature = "etcd")]
        FleetVerb::Repair(args) => status::repair(terminal, args),
        #[cfg(not(feature = "etcd"))]
        _ => Err(Failure::plain(
            crate::text::diagnostic::Diagnostic::error("etcd", "this dfw was built without etcd")
                .help("build it with `cargo build --release --features etcd`"),
        )),
    }
}
