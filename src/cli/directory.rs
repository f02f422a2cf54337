//! A directory for a new policy; what is there already is never written over.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::diagnostic::Diagnostic;

use super::failure::Failure;

fn unwritable(what: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", path.display());
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
            let message = format!("{} is the name of a file", dir.display());
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

/// Writes the policy; never over a file that is there, and all of it or nothing, whenever this
/// program is ended.
pub(super) fn write(dir: &Path, name: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    // Nobody reads files that begin with a dot.
    let hidden = dir.join(format!(".{name}.new"));
    let written = File::create(&hidden)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| name_file(&hidden, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&hidden);
        return Err(unwritable("write", &path, &error));
    }
    Ok(path)
}

/// Gives a file its name unless another has it.
fn name_file(hidden: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, hidden, CWD, path, RenameFlags::NOREPLACE) {
        // NFS, and others that cannot do it at once. A second name never replaces anything either.
        Err(Errno::INVAL | Errno::NOSYS) => link(hidden, path),
        named => Ok(named?),
    }
}

fn link(hidden: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(hidden, path)?;
    // The policy is there; what is left has a name that nobody reads.
    let _ = fs::remove_file(hidden);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let dir = std::env::temp_dir().join(format!("dfw-directory-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let ways: [fn(&Path, &Path) -> io::Result<()>; 2] = [name_file, link];
        for (way, name) in ways.iter().zip(["a.yaml", "b.yaml"]) {
            let (hidden, path) = (dir.join(".new"), dir.join(name));
            fs::write(&hidden, "first").unwrap();
            way(&hidden, &path).unwrap();
            assert!(!hidden.exists());
            fs::write(&hidden, "second").unwrap();
            let error = way(&hidden, &path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
