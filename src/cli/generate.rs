//! `dfw generate`: files for editors, generated from the policy language.

use crate::output::terminal::Terminal;
use crate::policy;

use super::failure::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the JSON Schema of policies, which editors complete and check with
    Schema,
}

pub(super) fn run(terminal: Terminal, args: &GenerateArgs) -> Result<(), Failure> {
    match args.what {
        What::Schema => {
            terminal.answer(policy::schema, || format!("{:#}\n", policy::schema()))?;
        }
    }
    Ok(())
}
