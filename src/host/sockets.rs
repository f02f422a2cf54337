//! The listening sockets by port: an audit and a compilation ask for those of each published port.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::engine::Container;
use super::listener::{Listener, Owner, Role};
use super::{HostView, Publication};
use crate::net::{HostPorts, Protocol};

/// The listening sockets of a host by protocol and port.
#[derive(Debug)]
pub struct Sockets<'a> {
    by_port: BTreeMap<(Protocol, u16), Vec<&'a Listener>>,
    /// The containers by identifier.
    containers: HashMap<&'a str, &'a Container>,
    /// Whether some processes are not visible.
    blind: bool,
}

impl HostView {
    /// Returns the listening sockets by port.
    #[must_use]
    pub fn sockets(&self) -> Sockets<'_> {
        let mut by_port: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for listener in &self.listeners {
            let port = (listener.protocol, listener.port);
            by_port.entry(port).or_default().push(listener);
        }
        let containers = self.engines.iter().flat_map(|engine| &engine.containers);
        Sockets {
            by_port,
            containers: containers.map(|c| (c.id.as_str(), c)).collect(),
            blind: self.blind,
        }
    }
}

impl<'a> Sockets<'a> {
    /// Returns the sockets at a port.
    pub fn at(&self, protocol: Protocol, port: u16) -> impl Iterator<Item = &'a Listener> {
        let sockets = self.by_port.get(&(protocol, port));
        sockets.into_iter().flatten().copied()
    }

    /// Returns the services of this host that hold ports which an engine publishes at an address, so
    /// that the engine cannot bind them; a rule for such a port would hit that service. An unspecified
    /// address stands for every address of its family. If docker-proxy listens on exactly that address,
    /// no other holder counts.
    ///
    /// An unknown holder counts as the engine's if root created the socket and the engine binds the
    /// port now, since only one can; and if docker-proxy itself may be invisible. Otherwise it is a
    /// service of the host: a kernel socket, such as `WireGuard`'s, has no process.
    pub fn holders<'s>(
        &'s self,
        address: IpAddr,
        port: &HostPorts,
        engine_holds: bool,
    ) -> impl Iterator<Item = &'a Listener> + use<'s, 'a> {
        let range = (port.protocol, port.first)..=(port.protocol, port.last);
        let listeners = self.by_port.range(range).flat_map(|(_, all)| all).copied();
        listeners
            .filter(move |listener| {
                !listener.address.is_loopback()
                    && listener.takes(address)
                    && !self.is_engines(listener, engine_holds)
            })
            .filter(move |listener| !self.is_proxied(address, listener))
    }

    /// Returns the services of this host that hold some ports of a publication instead, see
    /// [`holders`](Self::holders).
    pub fn holders_of<'s>(
        &'s self,
        publication: &Publication<'_>,
    ) -> impl Iterator<Item = &'a Listener> + use<'s, 'a> {
        let port = publication.published.port();
        let running = publication.of.is_running();
        publication
            .addresses()
            .flat_map(move |address| self.holders(address, &port, running))
    }

    fn is_engines(&self, listener: &Listener, engine_holds: bool) -> bool {
        match &listener.owner {
            Some(owner) => owner.is_engine() || self.is_of_container(owner),
            None => listener.user == 0 && (engine_holds || self.blind),
        }
    }

    /// Returns whether a process belongs to a container of a queried engine.
    #[must_use]
    pub fn is_of_container(&self, owner: &Owner) -> bool {
        let id = owner.container.as_deref();
        id.is_some_and(|id| self.containers.contains_key(id))
    }

    /// Whether docker-proxy listens on a socket's port at exactly this address.
    fn is_proxied(&self, address: IpAddr, listener: &Listener) -> bool {
        self.at(listener.protocol, listener.port).any(|other| {
            let owner = other.owner.as_ref();
            other.address == address && owner.is_some_and(|owner| owner.role == Role::Proxy)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::{Ipv4Addr, Ipv6Addr};

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn at(address: IpAddr, user: u32, role: Option<Role>) -> Listener {
        let owner = role.map(|role| Owner {
            pid: 7,
            name: "someone".to_owned(),
            role,
            container: None,
            unanswered: None,
            parent: None,
        });
        Listener {
            protocol: Protocol::Tcp,
            address,
            port: 8080,
            both_families: false,
            device: None,
            user,
            owner,
        }
    }

    fn holders(host: &HostView, address: IpAddr, engine_holds: bool) -> usize {
        let port = HostPorts {
            address: None,
            protocol: Protocol::Tcp,
            first: 8000,
            last: 8080,
        };
        host.sockets().holders(address, &port, engine_holds).count()
    }

    /// If other processes are invisible, an unknown holder may be docker-proxy.
    #[test]
    fn a_port_is_not_released_to_an_unseen_process() {
        let mut host = HostView {
            listeners: vec![at(V6, 0, None)],
            ..HostView::default()
        };
        assert_eq!(holders(&host, V6, false), 1);
        assert_eq!(holders(&host, V6, true), 0);
        host.blind = true;
        assert_eq!(holders(&host, V6, false), 0);
        host.listeners[0] = at(V6, 0, Some(Role::Other));
        assert_eq!(holders(&host, V6, false), 1);
        // Not an engine's: a user other than root created it.
        host.listeners[0] = at(V6, 65534, None);
        assert_eq!(holders(&host, V6, true), 1);
    }

    #[test]
    fn a_listener_holds_its_own_family_and_address() {
        let mut host = HostView {
            listeners: vec![at(V4, 0, Some(Role::Other))],
            ..HostView::default()
        };
        let address = IpAddr::from([203, 0, 113, 10]);
        assert_eq!(holders(&host, V4, false), 1);
        assert_eq!(holders(&host, address, false), 1);
        assert_eq!(holders(&host, V6, false), 0);
        host.listeners[0].address = address;
        assert_eq!(holders(&host, V4, false), 1);
        assert_eq!(holders(&host, IpAddr::from([203, 0, 113, 11]), false), 0);
        host.listeners[0] = at(V6, 0, Some(Role::Other));
        assert_eq!(holders(&host, V4, false), 0);
        host.listeners[0].both_families = true;
        assert_eq!(holders(&host, V4, false), 1);
    }

    #[test]
    fn a_port_of_docker_proxy_counts_as_published() {
        let host = HostView {
            listeners: vec![
                at(V4, 1000, Some(Role::Other)),
                at(V4, 0, Some(Role::Proxy)),
                at(V6, 1000, Some(Role::Other)),
            ],
            ..HostView::default()
        };
        assert_eq!(holders(&host, V4, false), 0);
        assert_eq!(holders(&host, V6, false), 1);
    }
}
