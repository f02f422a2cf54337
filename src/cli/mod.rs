//! The command line: one file per verb. Everything else is a library that knows nothing of it.

mod apply;
mod audit;
mod changes;
mod check;
mod confirm;
mod directory;
mod examples;
mod explain;
mod failure;
mod generate;
mod guard;
mod host;
mod import;
mod init;
mod load;
mod log;
mod notice;
mod plan;
mod preview;
mod problems;
mod remove;
mod session;
mod show;
mod status;
mod summary;
mod test;
mod trace;
mod usage;
mod watch;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::untrusted;

use host::EngineArgs;

/// Where policies are if the command line does not say.
const DEFAULT_PATH: &str = "/etc/dfw/policies";

/// Firewall the ports that Docker publishes.
#[derive(Debug, Parser)]
#[command(
    name = "dfw",
    version,
    help_template = "\
{about}

{usage-heading} {usage}

{subcommands}{after-help}",
    after_help = examples::DFW,
    after_long_help = examples::TOUR
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Answer with JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    /// When to use colour: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    color: Color,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say who reaches what containers publish, and by which line
    ///
    /// Asks the engine what it publishes, the kernel which sockets wait for clients and which rules
    /// are in force, and walks every way to every published port as a stranger would. Needs root,
    /// and no policy. The exit code is 11 if something is open to any by no policy.
    #[command(after_help = examples::AUDIT)]
    Audit(AuditArgs),
    /// Write a first policy, of what is published now
    ///
    /// A line for each published port, also of containers that do not run at the moment. A
    /// directory that has a policy is left alone, and nothing is in force before `dfw apply`.
    #[command(after_help = examples::INIT)]
    Init(InitArgs),
    /// Make a policy from the rules of DOCKER-USER or ufw-docker
    ///
    /// It decides the same, and what is not understood is told at its line. Needs neither root nor
    /// a kernel.
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Say whether the policies are right
    ///
    /// All mistakes of all files are told at once, each at its line. The policies' `tests:` are run
    /// too. Needs neither root nor a kernel.
    #[command(after_help = examples::CHECK)]
    Check(PolicyPath),
    /// Run the tests of the policies, and show what decided
    ///
    /// Needs neither root nor a kernel. The exit code is 11 if a test fails.
    #[command(after_help = examples::TEST)]
    Test(PolicyPath),
    /// Say what apply would change, and change nothing
    ///
    /// Ports, sources and settings, and which published ports are then closed or open to strangers.
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),
    /// Put the policies in force: all of it or nothing
    ///
    /// Checks them, runs their tests, says what changes, and sends the kernel the difference in
    /// transactions that lose no packet. A second time it changes nothing.
    #[command(after_help = examples::APPLY)]
    Apply(apply::ApplyArgs),
    /// Keep the policies in force: a daemon
    ///
    /// Takes up every change of the policies and of what engines publish, and puts back what others
    /// do to dfw's table. When it ends, the rules stay.
    #[command(after_help = examples::GUARD)]
    Guard(guard::GuardArgs),
    /// Say what is in force, and what it let through and refused
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Say whether a source reaches a port, and which line decides
    ///
    /// Computed from the rules in force, door by door, with each rule and list entry that decides.
    /// No packet is sent.
    #[command(after_help = examples::EXPLAIN)]
    Explain(explain::ExplainArgs),
    /// Follow packets through all tables as they come
    ///
    /// The kernel itself tells of each rule that a packet meets, whoever made it, and the last line
    /// says who dropped it.
    #[command(after_help = examples::TRACE)]
    Trace(trace::TraceArgs),
    /// Show refused packets as they come, of ports with `log: true`
    ///
    /// At most 10 a second of each port are shown; the counters of `dfw status` know them all. The
    /// same packets go to the kernel log. Only one program can listen at a time.
    #[command(after_help = examples::LOG)]
    Log(log::LogArgs),
    /// Print the rules as nft text, those in force or a policy's
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Take dfw's rules out of the kernel
    #[command(after_help = examples::REMOVE)]
    Remove,
    /// Print the JSON Schema of policies
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

