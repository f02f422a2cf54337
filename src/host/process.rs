//! Processes of this host: their roles, and the sockets they hold.
//!
//! The role of a process follows from its credentials and namespaces. Its name is untrusted and never
//! sufficient; a process with many descriptors does not prevent others from being read.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use procfs::ProcError;
use procfs::process::Process as Entry;
use rustix::io::Errno;

use super::cgroup::{self, is_identifier};
use super::engine::Engine;
use super::owner::{Owner, Role};
use crate::untrusted::clean;

/// The name of the process that Docker starts for each published port.
const PROXY: &str = "docker-proxy";
/// The name of the process that holds socket-activated sockets.
const SYSTEMD: &str = "systemd";
/// Engines, and helpers that reserve a port: moby's daemon, Podman's container monitor.
const ENGINES: [&str; 3] = ["dockerd", "conmon", "podman"];
/// Names of processes that serve published ports of rootless engines; `exe` is the re-executed `RootlessKit`
/// or Podman before 3.4.
const ROOTLESS: [&str; 7] = [
    "rootlesskit",
    "rootlessport",
    "containers-root",
    "slirp4netns",
    "pasta",
    "pasta.avx2",
    "exe",
];

/// The most descriptors of one user's processes that one search reads. The lowest descriptors of a process,
/// usually the listening ones, come first.
const OF_A_USER: usize = 1 << 16;
/// The same for root, whose engines may hold many: two for each connection of docker-proxy.
const OF_ROOT: usize = 1 << 20;

/// The thread that reads `/proc`, if it was started.
static PROC_READER: OnceLock<SyncSender<Look>> = OnceLock::new();
type Look = Box<dyn FnOnce() + Send>;

/// Starts a thread that reads `/proc` for all callers. Call it before Landlock is applied: a restricted
/// thread cannot read other processes.
///
/// # Errors
/// If there can be no thread.
pub fn look_apart() -> io::Result<()> {
    let (looks, jobs) = sync_channel::<Look>(0);
    let reader = std::thread::Builder::new().name("processes".to_owned());
    reader.spawn(move || jobs.into_iter().for_each(|look| look()))?;
    // One thread is enough.
    let _ = PROC_READER.set(looks);
    Ok(())
}

fn look<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let Some(reader) = PROC_READER.get() else {
        return work();
    };
    let (found, answer) = sync_channel(1);
    let look = move || {
        // The caller waits for it.
        let _ = found.send(work());
    };
    let sent = reader.send(Box::new(look)).ok();
    let answer = sent.and_then(|()| answer.recv().ok());
    answer.unwrap_or_else(|| Err(io::Error::other("the thread that reads /proc has ended")))
}

/// Returns the result of reading a process; none if it has ended or cannot be read, so that no process
/// prevents the search. A lack of descriptors or memory fails the whole search.
fn seen<T>(read: Result<T, ProcError>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ProcError::Io(error, _)) if is_want(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Returns whether an error is a lack of local resources.
fn is_want(error: &io::Error) -> bool {
    let want = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| want.contains(&error))
}

/// Returns whether all processes of this machine are visible, which is the case in the initial PID namespace.
/// A container sees its own processes, and a process without `CAP_SYS_PTRACE` those of its user.
#[must_use]
pub fn sees_all() -> bool {
    /// `PROC_PID_INIT_INO` of the kernel.
    const FIRST: &str = "pid:[4026531836]";
    let first = look(|| fs::read_link("/proc/1/ns/pid"));
    first.is_ok_and(|first| first.as_os_str() == FIRST)
}

/// The processes of queried engines.
#[derive(Debug, Clone, Default)]
pub(super) struct Engines {
    /// The processes that listen on their API sockets.
    processes: Vec<u32>,
    /// The running containers: init process and ID.
    containers: Vec<(u32, String)>,
    /// The identifiers of all containers.
    ids: BTreeSet<String>,
}

impl Engines {
    /// Returns the processes of engines that run as root: any other could claim a service of the host.
    pub(super) fn of(engines: &[Engine]) -> Self {
        let is_roots = |engine: &&Engine| engine.process.is_some_and(is_roots);
        let containers = || {
            let engines = engines.iter().filter(is_roots);
            engines.flat_map(|engine| &engine.containers)
        };
        Self {
            processes: engines.iter().filter_map(|engine| engine.process).collect(),
            containers: containers()
                .filter_map(|container| Some((container.pid?, container.id.clone())))
                .collect(),
            ids: containers()
                .map(|container| container.id.clone())
                .filter(|id| is_identifier(id))
                .collect(),
        }
    }
}

