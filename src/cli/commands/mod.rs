//! The verbs: one file for each, with its arguments and what it does.

mod apply;
mod audit;
mod check;
mod diff;
mod explain;
mod generate;
mod guard;
mod import;
mod init;
mod log;
mod plan;
mod remove;
mod show;
mod status;
mod test;
mod trace;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::arguments::PolicyPath;
use crate::cli::examples;
use crate::cli::report::failure::Failure;
use crate::output::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Say who reaches what containers publish, and by which line
    ///
    /// Asks the engine what it publishes, the kernel which sockets wait for clients and which rules
    /// are in force, and walks every way to every published port as a stranger would. Needs root,
    /// and no policy. The exit code is 11 if something is open to any by no policy.
    #[command(after_help = examples::AUDIT)]
    Audit(audit::AuditArgs),
    /// Write a first policy, of what is published now
    ///
    /// A line for each published port, also of containers that do not run at the moment. A
    /// directory that has a policy is left alone, and nothing is in force before `dfw apply`.
    #[command(after_help = examples::INIT)]
    Init(init::InitArgs),
    /// Make a policy from the rules of DOCKER-USER or ufw-docker
    ///
    /// It decides the same, and what is not understood is told at its line. Needs neither root nor
    /// a kernel.
    #[command(after_help = examples::IMPORT)]
    Import(import::ImportArgs),
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
    Plan(plan::PlanArgs),
    /// Show what a change of the policies opens and closes
    ///
    /// For every port, path and address of both families: who gains access, who loses it, and which line
    /// decided and decides. Needs neither root nor a kernel.
    #[command(after_help = examples::DIFF)]
    Diff(diff::DiffArgs),
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
    /// Say what is in force, and what it let through and denied
    #[command(after_help = examples::STATUS)]
    Status(status::StatusArgs),
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
    /// Show denied packets as they come, of ports with `log: true`
    ///
    /// At most 10 a second of each port are shown; the counters of `dfw status` know them all. The
    /// same packets go to the kernel log. Only one program can listen at a time.
    #[command(after_help = examples::LOG)]
    Log(log::LogArgs),
    /// Print the rules as nft text, those in force or a policy's
    #[command(after_help = examples::SHOW)]
    Show(show::ShowArgs),
    /// Take dfw's rules out of the kernel
    #[command(after_help = examples::REMOVE)]
    Remove,
    /// Print the JSON Schema of policies
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Verb {
    /// Does what it says.
    pub(super) fn run(&self, terminal: Terminal) -> Result<ExitCode, Failure> {
        match self {
            Self::Plan(args) => return plan::run(terminal, args),
            Self::Diff(args) => return diff::run(terminal, args),
            Self::Apply(args) => return apply::run(terminal, args),
            Self::Audit(args) => audit::run(terminal, args),
            Self::Explain(args) => explain::run(terminal, args),
            Self::Trace(args) => trace::run(terminal, args),
            Self::Log(args) => log::run(terminal, args),
            Self::Init(args) => init::run(terminal, args),
            Self::Check(args) => check::run(terminal, &args.path),
            Self::Test(args) => test::run(terminal, &args.path),
            Self::Show(args) => show::run(terminal, args),
            Self::Guard(args) => guard::run(args),
            Self::Status(args) => status::run(terminal, args),
            Self::Remove => remove::run(terminal),
            Self::Generate(args) => generate::run(terminal, args),
            Self::Import(args) => import::run(terminal, args),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    /// Whether a failure must say what has become of the rules.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Apply(_) | Self::Remove => true,
            Self::Plan(_)
            | Self::Diff(_)
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
