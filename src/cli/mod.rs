//! The command line: one file per verb. Everything else is a library that knows nothing of it.

mod apply;
mod audit;
mod changes;
mod check;
mod confirm;
mod directory;
mod explain;
mod failure;
mod generate;
mod guard;
mod host;
mod import;
mod init;
mod load;
mod log;
mod manual;
mod notice;
mod plan;
mod preview;
mod remove;
mod session;
mod show;
mod status;
mod summary;
mod test;
mod trace;
mod view;
mod watch;
mod watchdog;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::output::terminal::Terminal;
use host::EngineArgs;

/// Where policies are if the command line does not say.
const DEFAULT_PATH: &str = "/etc/dfw/policies";

/// Firewall the ports that Docker publishes.
#[derive(Debug, Parser)]
#[command(
    name = "dfw",
    version,
    after_help = "\
Examples:
  dfw audit                    who reaches what containers publish now?
  dfw init --allow 192.0.2.0/24 policies/
                               a first policy, of what is published now
  dfw explain --from 198.51.100.7 --to 443
                               would it reach that port, and why (not)?
  dfw trace --from 198.51.100.7
                               where do packets from there go, and who drops them?
  dfw log                      who is refused now? (ports with `log: true`)
  dfw check policies/          is this policy right? (needs no root)
  dfw test policies/           does it mean what its tests expect?
  dfw plan policies/           what would change?
  dfw apply policies/          put it in force, all of it or nothing
  dfw apply --confirm 60s policies/
                               the same, and back again unless you say yes in time
  dfw guard policies/          keep it in force, whatever others do
  dfw status                   what is in force, and whom it let in or refused
  dfw show --policy policies/  the rules that a policy becomes, as nft text
  iptables-save | dfw import   a policy from the rules of DOCKER-USER or ufw-docker

Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the policies have errors;
10 there are changes (plan --exit-code); 11 a test of the policies failed, or
audit found a port that is open to any by no policy."
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Answer with JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
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
    /// Say who reaches what containers publish, and by which line of the policy
    Audit(AuditArgs),
    /// Write a first policy, of what is published now
    Init(InitArgs),
    /// Make a policy from the rules of DOCKER-USER or ufw-docker; needs neither root nor a kernel
    Import(ImportArgs),
    /// Say whether the policies are right; needs neither root nor a kernel
    Check(PolicyPath),
    /// Run the tests of the policies, and show what decided; needs neither root nor a kernel
    Test(PolicyPath),
    /// Say what apply would change, and change nothing
    Plan(PlanArgs),
    /// Put the policies in force: one transaction, all of it or nothing
    Apply(apply::ApplyArgs),
    /// Keep the policies in force: a daemon that takes up every change and puts back what others do
    Guard(guard::GuardArgs),
    /// Say what is in force, and how many packets it let through and refused
    Status(StatusArgs),
    /// Say whether a source reaches a port, by which door, and which line decides
    Explain(explain::ExplainArgs),
    /// Follow packets through all tables of the kernel as they come, and say who dropped them
    Trace(trace::TraceArgs),
    /// Show refused packets as they come, of ports that a policy gives `log: true`
    ///
    /// At most 10 a second of each port are shown; the counters of `dfw status` know them all. The
    /// same packets go to the kernel log. Only one program can listen at a time.
    Log(log::LogArgs),
    /// Print the rules in force as nft text, or those that a policy becomes
    Show(ShowArgs),
    /// Take dfw's rules out of the kernel
    Remove,
    /// Print completions and the schema of policies, or write manual pages
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
    /// The directory to write it into; one that has a policy is left alone
    #[arg(default_value = DEFAULT_PATH)]
    path: PathBuf,
    /// Who may reach every port of it: an address, a network, a range, or `any`; nobody if not
    /// given
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    allow: Vec<init::Allowed>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Compile this policy instead of reading the kernel; needs no root
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = DEFAULT_PATH)]
    policy: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// What `iptables-save` and `ip6tables-save` print; stdin if none is given
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the policy to DIR/imported.yaml, if DIR has no policy yet, instead of stdout
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the program: reads the command line, does what it says, and reports.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let colour = match args.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    let terminal = Terminal::new(args.json, colour);
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