/// Returns whether a process belongs to root.
fn is_roots(pid: u32) -> bool {
    look(move || fs::metadata(format!("/proc/{pid}"))).is_ok_and(|process| process.uid() == 0)
}

/// Finds the processes that hold sockets, by inode. Engines and their helpers come first, then other
/// processes of root, then the rest. Unreadable processes are left out.
///
/// # Errors
/// If `/proc` cannot be read.
pub(super) fn owners(sockets: BTreeSet<u64>, engines: Engines) -> io::Result<BTreeMap<u64, Owner>> {
    if sockets.is_empty() {
        return Ok(BTreeMap::new());
    }
    look(move || {
        let table = Table::read()?;
        let homes = Homes::of(&engines);
        let mut search = Search::new(sockets);
        for (process, role) in table.serving(&homes)? {
            search.take(&process, role, &homes)?;
        }
        // Root's processes first, so that other users cannot exhaust the search.
        let (root, others): (Vec<_>, Vec<_>) =
            table.processes.into_iter().partition(|(_, uid)| *uid == 0);
        for (pid, _) in root.into_iter().chain(others) {
            if search.inodes.is_empty() {
                break;
            }
            if let Some(process) = seen(Entry::new(pid))? {
                search.take(&process, Role::Other, &homes)?;
            }
        }
        Ok(search.owners)
    })
}

/// Returns the inodes of the sockets held by docker-proxy, or by a process that serves published ports of a
/// rootless engine.
///
/// # Errors
/// If `/proc` cannot be read.
pub(super) fn served(sockets: BTreeSet<u64>, engines: Engines) -> io::Result<BTreeSet<u64>> {
    if sockets.is_empty() {
        return Ok(BTreeSet::new());
    }
    look(move || {
        let table = Table::read()?;
        let homes = Homes::of(&engines);
        let mut search = Search::new(sockets);
        for (process, role) in table.serving(&homes)? {
            if matches!(role, Role::Proxy | Role::Rootless) {
                search.take(&process, role, &homes)?;
            }
        }
        let served = search.owners.into_iter();
        let served = served.filter(|(_, owner)| owner.role != Role::Other);
        Ok(served.map(|(inode, _)| inode).collect())
    })
}

/// Returns whether only systemd holds one of these sockets.
pub(super) fn waits_for_clients(sockets: BTreeSet<u64>) -> bool {
    if sockets.is_empty() {
        return false;
    }
    let waits = look(move || {
        let mut budget = Budget::default();
        let mut systemd = false;
        // Only root can provide socket activation for a system engine.
        for (pid, uid) in Table::read()?.processes {
            if uid != 0 {
                continue;
            }
            let Some(process) = seen(Entry::new(pid))? else {
                continue;
            };
            if !inodes(&process, budget.of(uid))?
                .iter()
                .any(|inode| sockets.contains(inode))
            {
                continue;
            }
            if process.stat().is_ok_and(|stat| stat.comm == SYSTEMD) {
                systemd = true;
            } else {
                return Ok(false);
            }
        }
        Ok(systemd)
    });
    waits.unwrap_or_default()
}

/// Finds the holder of the netfilter socket with this port, from `/proc/net/netlink`. Only root's processes
/// are searched: others cannot change the ruleset.
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
    let found = look(move || {
        let homes = Homes::of(&Engines::default());
        let mut search = Search::new([inode].into());
        for (pid, uid) in Table::read()?.processes {
            if uid != 0 || search.inodes.is_empty() {
                continue;
            }
            if let Some(process) = seen(Entry::new(pid))? {
                search.take(&process, Role::Other, &homes)?;
            }
        }
        Ok(search.owners)
    });
    found.ok()?.remove(&inode)
}

/// All processes, with their users.
struct Table {
    processes: Vec<(i32, u32)>,
}

