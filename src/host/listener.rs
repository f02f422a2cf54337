//! Who waits for clients on this host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use procfs::process::{FDTarget, Process as Entry, all_processes};

use super::engine::Transport;
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
    /// Its control group, which holds the identifier of its container if it lives in one.
    pub cgroup: String,
}

impl Owner {
    /// Whether it holds the socket on behalf of a container engine, for a published port: moby's
    /// `docker-proxy` and `dockerd`, Podman's `conmon`, and what serves rootless networks.
    #[must_use]
    pub fn is_engine(&self) -> bool {
        matches!(
            self.name.as_str(),
            "docker-proxy" | "dockerd" | "conmon" | "podman"
        ) || self.is_rootless()
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

/// Finds out who holds the sockets.
#[must_use]
pub fn listeners(sockets: &[Socket]) -> Vec<Listener> {
    let owners = if sockets.is_empty() {
        BTreeMap::new()
    } else {
        owners()
    };
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
    sockets.iter().filter_map(listener).collect()
}

/// The processes that hold sockets, by inode. What cannot be read is left out. It looks at every
/// process of the system.
fn owners() -> BTreeMap<u64, Owner> {
    let mut owners = BTreeMap::new();
    let processes = all_processes().into_iter().flatten().flatten();
    for process in processes {
        let Ok(descriptors) = process.fd() else {
            continue;
        };
        let inodes = descriptors
            .flatten()
            .filter_map(|descriptor| match descriptor.target {
                FDTarget::Socket(inode) => Some(inode),
                _ => None,
            });
        let mut owner = None;
        for inode in inodes {
            if owner.is_none() {
                owner = describe(&process);
            }
            if let Some(owner) = &owner {
                // Parent and child may share one; the first process number is the parent's.
                owners.entry(inode).or_insert_with(|| owner.clone());
            }
        }
    }
    owners
}

fn describe(process: &Entry) -> Option<Owner> {
    let name = process.stat().ok()?.comm;
    let groups = process.cgroups().ok();
    let cgroup = groups.into_iter().flatten().map(|group| group.pathname);
    Some(Owner {
        pid: u32::try_from(process.pid).ok()?,
        name,
        // Under version 1 there are several; the longest is the most exact.
        cgroup: cgroup.max_by_key(String::len).unwrap_or_default(),
    })
}
