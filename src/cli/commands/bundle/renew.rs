//! `dfw bundle renew`: a new head for the files of a bundle.

use std::path::PathBuf;

use crate::bundle::signed;
use crate::cli::arguments::BundleArgs;
use crate::cli::report::failure::Failure;
use crate::file;
use crate::output::terminal::{Terminal, Tone};
use crate::store::bundle::Bundle;
use crate::text::SourceMap;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::{TimeArgs, commands, describe, document, location, sign};

#[derive(Debug, clap::Args)]
pub(super) struct RenewArgs {
    /// The bundle, signed
    #[arg(value_name = "BUNDLE")]
    path: PathBuf,
    #[command(flatten)]
    time: TimeArgs,
    /// Write the new head to this file, which must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    bundle: BundleArgs,
}

pub(super) fn run(terminal: Terminal, args: &RenewArgs) -> Result<(), Failure> {
    let mut location = location(&args.bundle, &args.path)?;
    let denied = |error| Failure::bundle(&error);
    // A head that has expired can be renewed.
    location.trust.is_enforced = false;
    let bundle = Bundle::open(&location.path, &location.trust).map_err(denied)?;
    terminal.diagnostics(&bundle.warnings, &SourceMap::new());
    let plain = |slug, message: String| Failure::plain(Diagnostic::error(slug, message));
    let renewed = bundle.head.renew(args.time.created(), args.time.expires_in);
    let renewed = renewed
        .and_then(|head| Ok((signed::write(&head)?, head)))
        .map_err(|error| plain("bundle", error.to_string()));
    let (text, head) = renewed?;
    let output = &args.output;
    let signing = [sign(output, &signed::comment(&head))?];
    file::create(output, 0o644, text.as_bytes()).map_err(|error| {
        let message = format!("cannot write {}: {error}", untrusted::path(output));
        plain("unwritable", message)
    })?;
    terminal.answer(
        || {
            let warnings = bundle.warnings.iter();
            let warnings: Vec<_> = warnings
                .map(|warning| terminal.to_json(warning, &SourceMap::new()))
                .collect();
            document(&head, &bundle.contents.manifest, &warnings, &signing)
        },
        || {
            format!(
                "{}: {}\n{}{}",
                terminal.paint(Tone::Good, "renewed"),
                untrusted::path(output),
                describe(&head, &bundle.contents.manifest),
                commands(&signing),
            )
        },
    )?;
    Ok(())
}
