//! Listening sockets of this host, and their holders.

use crate::net::Protocol;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::engine::Engine;
pub use super::owner::{Owner, Role};
use super::process::{self, Engines};
use crate::netlink::rtnetlink::Link;
use crate::netlink::sock_diag::Socket;

/// A listening socket of this host, and its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address it is bound to; unspecified for all addresses of a family.
    pub address: IpAddr,
    /// The port it is bound to.
    pub port: u16,
    /// Whether it is bound to `::` and also accepts IPv4 clients.
    pub both_families: bool,
    /// The interface it is bound to (`SO_BINDTODEVICE`), by name, or by index (`#7`) if the interface
    /// was deleted; `None` for any.
    pub device: Option<String>,
    /// The user who made it, by number.
    pub user: u32,
    /// Its holder; `None` if it is not visible from here, as in another PID namespace.
    pub owner: Option<Owner>,
}

impl Listener {
    /// Returns whether it serves a published port of any engine, queried or not.
    #[must_use]
    pub fn serves_publication(&self) -> bool {
        let owner = self.owner.as_ref();
        owner.is_some_and(|owner| matches!(owner.role, Role::Proxy | Role::Rootless))
    }

    /// Returns whether it accepts clients for an address, or for any of a family if the address is
    /// unspecified.
    #[must_use]
    pub fn takes(&self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        if address.is_unspecified() {
            return same_family || self.both_families;
        }
        if self.address.is_unspecified() {
            return same_family || self.both_families;
        }
        same_family && address == self.address
    }
}

/// Finds the holders of sockets, and their containers.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn listeners(
    sockets: &[Socket],
    engines: &[Engine],
    links: &[Link],
) -> io::Result<Vec<Listener>> {
    let owners = process::owners(inodes(sockets), Engines::of(engines))?;
    let device = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("#{index}"), |link| link.name.clone())
    };
    let listener = |socket: &Socket| {
        Some(Listener {
            protocol: match socket.protocol {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                132 => Protocol::Sctp,
                _ => return None,
            },
            address: socket.address,
            port: socket.port,
            both_families: socket.both_families,
            device: socket.device.map(device),
            user: socket.user,
            owner: owners.get(&u64::from(socket.inode)).cloned(),
        })
    };
    Ok(sockets.iter().filter_map(listener).collect())
}

/// Returns the inodes of those of these sockets that serve published ports: docker-proxy's, and
/// those of rootless engines.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn served(sockets: &[Socket], engines: &[Engine]) -> io::Result<BTreeSet<u64>> {
    process::served(inodes(sockets), Engines::of(engines))
}

fn inodes(sockets: &[Socket]) -> BTreeSet<u64> {
    let inodes = sockets.iter();
    inodes.map(|socket| u64::from(socket.inode)).collect()
}
