//! A directory for a new policy; what is there already is never written over.

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

/// Whether a path has the name of a policy, which is a file.
fn is_policy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// Makes the directory, or makes sure that it has no policy yet.
pub(super) fn prepare(dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        if is_policy(dir) {
            let message = format!("{} is the name of a file", untrusted::path(dir));
            return Err(Failure::plain(
                Diagnostic::error("not-a-directory", message)
                    .help("nothing was written; name the directory that the policy is to be in"),
            ));
        }
        return fs::create_dir_all(dir).map_err(|error| unwritable("make", dir, &error));
    }
    let entries = fs::read_dir(dir).map_err(|error| unwritable("read", dir, &error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| unwritable("read", dir, &error))?
            .path();
        if is_policy(&path) {
            let message = format!(
                "{} has a policy already: {}",
                untrusted::path(dir),
                untrusted::path(&path)
            );
            return Err(Failure::plain(
                Diagnostic::error("not-empty", message).help(
                    "nothing was written; all files of a directory are one policy, so name another",
                ),
            ));
        }
    }
    Ok(())
}

/// Writes the policy; never over a file that is there, and whole, whenever this program is ended.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    file::sweep(&path);
    // The former rules' umask does not matter: others may know what a policy says.
    file::create(&path, 0o644, text.as_bytes())
        .map_err(|error| unwritable("write", &path, &error))?;
    Ok(path)
}
