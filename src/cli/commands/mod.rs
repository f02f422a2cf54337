//! The commands of `dfw`, one module each.

mod apply;
mod audit;
mod bundle;
mod check;
mod diff;
mod explain;
mod fetch;
mod fleet;
mod generate;
mod grant;
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

// Only the typed command gets its options: half of clap's time otherwise. They come after the texts below, so a
// doc comment at a structure of options would take their place.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Verb {
    /// Show who can reach published ports, and which policy line allows it
    ///
    /// Reads published ports from the engines, and listening sockets and rules from the kernel, and
    /// evaluates every path to every port for untrusted clients. Needs root, but no policy. Exits
    /// with 11 if a path is open to everyone without a policy entry.
    #[command(after_help = examples::AUDIT)]
    Audit(audit::AuditArgs),
    /// Write a first policy from the ports that are published now
    ///
    /// One line for each published port, including ports of stopped containers. Never overwrites a
    /// policy. Changes no rules: run `dfw apply` for that.
    #[command(after_help = examples::INIT)]
    Init(init::InitArgs),
    /// Convert DOCKER-USER or ufw-docker rules to a policy
    ///
    /// The policy allows no more than the rules, unless a warning says so. Rules that dfw does not
    /// understand are reported with their line.
    /// Needs neither root nor a kernel.
    #[command(after_help = examples::IMPORT)]
    Import(import::ImportArgs),
    /// Validate the policies
    ///
    /// Reports every error in every file, with file and line, and warns of lines that never decide and of
    /// databases that are open to everybody. Runs the policies' `tests:`, too. Needs neither root nor a
    /// kernel.
    #[command(after_help = examples::CHECK)]
    Check(check::CheckArgs),
    /// Run the policies' tests and show the rules that decided
    ///
    /// Needs neither root nor a kernel. Exits with 11 if a test fails.
    #[command(after_help = examples::TEST)]
    Test(PolicyPath),
    /// Show what apply would change
    ///
    /// Lists who gains and loses access, changed ports, sources and settings, and published ports that
    /// will be closed or opened. Changes nothing.
    #[command(after_help = examples::PLAN)]
    Plan(plan::PlanArgs),
    /// Show what a change of the policies opens and closes
    ///
    /// For every port, path and address of both families: who gains access, who loses it, and which
    /// lines decide before and after. Needs neither root nor a kernel.
    #[command(after_help = examples::DIFF)]
    Diff(diff::DiffArgs),
    /// Apply the policies atomically
    ///
    /// Validates the policies, runs their tests, shows the changes and sends the kernel only the
    /// difference, in transactions that lose no packet. Applying again changes nothing.
    #[command(after_help = examples::APPLY)]
    Apply(apply::ApplyArgs),
    /// Run the daemon that keeps the policies in force
    ///
    /// Applies changes of the policies and of published ports, and restores dfw's table when another
    /// program modifies it. The rules stay in force when guard stops.
    #[command(after_help = examples::GUARD)]
    Guard(guard::GuardArgs),
    /// Give a source access to a port until a time
    ///
    /// The kernel ends the access, also an open connection, even if dfw does not run then. The policy says for how
    /// long and at which ports: `grants: {max-time: 8h, ports: [5432]}`. Needs root and a running guard.
    #[command(after_help = examples::GRANT)]
    Grant(grant::GrantArgs),
    /// Fetch the policies' names and lists into the cache
    ///
    /// Started as root, it drops all privileges except writing to the cache before it sends a packet.
    /// `dfw apply` uses the fetched content; `dfw guard` uses it at once.
    #[command(after_help = examples::FETCH)]
    Fetch(fetch::FetchArgs),
    /// Sign policies for many hosts: make, check and renew bundles
    ///
    /// A bundle is a directory with policies and lists under their digests, a signed manifest that lists them, and
    /// a signed head that names the manifest and expires. Other commands read a bundle in place of a directory.
    #[command(after_help = examples::BUNDLE)]
    Bundle(bundle::BundleVerbs),
    /// Push policies to many hosts through etcd, in stages
    ///
    /// Hosts follow a store with `dfw guard etcd://…/SITE`, and trust nothing but signatures. A roll-out stops by itself
    /// when a host refuses policies, takes them back or falls silent.
    #[command(after_help = examples::FLEET)]
    Fleet(fleet::FleetVerbs),
    /// Show the rules in force, with counters of allowed and denied packets
    ///
    /// Begins with problems, if there are any. Also shows other base chains on the same hooks in the order of
    /// their priorities, and whether guard runs.
    #[command(after_help = examples::STATUS)]
    Status(status::StatusArgs),
    /// Show whether a source can reach a port, and which line decides
    ///
    /// Evaluates the rules in force for each path to the port, and shows each rule and list entry
    /// that decides. `--from` alone shows every port that the source reaches, `--to` alone every
    /// address that reaches the port. Sends no packet.
    #[command(after_help = examples::EXPLAIN)]
    Explain(explain::ExplainArgs),
    /// Trace packets through all nftables tables, live
    ///
    /// Shows each rule that a packet matches, in dfw's table and in all others, as the kernel
    /// reports it. The last line shows which rule dropped the packet.
    #[command(after_help = examples::TRACE)]
    Trace(trace::TraceArgs),
    /// Show denied packets of ports with `log: true`, live
    ///
    /// Shows at most 10 packets a second for each port; the counters of `dfw status` count all. Only
    /// one program can listen at a time.
    #[command(after_help = examples::LOG)]
    Log(log::LogArgs),
    /// Print the rules in force, or those of a policy, as nft text
    ///
    /// The comments of the rules name the policy line.
    #[command(after_help = examples::SHOW)]
    Show(show::ShowArgs),
    /// Remove dfw's rules from the kernel
    ///
    /// Deletes the table inet dfw-nft and nothing else. Policies stay. If guard runs, stop it first.
    #[command(after_help = examples::REMOVE)]
    Remove,
    /// Print the JSON Schema of policies
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Verb {
    /// Runs the command.
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
            Self::Check(args) => check::run(terminal, args),
            Self::Test(args) => test::run(terminal, args),
            Self::Show(args) => show::run(terminal, args),
            Self::Guard(args) => guard::run(args),
            Self::Grant(args) => grant::run(terminal, args),
            Self::Fetch(args) => fetch::run(terminal, args),
            Self::Bundle(args) => bundle::run(terminal, args),
            Self::Fleet(args) => fleet::run(terminal, args),
            Self::Status(args) => status::run(terminal, args),
            Self::Remove => remove::run(terminal),
            Self::Generate(args) => generate::run(terminal, args),
            Self::Import(args) => import::run(terminal, args),
        }?;
        Ok(ExitCode::SUCCESS)
    }

    /// Returns whether the command changes rules, so that its failure reports whether they changed.
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
            | Self::Grant(_)
            | Self::Fetch(_)
            | Self::Bundle(_)
            | Self::Fleet(_)
            | Self::Status(_)
            | Self::Import(_)
            | Self::Generate(_) => false,
        }
    }
}
