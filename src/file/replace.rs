//! Replaces files atomically: writes under an unpredictable name, then renames.
//!
//! An exclusive `open` follows no link of another user, and a reader sees either the former file or the new
//! one, even if this program is killed.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// The suffix of temporary files, which neither dfw nor a textfile collector reads.
const SUFFIX: &str = ".new";
/// The most names of a directory that are searched for temporary files of a crash.
const NAMES: usize = 20_000;

/// Writes a file with these bytes and this mode, replacing an existing one.
///
/// # Errors
/// Errors of the file system; the existing file stays.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, mode, |file| file.write_all(bytes))
}

/// Writes a file with this mode and what `contents` writes to it, replacing an existing one.
///
/// # Errors
/// Errors of `contents` and of the file system; the existing file stays.
pub fn replace_with(
    path: &Path,
    mode: u32,
    contents: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let file = write(path, mode, contents)?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Creates a file with these bytes and this mode, which must not exist.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if a file of any type exists; otherwise errors of the file system.
pub fn create(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let file = write(path, mode, |file| file.write_all(bytes))?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Removes temporary files of interrupted calls for `path`. No other process may be writing it now.
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

/// The number of random letters and digits in a temporary name.
const RANDOM: usize = 16;

fn write(
    path: &Path,
    mode: u32,
    contents: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new()
        .prefix(OsStr::from_bytes(&prefix(path)))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .tempfile_in(folder(path))?;
    let mut writer = BufWriter::new(file.as_file());
    contents(&mut writer)?;
    writer.flush()?;
    drop(writer);
    // Whatever the umask is.
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Returns the prefix of temporary names: dfw ignores policies whose names begin with a dot.
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
        let left = write(&path, 0o600, |file| file.write_all(b"half"))
            .unwrap()
            .into_temp_path();
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
