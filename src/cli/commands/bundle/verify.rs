//! `dfw bundle verify`: whether hosts that trust a key would accept a bundle.

use std::path::PathBuf;

use crate::cli::arguments::BundleArgs;
use crate::cli::report::failure::Failure;
use crate::output::terminal::{Terminal, Tone};
use crate::store::bundle::Bundle;
use crate::untrusted;

use super::{describe, document, location};

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    path: PathBuf,
    #[command(flatten)]
    bundle: BundleArgs,
}

pub(super) fn run(terminal: Terminal, args: &VerifyArgs) -> Result<(), Failure> {
    let location = location(&args.bundle, &args.path)?;
    let bundle = Bundle::open(&location.path, &location.trust).and_then(|bundle| {
        bundle.contents.check_files()?;
        Ok(bundle)
    });
    let bundle = bundle.map_err(|error| Failure::bundle(&error))?;
    terminal.answer(
        || document(&bundle.head, &bundle.contents.manifest, &[], &[]),
        || {
            format!(
                "{}: {} is signed by a trusted key, and complete\n{}",
                terminal.paint(Tone::Good, "ok"),
                untrusted::path(&args.path),
                describe(&bundle.head, &bundle.contents.manifest),
            )
        },
    )?;
    Ok(())
}
