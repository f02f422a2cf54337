//! `dfw import`: converts iptables rules to a policy.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::directory;
use crate::cli::report::failure::Failure;
use crate::cli::report::summary::summary;
use crate::file::{self, Limit};
use crate::import::{Error, Import, import};
use crate::output::progress::Progress;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::text::diagnostic::Diagnostic;
use crate::text::{FileId, SourceMap, Unreadable};
use crate::untrusted;

/// The name of the policy file in the output directory.
const NAME: &str = "imported.yaml";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ImportArgs {
    /// Output of iptables-save or ip6tables-save [default: stdin]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write DIR/imported.yaml instead of stdout; DIR must not have a policy yet
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(in crate::cli) fn run(terminal: Terminal, args: &ImportArgs) -> Result<(), Failure> {
    let (paths, output) = (&args.files, args.output.as_deref());
    let mut sources = SourceMap::new();
    let files = read(&mut sources, paths)?;
    let imported = match Progress::during("evaluating the rules", || import(&sources, &files)) {
        Ok(imported) => imported,
        Err(error) => return Err(denied(error, sources)),
    };
    if let Some(dir) = output {
        directory::prepare(dir)?;
    }
    terminal.diagnostics(&imported.remarks, &sources);
    let written = output
        .map(|dir| directory::write(dir, NAME, &imported.text))
        .transpose()?;
    let answer = || {
        json!({
            "schema": "dfw/import/v2",
            "policy": imported.policy.json(),
            "text": imported.text,
            "written": written.as_ref().map(|path| path.display().to_string()),
            "remarks": imported
                .remarks
                .iter()
                .map(|remark| terminal.to_json(remark, &sources))
                .collect::<Vec<_>>(),
        })
    };
    terminal.answer(answer, || match &written {
        None => imported.text.clone(),
        Some(path) => outcome(terminal, &imported, path),
    })?;
    Ok(())
}

fn denied(error: Error, sources: SourceMap) -> Failure {
    match error {
        Error::Rejected(diagnostics) => Failure::Failed {
            diagnostics,
            sources: Box::new(sources),
            certain: true,
        },
        Error::Invalid(_) => Failure::plain(
            Diagnostic::error("import", error.to_string())
                .help("this is a bug in dfw, please report it"),
        ),
    }
}

/// Returns the summary of the policy that was written.
fn outcome(terminal: Terminal, imported: &Import, path: &Path) -> String {
    format!(
        "{}{}: {} with {}; review it, and verify it with `dfw explain` and `dfw test` before you remove \
         the old rules\n",
        summary(terminal, &imported.policy),
        terminal.paint(Tone::Good, "written"),
        untrusted::path(path),
        count(imported.remarks.len(), "remark", "remarks"),
    )
}

fn read(sources: &mut SourceMap, paths: &[PathBuf]) -> Result<Vec<FileId>, Failure> {
    let unreadable = |error: String| Failure::plain(Diagnostic::error("unreadable", error));
    if paths.is_empty() {
        let stdin = io::stdin().lock();
        if stdin.is_terminal() {
            return Err(Failure::plain(
                Diagnostic::error("no-input", "no rules to import")
                    .help("run `(iptables-save; ip6tables-save) | dfw import`, or name files"),
            ));
        }
        let bytes = file::read_all(stdin, Limit::LIST)
            .map_err(|error| unreadable(format!("cannot read stdin: {error}")))?;
        return Ok(vec![sources.take("stdin", bytes)]);
    }
    let read = |path| {
        sources
            .read_file(path)
            .map_err(|error: Unreadable| unreadable(error.to_string()))
    };
    paths.iter().map(PathBuf::as_path).map(read).collect()
}
