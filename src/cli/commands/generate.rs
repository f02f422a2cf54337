//! `dfw generate`: files for editors, generated from the policy language.

use crate::cli::report::failure::Failure;
use crate::output::terminal::Terminal;
use crate::policy;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the JSON Schema of policies, for completion and validation in editors
    Schema,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &GenerateArgs) -> Result<(), Failure> {
    match args.what {
        What::Schema => {
            terminal.answer(policy::schema, || format!("{:#}\n", policy::schema()))?;
        }
    }
    Ok(())
}
