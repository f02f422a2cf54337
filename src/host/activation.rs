//! Detects systemd socket activation: a connection would start the engine, and dfw must not start a stopped
//! engine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::process;

/// Returns whether only systemd listens on a path, so that a connection would start an engine.
pub(super) fn is_asleep(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let sockets = std::fs::read("/proc/net/unix").unwrap_or_default();
    process::waits_for_clients(bound(&sockets, &path))
}

/// Returns the inodes of the sockets that listen on a path, from `/proc/net/unix`. Its lines are bytes: any
/// user may bind a socket to a path that is not UTF-8.
fn bound(sockets: &[u8], at: &Path) -> BTreeSet<u64> {
    let lines = sockets.split(|byte| *byte == b'\n');
    let waiting = lines.filter_map(waiting);
    waiting
        .filter(|(_, path)| path.canonicalize().is_ok_and(|path| path == at))
        .map(|(inode, _)| inode)
        .collect()
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

    /// Any user may bind a socket to a path that is not UTF-8.
    #[test]
    fn no_path_of_others_hides_a_socket() {
        let sockets = b"Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 77777 /tmp/\xff\xfe
0000000000000000: 00000002 00000000 00010000 0001 01   812 /
0000000000000000: 00000003 00000000 00000000 0001 03   813 /
0000000000000000: 00000003 00000000 00000000 0001 01   814
0000000000000000: 00000002 00000000 00010000 0001 01 12345 @abstract one
";
        assert_eq!(bound(sockets, Path::new("/")), [812].into());
        assert_eq!(bound(sockets, Path::new("/nowhere")), [].into());
    }
}
