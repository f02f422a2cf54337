//! The control groups that engines put containers into: `/docker/ID`, `/system.slice/docker-ID.scope`,
//! `/machine.slice/libpod-ID.scope/container`, or below a configured parent.
//!
//! A name alone proves nothing. Users may create groups of any name below a group that is delegated to them
//! (`user.slice`, services with `Delegate=`) and move their own processes there. So a group counts only if
//! root owns all its ancestors: then no other user can have created it or moved a process into it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::ProcessCGroup;
use procfs::process::Process;

/// The mount points of the cgroup hierarchy.
const MOUNT: &str = "/sys/fs/cgroup";
/// The default parents of engines; only root can configure others.
const PARENTS: [&str; 4] = ["docker", "libpod_parent", "machine.slice", "system.slice"];
/// The deepest group that is examined (`cgroup.max.depth` is unlimited by default).
const DEPTH: usize = 32;

/// Returns the identifier of the container whose control group a process is in; none if it is in none, or in
/// one that a user other than root may have created.
pub(super) fn container(process: &Process) -> Option<String> {
    let groups = process.cgroups().ok()?;
    groups
        .0
        .iter()
        .find_map(|group| claim(group, &mounts(group)))
}

/// Returns the container of a group, given the mount points of the hierarchy.
fn claim(group: &ProcessCGroup, mounts: &[PathBuf]) -> Option<String> {
    let parts: Vec<&str> = group
        .pathname
        .split('/')
        .filter(|p| !p.is_empty())
        .collect();
    // The prefix of a group outside of this cgroup namespace.
    if parts.contains(&"..") || parts.len() > DEPTH {
        return None;
    }
    let (at, id) = parts.iter().enumerate().find_map(|(at, part)| {
        let id = part
            .split(['-', '.', ':'])
            .find(|word| is_identifier(word))?;
        Some((at, id))
    })?;
    let above = parts.get(..at)?;
    is_roots(above, mounts).then(|| id.to_owned())
}

/// Returns whether only root can create groups below this one.
fn is_roots(above: &[&str], mounts: &[PathBuf]) -> bool {
    let path: PathBuf = above.iter().collect();
    let Some(mount) = mounts.iter().find(|mount| mount.join(&path).is_dir()) else {
        // The hierarchy is not visible here: trust the default parents only.
        return above.first().is_none_or(|first| PARENTS.contains(first)) && above.len() < 2;
    };
    let closed = |path: &Path| {
        fs::metadata(mount.join(path)).is_ok_and(|m| m.uid() == 0 && m.mode() & 0o022 == 0)
    };
    path.ancestors().all(closed)
}

/// Returns where the hierarchy of a group may be mounted.
fn mounts(group: &ProcessCGroup) -> Vec<PathBuf> {
    let mount = Path::new(MOUNT);
    if group.hierarchy == 0 {
        return vec![mount.to_owned(), mount.join("unified")];
    }
    let together = group.controllers.join(",");
    let names = group.controllers.iter().map(String::as_str);
    names
        .chain([together.as_str()])
        .map(|name| mount.join(name.strip_prefix("name=").unwrap_or(name)))
        .collect()
}

/// Returns whether a text is a container ID and not another word in the name of a control group.
pub(super) fn is_identifier(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn group(path: &str) -> ProcessCGroup {
        ProcessCGroup {
            hierarchy: 0,
            controllers: Vec::new(),
            pathname: path.replace("ID", ID),
        }
    }

    #[test]
    fn what_engines_make_is_known_where_groups_are_not_seen() {
        for path in [
            "/docker/ID",
            "/ID",
            "/system.slice/docker-ID.scope",
            "/system.slice/docker-ID.scope/init.scope",
            "/machine.slice/libpod-ID.scope/container",
        ] {
            assert_eq!(claim(&group(path), &[]).as_deref(), Some(ID), "{path}");
        }
        for path in [
            "/",
            "/docker/web",
            "/docker/0123456789ab",
            "/system.slice/ssh.service",
            "/system.slice/own.service/docker-ID.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/docker-ID.scope",
            "/user.slice/docker-ID.scope",
            "/../../docker/ID",
        ] {
            assert_eq!(claim(&group(path), &[]), None, "{path}");
        }
    }

    /// Root must own all ancestors of the group.
    #[test]
    fn what_others_may_make_is_no_container() {
        use std::os::unix::fs::{PermissionsExt, chown};
        if !rustix::process::geteuid().is_root() {
            // Nothing can be made root's; the trials with an engine run as root.
            return;
        }
        let mount = std::env::temp_dir().join(format!("dfw-{}-cgroup", std::process::id()));
        let own = mount.join("own.slice/deeper");
        fs::create_dir_all(&own).unwrap();
        for path in [&mount, &mount.join("own.slice"), &own] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let asked = || {
            let group = group("/own.slice/deeper/docker-ID.scope");
            claim(&group, &[mount.join("missing"), mount.clone()])
        };
        let roots = asked();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        let open = asked();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        chown(mount.join("own.slice"), Some(1000), None).unwrap();
        let delegated = asked();
        fs::remove_dir_all(&mount).unwrap();
        assert_eq!(roots.as_deref(), Some(ID));
        assert_eq!((open, delegated), (None, None));
    }
}
