//! `dfw check`: validates the policies.

use serde_json::json;

use crate::cli::arguments::PolicyPath;
use crate::cli::load::load_linted;
use crate::cli::report::failure::Failure;
use crate::cli::report::notice::local_ports;
use crate::cli::report::summary::{summary, tested};
use crate::host::local_ports::LocalPorts;
use crate::output::json;
use crate::output::terminal::{Terminal, Tone};
use crate::untrusted;

// Arguments of `dfw check`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CheckArgs {
    #[command(flatten)]
    policies: PolicyPath,
    /// Treat warnings about the policies as errors
    #[arg(long)]
    strict: bool,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &CheckArgs) -> Result<(), Failure> {
    let location = args.policies.to_show()?;
    let (loaded, passed) = load_linted(terminal, &location, args.strict)?;
    // Whether they overlap is a question to the host that they are for, which is mostly this one.
    let notices = local_ports(&loaded.policy, &LocalPorts::read());
    terminal.diagnostics(&notices, &loaded.sources);
    terminal.answer(
        || {
            json!({
                "schema": "dfw/check/v2",
                "policy": loaded.policy.json(),
                "tests": json::tests(passed, &[]),
                "warnings": loaded
                    .warnings
                    .iter()
                    .chain(&notices)
                    .map(|warning| terminal.to_json(warning, &loaded.sources))
                    .collect::<Vec<_>>(),
            })
        },
        || {
            let good = terminal.paint(Tone::Good, "ok");
            format!(
                "{}{}{good}: {} is valid\n",
                summary(terminal, &loaded.policy),
                tested(passed),
                untrusted::path(&location.path)
            )
        },
    )?;
    Ok(())
}