#[derive(Debug, clap::Args)]
struct PolicyPath {
    /// A directory of *.yaml files, or one file
    #[arg(default_value = DEFAULT_PATH)]
    path: PathBuf,
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    guard: guard::SocketArgs,
}

#[derive(Debug, clap::Args)]
struct PlanArgs {
    #[command(flatten)]
    policy: PolicyPath,
    #[command(flatten)]
    engine: EngineArgs,
    /// Exit with 10 if there are changes
    #[arg(long)]
    exit_code: bool,
}

#[derive(Debug, clap::Args)]
struct AuditArgs {
    /// Audit as if this policy were in force
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_PATH)]
    policy: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
struct InitArgs {
    /// The directory to write it into
    #[arg(default_value = DEFAULT_PATH)]
    path: PathBuf,
    /// Who may reach these ports: addresses, networks, ranges or `any`; nobody if not given
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    allow: Vec<init::Allowed>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Show what this policy becomes; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_PATH)]
    policy: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// What `iptables-save` and `ip6tables-save` print; stdin if none is given
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write DIR/imported.yaml instead of stdout, if DIR has no policy yet
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Returns the command line of `dfw`: every command with its options and help.
///
/// Manual pages and shell completions are generated from it (`cargo run --example generate`).
#[must_use]
pub fn command_line() -> clap::Command {
    Args::command()
}

/// What to type for a verb; the usual place of policies need not be said.
fn command(verb: &str, path: &Path) -> String {
    if path == Path::new(DEFAULT_PATH) {
        format!("`dfw {verb}`")
    } else {
        format!("`dfw {verb} {}`", untrusted::path(path))
    }
}

/// Runs the program: reads the command line, does what it says, and reports.
#[must_use]
pub fn main() -> ExitCode {
    let (args, terminal) = match usage::read() {
        Ok(read) => read,
        Err(code) => return code,
    };
    let done = match &args.verb {
        Verb::Plan(plan) => {
            return match plan::run(terminal, &plan.policy.path, &plan.engine, plan.exit_code) {
                Ok(code) => code,
                Err(failure) => failure.report(terminal, false),
            };
        }
        Verb::Apply(args) => apply::run(terminal, args),
        Verb::Audit(args) => audit::run(terminal, args.policy.as_deref(), &args.engine),
        Verb::Explain(args) => explain::run(terminal, args),
        Verb::Trace(args) => trace::run(terminal, args),
        Verb::Log(args) => log::run(terminal, args),
        Verb::Init(args) => init::run(terminal, &args.path, &args.allow, &args.engine),
        Verb::Check(policy) => check::run(terminal, &policy.path),
        Verb::Test(policy) => test::run(terminal, &policy.path),
        Verb::Show(show) => match &show.policy {
            Some(path) => show::compiled(terminal, path),
            None => show::installed(terminal),
        },
        Verb::Guard(args) => guard::run(args),
        Verb::Status(status) => status::run(terminal, &status.guard.path()),
        Verb::Remove => remove::run(terminal),
        Verb::Generate(args) => generate::run(terminal, args),
        Verb::Import(import) => import::run(terminal, &import.files, import.output.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(terminal, args.verb.changes()),
    }
}

impl Verb {
    /// Whether a failure must say what has become of the rules.
    fn changes(&self) -> bool {
        match self {
            Self::Apply(_) | Self::Remove => true,
            Self::Plan(_)
            | Self::Audit(_)
            | Self::Explain(_)
            | Self::Trace(_)
            | Self::Log(_)
            | Self::Init(_)
            | Self::Check(_)
            | Self::Test(_)
            | Self::Show(_)
            | Self::Guard(_)
            | Self::Status(_)
            | Self::Import(_)
            | Self::Generate(_) => false,
        }
    }
}
