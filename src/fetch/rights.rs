//! Giving up all rights but to write to the cache, before the first packet.

use std::fs;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{CapabilitySet, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::{confine, file};

use super::site;

/// The user that packages make for it.
const USER: &str = "dfw-fetch";
/// Who owns nothing.
const NOBODY: u32 = 65534;

/// What a daemon reads again later, which everybody may read: resolvers, certificates.
const READ_AGAIN: [&str; 4] = ["/etc", "/run", "/usr", "/nix/store"];

/// Returns the folders that a daemon reads, which learns at `path` what to fetch.
#[must_use]
pub fn to_keep_fetching(path: &Path) -> Vec<PathBuf> {
    let given = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let folder = match path.parent() {
        Some(folder) if !path.is_dir() => folder,
        _ => path,
    };
    let folders = READ_AGAIN.map(PathBuf::from).into_iter();
    folders.chain(given).chain([folder.to_owned()]).collect()
}

/// Makes the cache, with the folders of a site if there is one, and gives up everything else: the user and the groups,
/// capabilities, system calls, and all files but those below `readable`. Returns where the cache is from now on.
///
/// # Errors
/// What cannot be given up, in one sentence: then nothing must be fetched.
pub fn give_up(cache: &Path, readable: &[PathBuf], has_site: bool) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("cannot give up rights: {error}");
    let mut cache = cache.to_owned();
    if geteuid().is_root() {
        let (folder, user, group) =
            open(&cache).map_err(|error| format!("cannot make the cache: {error}"))?;
        become_user(user, group).map_err(failed)?;
        cache = reached(folder, cache);
    }
    if has_site {
        // No folder can be made later.
        site::prepare(&cache).map_err(|error| format!("cannot make the cache: {error}"))?;
    }
    confine::confine(CapabilitySet::empty()).map_err(|error| error.to_string())?;
    confine::give_up_files(readable, std::slice::from_ref(&cache), None)
        .map_err(|error| error.to_string())?;
    Ok(cache)
}

/// Makes the cache for its user, or opens the one that is there; returns the user and the group that write to it. The
/// user is the owner, which systemd may have made for the service.
fn open(cache: &Path) -> io::Result<(OwnedFd, u32, u32)> {
    let (user, group) = user();
    if let Some(folder) = file::make_folder(cache, (user, group))? {
        return Ok((folder, user, group));
    }
    let (folder, owner) = file::owned_folder(cache, user)?;
    if owner == 0 || owner == user {
        return Ok((folder, user, group));
    }
    // The group of a folder may have more rights than its owner.
    Ok((folder, owner, NOBODY))
}

/// Returns a path to an open folder that needs no right to what leads there: systemd closes the folder above the cache,
/// and others may do so with theirs.
fn reached(folder: OwnedFd, path: PathBuf) -> PathBuf {
    // It stays open as long as this process lives.
    let descriptor = PathBuf::from(format!("/proc/self/fd/{}", folder.into_raw_fd()));
    if descriptor.is_dir() {
        descriptor
    } else {
        path
    }
}

fn become_user(user: u32, group: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// The user and the group of the fetcher.
fn user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find_map(|line| {
        let mut fields = line
            .strip_prefix(USER)?
            .strip_prefix(':')?
            .split(':')
            .skip(1);
        let user = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some((user, group))
    });
    line.filter(|(user, _)| *user != 0)
        .unwrap_or((NOBODY, NOBODY))
}