impl Table {
    /// Lists all processes before the first is read: with processes starting faster than they are read,
    /// the directory would never end.
    fn read() -> io::Result<Self> {
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|pid| pid.parse::<i32>().ok()) else {
                continue;
            };
            // The directory belongs to the effective user, even with `hidepid` (proc(5)).
            let metadata = entry.metadata().map_err(ProcError::from);
            if let Some(metadata) = seen(metadata)? {
                processes.push((pid, metadata.uid()));
            }
        }
        Ok(Self { processes })
    }

    /// Returns the processes that hold sockets of published ports. It reads the name of every process,
    /// and more only for candidates.
    fn serving(&self, homes: &Homes) -> io::Result<Vec<(Entry, Role)>> {
        let mut serving = Vec::new();
        let parents = OnceCell::new();
        for (pid, uid) in &self.processes {
            let Some(name) = name(*pid)? else {
                continue;
            };
            let role = match name.as_str() {
                PROXY => Role::Proxy,
                name if ENGINES.contains(&name) => Role::Engine,
                name if ROOTLESS.contains(&name) => Role::Rootless,
                _ => continue,
            };
            if role != Role::Rootless && *uid != 0 {
                continue;
            }
            let Some(process) = seen(Entry::new(*pid))? else {
                continue;
            };
            let is_so = match role {
                Role::Rootless => {
                    let parents = || parents.get_or_init(|| self.parents_of_rootless(homes));
                    homes.is_rootless(*pid) || parents().contains(pid)
                }
                _ => homes.is_engines(&process),
            };
            if is_so {
                serving.push((process, role));
            }
        }
        // A serving process may have inherited its socket from the engine.
        serving.sort_by_key(|(_, role)| *role != Role::Proxy);
        Ok(serving)
    }

    /// Returns the processes with a child in another user namespace.
    fn parents_of_rootless(&self, homes: &Homes) -> BTreeSet<i32> {
        let pids = self.processes.iter().map(|(pid, _)| *pid);
        let rootless = pids.filter(|pid| homes.is_rootless(*pid));
        let stats = rootless.filter_map(|pid| Entry::new(pid).ok()?.stat().ok());
        stats.map(|stat| stat.ppid).collect()
    }
}

/// Returns the command name of a process, at most 15 bytes; none if it has ended.
fn name(pid: i32) -> io::Result<Option<String>> {
    // No command name is longer.
    let mut name = [0; 16];
    let read = File::open(format!("/proc/{pid}/comm")).and_then(|mut f| f.read(&mut name));
    let length = seen(read.map_err(ProcError::from))?;
    let name = length.and_then(|length| name.get(..length));
    Ok(name.map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into_owned()))
}

/// The remaining descriptors of each user.
#[derive(Default)]
struct Budget(BTreeMap<u32, usize>);

impl Budget {
    fn of(&mut self, uid: u32) -> &mut usize {
        let all = if uid == 0 { OF_ROOT } else { OF_A_USER };
        self.0.entry(uid).or_insert(all)
    }
}

/// A search for the holders of sockets.
struct Search {
    inodes: BTreeSet<u64>,
    owners: BTreeMap<u64, Owner>,
    budget: Budget,
}

impl Search {
    fn new(inodes: BTreeSet<u64>) -> Self {
        Self {
            inodes,
            owners: BTreeMap::new(),
            budget: Budget::default(),
        }
    }

    /// Adds the searched sockets that a process holds. Parent and child may share a socket: the first
    /// one read counts.
    fn take(&mut self, process: &Entry, role: Role, homes: &Homes) -> io::Result<()> {
        let Some(uid) = seen(process.uid())? else {
            return Ok(());
        };
        let held = inodes(process, self.budget.of(uid))?;
        let mut held = held.into_iter().filter(|inode| self.inodes.remove(inode));
        if let Some(first) = held.next()
            && let Some(owner) = describe(process, role, homes)
        {
            self.owners
                .extend(held.chain([first]).map(|inode| (inode, owner.clone())));
        }
        Ok(())
    }
}

/// Returns the inodes of the sockets that it holds, the lowest descriptors first. A server may hold
/// thousands: only link targets are read, within the budget.
fn inodes(process: &Entry, budget: &mut usize) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    let folder = fs::read_dir(format!("/proc/{}/fd", process.pid));
    for descriptor in seen(folder.map_err(ProcError::from))?.into_iter().flatten() {
        let Some(left) = budget.checked_sub(1) else {
            break;
        };
        *budget = left;
        let link = descriptor.and_then(|descriptor| fs::read_link(descriptor.path()));
        // It may be closed by now.
        let Some(link) = seen(link.map_err(ProcError::from))? else {
            continue;
        };
        let link = link.to_str();
        let inode = link.and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(inodes)
}

fn describe(process: &Entry, role: Role, homes: &Homes) -> Option<Owner> {
    let stat = process.stat().ok()?;
    let home = homes.home(process);
    let (container, unanswered) = match home {
        Home::Host => (None, None),
        Home::Container(id) => (Some(id), None),
        // Twelve digits, as in `docker ps`.
        Home::Unanswered(id) => (None, id.get(..12).map(str::to_owned)),
    };
    Some(Owner {
        pid: u32::try_from(process.pid).ok()?,
        name: clean(&stat.comm),
        // A process in a container belongs to the container, whatever its name.
        role: container.as_ref().map_or(role, |_| Role::Other),
        container,
        unanswered,
        parent: u32::try_from(stat.ppid).ok().filter(|pid| *pid > 1),
    })
}

