//! Who waits for clients on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use procfs::ProcError;
use procfs::process::Process as Entry;
use rustix::io::Errno;

use super::engine::{Engine, Transport};
use crate::netlink::listener::Socket;

/// A socket of this host that waits for clients, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its protocol.
    pub transport: Transport,
    /// The address it is bound to; unspecified if it takes all of a family.
    pub address: IpAddr,
    /// The port it is bound to.
    pub port: u16,
    /// Whether it is bound to `::` and takes IPv4 clients as well.
    pub both_families: bool,
    /// Who holds it; `None` if that is not to be seen from here, as for a process of another
    /// process namespace.
    pub owner: Option<Owner>,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// The name of its program, at most 15 bytes.
    pub name: String,
    /// The identifier of the container that it lives in.
    pub container: Option<String>,
}

/// What Docker starts for each published port, and calls so.
const PROXY: &str = "docker-proxy";
/// What listens for services that do not run.
const SYSTEMD: &str = "systemd";

impl Owner {
    /// Whether all that it listens for is a published port.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        self.name == PROXY
    }

    /// Whether it holds the socket on behalf of a container engine, for a published port: moby's
    /// `docker-proxy` and `dockerd`, Podman's `conmon`, and what serves rootless networks.
    #[must_use]
    pub fn is_engine(&self) -> bool {
        matches!(self.name.as_str(), PROXY | "dockerd" | "conmon" | "podman") || self.is_rootless()
    }

    /// Whether it serves the published ports of a rootless engine.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        matches!(
            self.name.as_str(),
            "rootlesskit" | "rootlessport" | "slirp4netns" | "pasta" | "pasta.avx2"
        )
    }
}

impl Listener {
    /// Whether it takes clients that ask for this address.
    #[must_use]
    pub fn takes(&self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        if self.address.is_unspecified() {
            return same_family || self.both_families;
        }
        same_family && address == self.address
    }
}

/// What looks at processes apart from its caller.
static LOOKER: OnceLock<SyncSender<Look>> = OnceLock::new();
type Look = Box<dyn FnOnce() + Send>;

/// From here on another thread looks at processes: whoever has given up files by Landlock may not look
/// into any process any more. It has to be called before that.
///
/// # Errors
/// If there can be no thread.
pub fn look_apart() -> io::Result<()> {
    let (looks, wanted) = sync_channel::<Look>(0);
    let looker = std::thread::Builder::new().name("looker".to_owned());
    looker.spawn(move || wanted.into_iter().for_each(|look| look()))?;
    // A second one would be no better.
    let _ = LOOKER.set(looks);
    Ok(())
}

fn look<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let Some(looker) = LOOKER.get() else {
        return work();
    };
    let (found, answer) = sync_channel(1);
    let look = move || {
        // Whoever asked waits for it.
        let _ = found.send(work());
    };
    let sent = looker.send(Box::new(look)).ok();
    let answer = sent.and_then(|()| answer.recv().ok());
    answer.unwrap_or_else(|| Err(io::Error::other("nobody looks at processes any more")))
}

/// What was read of a process; none if it has ended, or is not to be seen. Whoever cannot look now, for
/// want of descriptors or memory, has seen nothing of anybody.
fn seen<T>(read: Result<T, ProcError>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ProcError::Io(error, _)) if Errno::from_io_error(&error) != Some(Errno::SRCH) => {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

/// Whether all processes of this machine can be looked at: whoever sees the first of its first process
/// namespace sees every one. A container sees its own, and who lacks `CAP_SYS_PTRACE` those like itself.
#[must_use]
pub fn sees_all() -> bool {
    /// `PROC_PID_INIT_INO` of the kernel.
    const FIRST: &str = "pid:[4026531836]";
    let first = look(|| fs::read_link("/proc/1/ns/pid"));
    first.is_ok_and(|first| first.as_os_str() == FIRST)
}

/// Finds out who holds the sockets, and in which of the engines' containers they live.
///
/// # Errors
/// If processes cannot be looked at now.
pub fn listeners(sockets: &[Socket], engines: &[Engine]) -> io::Result<Vec<Listener>> {
    let wanted = sockets.iter().map(|socket| u64::from(socket.inode));
    let owners = owners(wanted.collect(), containers(engines))?;
    let listener = |socket: &Socket| {
        Some(Listener {
            transport: match socket.protocol {
                6 => Transport::Tcp,
                17 => Transport::Udp,
                132 => Transport::Sctp,
                _ => return None,
            },
            address: socket.address,
            port: socket.port,
            both_families: socket.both_families,
            owner: owners.get(&u64::from(socket.inode)).cloned(),
        })
    };
    Ok(sockets.iter().filter_map(listener).collect())
}

/// The processes that hold these sockets, by inode. What cannot be read is left out. It looks at
/// every process of the system until all are found.
fn owners(
    mut wanted: BTreeSet<u64>,
    containers: Vec<(u32, String)>,
) -> io::Result<BTreeMap<u64, Owner>> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    look(move || {
        let mut owners = BTreeMap::new();
        let homes = Homes::of(containers);
        for pid in processes()? {
            let Some(process) = seen(Entry::new(pid))? else {
                continue;
            };
            // Parent and child may share one; the first process number is the parent's.
            let mut held = inodes(&process)?.filter(|inode| wanted.remove(inode));
            if let Some(first) = held.next()
                && let Some(owner) = describe(&process, &homes)
            {
                owners.extend(held.chain([first]).map(|inode| (inode, owner.clone())));
            }
            if wanted.is_empty() {
                break;
            }
        }
        Ok(owners)
    })
}

