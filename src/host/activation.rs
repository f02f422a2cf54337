//! Detects systemd socket activation: a connection would start the engine, and dfw must not start a stopped
//! engine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf, absolute};
use std::time::{Duration, Instant};

use super::process;

/// How long the sockets of this host are searched: a user may have bound a million.
const PATIENCE: Duration = Duration::from_secs(1);
/// More bytes than a line has: a path has 108 at most (`UNIX_PATH_MAX`).
const LINE: u64 = 512;

/// Returns whether only systemd listens on a path, so that a connection would start an engine. If that cannot be told,
/// the engine is asked, which at worst starts it.
pub(super) fn is_asleep(path: &Path) -> bool {
    let Some(names) = names(path) else {
        return false;
    };
    let end = Instant::now() + PATIENCE;
    let sockets = File::open("/proc/net/unix").map(BufReader::new);
    let bound = sockets.and_then(|sockets| bound(sockets, &names, end));
    bound.is_ok_and(process::waits_for_clients)
}

/// Returns the paths to which a socket that is at this one may be bound; `None` if there is nothing.
fn names(path: &Path) -> Option<Vec<PathBuf>> {
    let real = path.canonicalize().ok()?;
    let mut names = vec![real.clone()];
    names.extend(absolute(path));
    // On most systems one of them is a link to the other.
    for folder in ["/run", "/var/run"].map(Path::new) {
        let target = folder.canonicalize().ok();
        let rest = target.and_then(|target| real.strip_prefix(target).ok());
        names.extend(rest.map(|rest| folder.join(rest)));
    }
    Some(names)
}

/// Returns the inodes of the sockets that are bound to one of these paths and listen, from `/proc/net/unix`. Its lines
/// are bytes: any user may bind a socket to a path that is not UTF-8. No path there is looked up: its owner decides
/// where it leads to, and how long that takes.
fn bound(mut sockets: impl BufRead, at: &[PathBuf], end: Instant) -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    let mut line = Vec::new();
    while sockets.by_ref().take(LINE).read_until(b'\n', &mut line)? > 0 {
        if Instant::now() >= end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let found = waiting(line.strip_suffix(b"\n").unwrap_or(&line));
        inodes.extend(
            found
                .filter(|(_, path)| at.iter().any(|at| at == path))
                .map(|(inode, _)| inode),
        );
        line.clear();
    }
    Ok(inodes)
}

/// Returns the inode and the path of an unconnected socket that has a path.
fn waiting(line: &[u8]) -> Option<(u64, &Path)> {
    /// `SS_UNCONNECTED`, also the state of listening sockets.
    const UNCONNECTED: &str = "01";
    // Number, references, protocol, flags, type, state and inode.
    let mut fields = [""; 7];
    let mut rest = line;
    for field in &mut fields {
        rest = rest.trim_ascii_start();
        let (first, others) = rest.split_at(rest.iter().position(|byte| *byte == b' ')?);
        *field = str::from_utf8(first).ok()?;
        rest = others;
    }
    let [.., state, inode] = fields;
    let path = Path::new(OsStr::from_bytes(rest.get(1..)?));
    (state == UNCONNECTED).then_some((inode.parse().ok()?, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKETS: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 77777 /tmp/\xff\xfe
0000000000000000: 00000002 00000000 00010000 0001 01   812 /
0000000000000000: 00000003 00000000 00000000 0001 03   813 /
0000000000000000: 00000003 00000000 00000000 0001 01   814
0000000000000000: 00000002 00000000 00010000 0001 01 12345 @abstract one
";

    fn found(sockets: &[u8], at: &str) -> BTreeSet<u64> {
        let end = Instant::now() + Duration::from_hours(1);
        bound(sockets, &names(Path::new(at)).unwrap(), end).unwrap()
    }

    /// Any user may bind a socket to a path that is not UTF-8.
    #[test]
    fn no_path_of_others_hides_a_socket() {
        assert_eq!(found(SOCKETS, "/"), [812].into());
        assert_eq!(found(SOCKETS, "/tmp"), [].into());
        assert_eq!(names(Path::new("/nowhere")), None);
        // Nor do many sockets: the search ends, and says so.
        let names = [PathBuf::from("/")];
        assert!(bound(SOCKETS, &names, Instant::now()).is_err());
        assert!(bound(&[b'x'; 4096][..], &names, Instant::now()).is_err());
    }

    #[test]
    fn no_path_of_others_is_looked_up() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, link) = (folder.path().join("socket"), folder.path().join("link"));
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let row = |inode: u64, path: &Path| {
            let path = path.display();
            format!("0000000000000000: 00000002 00000000 00010000 0001 01 {inode} {path}\n")
        };
        let sockets = row(1, &socket) + &row(2, &link);
        assert_eq!(
            found(sockets.as_bytes(), socket.to_str().unwrap()),
            [1].into()
        );
        // Who asks has named the link.
        assert_eq!(
            found(sockets.as_bytes(), link.to_str().unwrap()),
            [1, 2].into()
        );
    }

    /// `docker.socket` is bound to one of them, and either may be asked for.
    #[test]
    fn run_has_two_names() {
        let real = Path::new("/run").canonicalize().unwrap();
        let is_link = Path::new("/var/run")
            .canonicalize()
            .is_ok_and(|path| path == real);
        for at in ["/run", "/var/run"].into_iter().filter(|_| is_link) {
            let socket = tempfile::NamedTempFile::new_in("/run").unwrap();
            let name = socket.path().file_name().unwrap().to_str().unwrap();
            let names = names(&Path::new(at).join(name)).unwrap();
            for folder in ["/run", "/var/run"] {
                assert!(names.contains(&Path::new(folder).join(name)), "{names:?}");
            }
        }
    }
}
