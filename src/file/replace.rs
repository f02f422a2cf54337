//! Writing a file whole: beside its place under a name that nobody can know before, and then there.
//!
//! A file that is made by an exclusive `open` follows no link that somebody has put there, and a reader
//! sees the former file or the new one, whenever this program is ended.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// What the names of new files end in: nobody reads such files, no textfile collector either.
const SUFFIX: &str = ".new";
/// How many names of a folder are looked through for what a crash has left behind.
const NAMES: usize = 20_000;

/// Puts a file with these bytes and this mode at `path`, in place of the one that is there.
///
/// # Errors
/// As the file system's; what was there stays.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let file = write(path, mode, bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Puts a file with these bytes and this mode at `path`, where none must be.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is one, whatever it is; as the file system's.
pub fn create(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let file = write(path, mode, bytes)?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Takes away what calls that were ended before they were done have left beside `path`. Nobody else may
/// be writing it now.
pub fn sweep(path: &Path) {
    let prefix = prefix(path);
    let names = fs::read_dir(folder(path)).into_iter().flatten().flatten();
    for entry in names.take(NAMES) {
        let name = entry.file_name();
        let name = name.as_bytes();
        let random = name
            .strip_prefix(prefix.as_slice())
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        if random.is_some_and(|random| {
            random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
        }) {
            // It never follows a link.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// How many random letters and digits there are.
const RANDOM: usize = 16;

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(OsStr::from_bytes(&prefix(path)))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    // Whatever the umask is.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Returns what the names of new files begin with: nobody reads policies whose names begin with a dot.
fn prefix(path: &Path) -> Vec<u8> {
    // A name may be as long as the file system allows.
    const LONGEST: usize = 200;
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = &name[..name.len().min(LONGEST)];
    [b".", name, b"."].concat()
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("out"));
        fs::write(&victim, "precious").unwrap();
        // At the place itself, and at the name that used to be beside it.
        for at in ["out", "out.new", ".out.new"] {
            std::os::unix::fs::symlink(&victim, folder.path().join(at)).unwrap();
        }
        replace(&path, 0o600, b"text").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        replace(&path, 0o644, b"more").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "more");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o644
        );
        assert_eq!(
            names(folder.path()),
            [".out.new", "out", "out.new", "victim"]
        );
    }

    #[test]
    fn a_new_file_takes_no_place_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        create(&path, 0o644, b"first").unwrap();
        let error = create(&path, 0o644, b"second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let dangling = folder.path().join("b.yaml");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(create(&dangling, 0o644, b"x").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(folder.path()), ["a.yaml", "b.yaml"]);
    }

    #[test]
    fn what_a_crash_has_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last-good");
        let left = write(&path, 0o600, b"half").unwrap().into_temp_path();
        left.keep().unwrap();
        for other in [
            "last-good",
            ".last-good.short.new",
            ".other.0123456789abcdef.new",
        ] {
            fs::write(folder.path().join(other), "").unwrap();
        }
        assert_eq!(names(folder.path()).len(), 4);
        sweep(&path);
        assert_eq!(
            names(folder.path()),
            [
                ".last-good.short.new",
                ".other.0123456789abcdef.new",
                "last-good"
            ]
        );
    }
}