/// The containers that run: the number of the first process, and the identifier.
fn containers(engines: &[Engine]) -> Vec<(u32, String)> {
    let containers = engines.iter().flat_map(|engine| &engine.containers);
    containers
        .filter_map(|container| Some((container.pid?, container.id.clone())))
        .collect()
}

/// The inodes of the sockets that it holds. A server holds one for each client, and may have thousands:
/// nothing but their names is read.
fn inodes(process: &Entry) -> io::Result<impl Iterator<Item = u64> + use<>> {
    let mut inodes = Vec::new();
    let folder = fs::read_dir(format!("/proc/{}/fd", process.pid));
    for descriptor in seen(folder.map_err(ProcError::from))?.into_iter().flatten() {
        let link = descriptor.and_then(|descriptor| fs::read_link(descriptor.path()));
        // It may be closed by now.
        let Some(link) = seen(link.map_err(ProcError::from))? else {
            continue;
        };
        let link = link.to_str();
        let inode = link.and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(inodes.into_iter())
}

/// Whether systemd holds one of these sockets, and nobody else does.
pub(super) fn waits_for_clients(sockets: BTreeSet<u64>) -> bool {
    if sockets.is_empty() {
        return false;
    }
    let waits = look(move || {
        let holds = |process: &Entry| {
            inodes(process).is_ok_and(|mut held| held.any(|inode| sockets.contains(&inode)))
        };
        let waits = named(SYSTEMD)?.iter().any(holds);
        // Only then every process is looked into, until somebody else is found.
        let mut all = processes()?.into_iter().flat_map(Entry::new);
        let is_systemd = |process: &Entry| process.stat().is_ok_and(|stat| stat.comm == SYSTEMD);
        Ok(waits && all.all(|process| !holds(&process) || is_systemd(&process)))
    });
    waits.unwrap_or_default()
}

/// The inodes of the sockets that docker-proxy holds.
///
/// # Errors
/// If processes cannot be looked at now.
pub fn proxied() -> io::Result<BTreeSet<u64>> {
    look(|| {
        let mut proxied = BTreeSet::new();
        for process in named(PROXY)? {
            proxied.extend(inodes(&process)?);
        }
        Ok(proxied)
    })
}

/// The numbers of all processes, all of them before the first is looked at: their directory goes on for as
/// long as new ones come, and where they come faster than they are looked into, for ever.
fn processes() -> io::Result<Vec<i32>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        processes.extend(name.to_str().and_then(|pid| pid.parse::<i32>().ok()));
    }
    Ok(processes)
}

/// The processes of this name. It looks at every process's name, and no further.
fn named(wanted: &str) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for pid in processes()? {
        // No program's name is longer, and nobody has to ask for its length.
        let mut name = [0; 16];
        let read = File::open(format!("/proc/{pid}/comm")).and_then(|mut f| f.read(&mut name));
        let length = seen(read.map_err(ProcError::from))?.unwrap_or_default();
        if name[..length].trim_ascii() == wanted.as_bytes() {
            found.extend(seen(Entry::new(pid))?);
        }
    }
    Ok(found)
}

fn describe(process: &Entry, homes: &Homes) -> Option<Owner> {
    Some(Owner {
        pid: u32::try_from(process.pid).ok()?,
        name: process.stat().ok()?.comm,
        container: homes.container(process).map(str::to_owned),
    })
}

/// Finds out who holds the netfilter socket with this number, by `/proc/net/netlink`. It looks at
/// every process of the system.
#[must_use]
pub fn netlink_holder(number: u32) -> Option<Owner> {
    /// `NETLINK_NETFILTER`.
    const NETFILTER: &str = "12";
    let text = fs::read_to_string("/proc/net/netlink").ok()?;
    let inode = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (protocol, port, inode) = (fields.get(1)?, fields.get(2)?, fields.last()?);
        let found = *protocol == NETFILTER && port.parse() == Ok(number);
        found.then(|| inode.parse::<u64>().ok()).flatten()
    })?;
    owners(BTreeSet::from([inode]), Vec::new())
        .ok()?
        .remove(&inode)
}

/// What tells the processes of a container from others: whatever else it shares with the host, a
/// container has files of its own.
struct Homes {
    by_mounts: BTreeMap<u64, String>,
}

impl Homes {
    fn of(containers: Vec<(u32, String)>) -> Self {
        let by_mounts = containers.into_iter().filter_map(|(pid, id)| {
            let first = Entry::new(i32::try_from(pid).ok()?).ok()?;
            Some((mounts(&first)?, id))
        });
        let mut by_mounts: BTreeMap<u64, String> = by_mounts.collect();
        // An engine elsewhere has processes of the same numbers; the host's own never count.
        for host in [Entry::myself(), Entry::new(1)].into_iter().flatten() {
            if let Some(mounts) = mounts(&host) {
                by_mounts.remove(&mounts);
            }
        }
        Self { by_mounts }
    }

    fn container(&self, process: &Entry) -> Option<&str> {
        self.by_mounts.get(&mounts(process)?).map(String::as_str)
    }
}

/// The number of the mount namespace that a process lives in.
fn mounts(process: &Entry) -> Option<u64> {
    let namespaces = process.namespaces().ok()?.0;
    let mounts = namespaces.get(OsStr::new("mnt"))?;
    Some(mounts.identifier)
}