/// Where a process lives.
enum Home {
    /// On the host, as far as is visible.
    Host,
    /// In this container of a queried engine.
    Container(String),
    /// In this container of another engine.
    Unanswered(String),
}

/// The namespaces that distinguish processes of engines and containers.
struct Homes {
    /// The mount namespaces of engines: of queried ones, of init, and of this process.
    mounts: BTreeSet<u64>,
    /// The user namespace of this process.
    users: Option<u64>,
    engines: BTreeSet<i32>,
    /// A container always has its own mount namespace.
    containers: BTreeMap<u64, String>,
    ids: BTreeSet<String>,
}

impl Homes {
    fn of(engines: &Engines) -> Self {
        let process = |pid: u32| i32::try_from(pid).ok();
        let by_mounts = engines
            .containers
            .iter()
            .filter_map(|(pid, id)| Some((mounts(process(*pid)?)?, id.clone())));
        let mut containers: BTreeMap<u64, String> = by_mounts.collect();
        let myself = Entry::myself().ok().map(|me| me.pid);
        let listening = engines.processes.iter().filter_map(|pid| process(*pid));
        let hosts = myself.into_iter().chain([1]).chain(listening);
        let homes: BTreeSet<u64> = hosts.filter_map(mounts).collect();
        // An engine in another PID namespace may report equal PIDs; processes of the host never count.
        containers.retain(|mounts, _| !homes.contains(mounts));
        let numbers = engines.processes.iter().filter(|pid| **pid > 1);
        Self {
            mounts: homes,
            users: myself.and_then(users),
            engines: numbers.filter_map(|pid| i32::try_from(*pid).ok()).collect(),
            containers,
            ids: engines.ids.clone(),
        }
    }

    /// Returns whether a process of root is an engine or its child: in the user namespace of the host,
    /// and in the mount namespace of an engine.
    fn is_engines(&self, process: &Entry) -> bool {
        let is_root = || {
            let status = process.status();
            status.is_ok_and(|s| [s.ruid, s.euid, s.suid, s.fuid] == [0; 4])
        };
        let is_home = || mounts(process.pid).is_some_and(|mounts| self.mounts.contains(&mounts));
        let is_child = || {
            process
                .stat()
                .is_ok_and(|stat| self.engines.contains(&stat.ppid))
        };
        is_root()
            && self.users.is_some()
            && users(process.pid) == self.users
            && (is_home() || is_child())
    }

    /// Returns whether a process is in another user namespace than the host's.
    fn is_rootless(&self, pid: i32) -> bool {
        self.users.is_some() && users(pid).is_some_and(|users| Some(users) != self.users)
    }

    /// Returns the location of a process, by its mount namespace or its control group.
    fn home(&self, process: &Entry) -> Home {
        let Some(mounts) = mounts(process.pid) else {
            return Home::Host;
        };
        if let Some(id) = self.containers.get(&mounts) {
            return Home::Container(id.clone());
        }
        // A runtime or monitor may be in the control group of its container.
        if self.mounts.contains(&mounts) {
            return Home::Host;
        }
        match cgroup::container(process) {
            Some(id) if self.ids.contains(&id) => Home::Container(id),
            Some(id) => Home::Unanswered(id),
            None => Home::Host,
        }
    }
}

fn mounts(pid: i32) -> Option<u64> {
    namespace(pid, "mnt")
}

fn users(pid: i32) -> Option<u64> {
    namespace(pid, "user")
}

/// Returns the inode of a process's namespace of this kind; none if it is not visible.
fn namespace(pid: i32, kind: &str) -> Option<u64> {
    let metadata = fs::metadata(format!("/proc/{pid}/ns/{kind}"));
    metadata.ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// Of many descriptors the first ones are read, within the budget.
    #[test]
    fn a_look_is_bounded() {
        let sockets: Vec<UdpSocket> = (0..64)
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let myself = Entry::myself().unwrap();
        let mut enough = usize::MAX;
        assert!(inodes(&myself, &mut enough).unwrap().len() >= sockets.len());
        let mut few = 16;
        assert!(inodes(&myself, &mut few).unwrap().len() <= 16);
        assert_eq!(few, 0);
        assert!(inodes(&myself, &mut few).unwrap().is_empty());
    }

    /// The budget is shared by all processes of a user; root has its own.
    #[test]
    fn a_user_has_one_budget() {
        let mut budget = Budget::default();
        *budget.of(1000) = 0;
        assert_eq!((*budget.of(1000), *budget.of(1001)), (0, OF_A_USER));
        assert_eq!(*budget.of(0), OF_ROOT);
    }
}
