//! Sockets that systemd listens at for a service that does not run: whoever connects starts it, and an
//! engine that somebody has stopped is not dfw's to start.

use std::collections::BTreeSet;
use std::path::Path;

use procfs::net::{UnixState, unix};

use super::listener;

/// Podman's service does nothing but answer, and runs only while it is asked.
const SERVES_ASKERS: &str = "podman.sock";

/// Whether nobody but systemd listens at a path, and it would start an engine for us.
pub(super) fn is_asleep(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    if path.ends_with(SERVES_ASKERS) {
        return false;
    }
    let sockets: BTreeSet<u64> = unix()
        .into_iter()
        .flatten()
        .filter(|socket| socket.state == UnixState::UNCONNECTED)
        .filter(|socket| {
            let bound = socket.path.as_deref().and_then(|at| at.canonicalize().ok());
            bound.as_ref() == Some(&path)
        })
        .map(|socket| socket.inode)
        .collect();
    let holders = listener::holders(sockets);
    !holders.is_empty() && holders.iter().all(|name| name == "systemd")
}
