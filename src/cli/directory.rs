//! The output directory of a new policy; existing policies are never overwritten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::file;
use crate::text::diagnostic::Diagnostic;
use crate::untrusted;

use super::report::failure::Failure;

fn unwritable(what: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", untrusted::path(path));
    Failure::plain(Diagnostic::error("unwritable", message).help("nothing was written"))
}

/// Returns whether a path is named like a policy file.
fn is_policy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Creates the directory, or checks that it has no policy yet.
pub(super) fn prepare(dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        if is_policy(dir) {
            let message = format!("{} is the name of a file", untrusted::path(dir));
            return Err(Failure::plain(
                Diagnostic::error("not-a-directory", message)
                    .help("nothing was written; name a directory"),
            ));
        }
        return fs::create_dir_all(dir).map_err(|error| unwritable("create", dir, &error));
    }
    let entries = fs::read_dir(dir).map_err(|error| unwritable("read", dir, &error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| unwritable("read", dir, &error))?
            .path();
        if is_policy(&path) {
            let message = format!(
                "{} already has a policy: {}",
                untrusted::path(dir),
                untrusted::path(&path)
            );
            return Err(Failure::plain(
                Diagnostic::error("not-empty", message).help(
                    "nothing was written; all files of a directory form one policy, so name another directory",
                ),
            ));
        }
    }
    Ok(())
}

/// Writes the policy to a new file, atomically.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    file::sweep(&path);
    // The umask does not matter: a policy is not secret.
    file::create(&path, 0o644, text.as_bytes())
        .map_err(|error| unwritable("write", &path, &error))?;
    Ok(path)
}
