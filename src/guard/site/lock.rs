//! One guard of a site in each network namespace: two would take each other's trials for drift.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The lock, which the kernel releases when the process ends.
#[derive(Debug)]
pub(in crate::guard) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of this network namespace in a folder of root's.
    ///
    /// # Errors
    /// If another guard has it, which the message names, or the file cannot be opened.
    pub(in crate::guard) fn take(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let namespace = fs::metadata("/proc/self/ns/net")?.ino();
        let path = folder.join(format!("site-{namespace}.lock"));
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
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
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_names_the_first() {
        let folder = std::env::temp_dir().join(format!("dfw-lock-{}", std::process::id()));
        let first = Lock::take(&folder).unwrap();
        let error = Lock::take(&folder).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(Lock::take(&folder).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
