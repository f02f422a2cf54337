//! `dfw import`: a policy from the rules that somebody has.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::diagnostic::Diagnostic;
use crate::import::{Error, Import, import};
use crate::output::diagnostic::to_json;
use crate::output::json;
use crate::output::table::count;
use crate::output::terminal::{Terminal, Tone};
use crate::source::{FileId, ReadError, Sources};

use super::apply::summary;
use super::failure::Failure;

/// The file that is written into a directory.
const NAME: &str = "imported.yaml";

pub(super) fn run(
    terminal: Terminal,
    paths: &[PathBuf],
    output: Option<&Path>,
) -> Result<(), Failure> {
    let mut sources = Sources::new();
    let files = read(&mut sources, paths)?;
    let imported = import(&sources, &files).map_err(|error| refused(&error))?;
    if let Some(dir) = output {
        prepare(dir)?;
    }
    for remark in &imported.remarks {
        terminal.diagnostic(remark, &sources);
        terminal.gap();
    }
    let written = output.map(|dir| write(dir, &imported.text)).transpose()?;
    let answer = || {
        json!({
            "schema": "dfw/import/v1",
            "policy": json::policy(&imported.policy),
            "text": imported.text,
            "written": written.as_ref().map(|path| path.display().to_string()),
            "remarks": imported
                .remarks
                .iter()
                .map(|remark| to_json(remark, &sources))
                .collect::<Vec<_>>(),
        })
    };
    terminal.answer(answer, || match &written {
        None => imported.text.clone(),
        Some(path) => told(terminal, &imported, path),
    })?;
    Ok(())
}

fn refused(error: &Error) -> Failure {
    let (slug, help) = match error {
        Error::NoRules => (
            "no-rules",
            "give it unchanged: `(iptables-save; ip6tables-save) | dfw import`",
        ),
        Error::Invalid(_) => ("import", "this is a mistake of dfw, please report it"),
    };
    Failure::plain(Diagnostic::error(slug, error.to_string()).help(help))
}

/// What was written, in short.
fn told(terminal: Terminal, imported: &Import, path: &Path) -> String {
    format!(
        "{}{}: {} with {}; read it before you apply it\n",
        summary(&imported.policy),
        terminal.paint(Tone::Good, "written"),
        path.display(),
        count(imported.remarks.len(), "remark", "remarks"),
    )
}

fn read(sources: &mut Sources, paths: &[PathBuf]) -> Result<Vec<FileId>, Failure> {
    let unreadable = |error: String| Failure::plain(Diagnostic::error("unreadable", error));
    if paths.is_empty() {
        let mut stdin = io::stdin().lock();
        if stdin.is_terminal() {
            return Err(Failure::plain(
                Diagnostic::error("no-input", "no rules to import")
                    .help("`(iptables-save; ip6tables-save) | dfw import`, or name files"),
            ));
        }
        let mut bytes = Vec::new();
        stdin
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(format!("cannot read stdin: {error}")))?;
        return Ok(vec![sources.take("stdin", bytes)]);
    }
    let read = |path| {
        sources
            .read_file(path)
            .map_err(|error: ReadError| unreadable(error.to_string()))
    };
    paths.iter().map(PathBuf::as_path).map(read).collect()
}

fn unwritable(what: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", path.display());
    Failure::plain(Diagnostic::error("unwritable", message).help("nothing was written"))
}

/// Makes the directory, or makes sure that it has no policy yet.
fn prepare(dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        return fs::create_dir(dir).map_err(|error| unwritable("make", dir, &error));
    }
    let entries = fs::read_dir(dir).map_err(|error| unwritable("read", dir, &error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| unwritable("read", dir, &error))?
            .path();
        let is_policy = path.extension().is_some_and(|extension| {
            ["yaml", "yml"]
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        });
        if is_policy {
            let message = format!("{} has a policy already: {}", dir.display(), path.display());
            return Err(Failure::plain(
                Diagnostic::error("not-empty", message).help(
                    "nothing was written; all files of a directory are one policy, so name another",
                ),
            ));
        }
    }
    Ok(())
}

/// Writes the policy; never over a file that is there.
fn write(dir: &Path, text: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(NAME);
    let failed = |error: &io::Error| unwritable("write", &path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| failed(&error))?;
    if let Err(error) = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
    {
        // Half a policy is worse than none.
        let _ = fs::remove_file(&path);
        return Err(failed(&error));
    }
    Ok(path)
}
