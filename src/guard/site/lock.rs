//! One guard of a site in each network namespace: two would take each other's trials for drift.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::guard::log::{Level, Log};
use crate::untrusted;

/// How often another file is put in place of one that is not guard's.
const TRIES: u32 = 3;
/// Nobody else may open it, as they could lock it then.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);

/// The lock, which the kernel releases when the process ends.
#[derive(Debug)]
pub(in crate::guard) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of this network namespace in a folder; `None`, with a warning, if there can be none: the owner of
    /// the folder must not keep guard from its rules.
    ///
    /// # Errors
    /// If another guard has it, which the message names.
    pub(in crate::guard) fn take(folder: &Path, log: Log) -> io::Result<Option<Self>> {
        let mut file = match file(folder) {
            Ok(file) => file,
            Err(error) => {
                let text = format!(
                    "cannot tell whether another guard follows a site here: no lock in {}: {error}",
                    untrusted::path(folder)
                );
                log.say(Level::Warning, &text);
                return Ok(None);
            }
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut text = String::new();
            // Another guard has just taken it and not written its number yet.
            file.take(32).read_to_string(&mut text)?;
            let process = text.trim().parse::<u32>();
            let process = process.map_or_else(|_| "that starts".to_owned(), |pid| pid.to_string());
            return Err(io::Error::other(format!(
                "another guard follows a site in this network namespace: process {process}"
            )));
        }
        // On a full disk only the message of the other one lacks the number.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Some(Self { _file: file }))
    }
}

/// Opens the file of this network namespace in a folder. What is there and not guard's is removed: the owner of the
/// folder may have put a link to a file of root's there, a pipe, or a file that another process has locked.
fn file(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let namespace = fs::metadata("/proc/self/ns/net")?.ino();
    let path = folder.join(format!("site-{namespace}.lock"));
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    for _ in 0..TRIES {
        match open(&path, flags, OWN).map(File::from) {
            Ok(file) if is_own(&file)? => return Ok(file),
            // A link, a socket, or another user's in a folder like /tmp.
            Ok(_) | Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS) => fs::remove_file(&path)?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("another program takes its place"))
}

/// Returns whether nobody else could have made this file, or could open it.
fn is_own(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    let is_alone = found.uid() == geteuid().as_raw() && found.nlink() == 1;
    Ok(is_alone && found.is_file() && OWN.contains(Mode::from_raw_mode(found.mode())))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::{PermissionsExt, symlink};

    fn take(folder: &Path) -> io::Result<Option<Lock>> {
        Lock::take(folder, Log::new())
    }

    #[test]
    fn the_second_one_names_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path()).unwrap().unwrap();
        let error = take(folder.path()).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(take(folder.path()).unwrap().is_some());
    }

    #[test]
    fn what_another_user_puts_there_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let namespace = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let path = folder.path().join(format!("site-{namespace}.lock"));
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, PermissionsExt::from_mode(0o600)).unwrap();
        let locked = || {
            let file = File::create(&path).unwrap();
            flock(&file, FlockOperation::LockExclusive).unwrap();
            file
        };
        let pipe =
            || rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, OWN, 0);
        let makes: [&dyn Fn() -> Option<File>; 5] = [
            &|| symlink(&victim, &path).map(|()| None).unwrap(),
            &|| symlink("nowhere", &path).map(|()| None).unwrap(),
            &|| fs::hard_link(&victim, &path).map(|()| None).unwrap(),
            &|| pipe().map(|()| None).unwrap(),
            // Everybody can open it, and so have locked it.
            &|| Some(locked()),
        ];
        for make in makes {
            let _ = fs::remove_file(&path);
            let _held = make();
            let lock = take(folder.path()).unwrap();
            assert!(lock.is_some());
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            assert!(take(folder.path()).is_err());
        }
        // What cannot be removed keeps guard from nothing.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(take(folder.path()).unwrap().is_none());
    }
}
