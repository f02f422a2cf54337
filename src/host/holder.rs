//! Attributes listening sockets to holders.

use super::HostView;
use super::engine::Container;
use super::listener::{Listener, Owner, Role};

/// The holder of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// docker-proxy: it serves a published port.
    Proxy(&'a Owner),
    /// An engine that reserves a published port without serving it.
    Engine(&'a Owner),
    /// It serves a published port of a rootless engine.
    Rootless(&'a Owner),
    /// A process of a container that uses the host network.
    Container(&'a Container, &'a Owner),
    /// A process of a container of an engine that was not queried or does not answer, with the first
    /// twelve digits of the container ID.
    Unanswered(&'a str, &'a Owner),
    /// A service of the host.
    Service(&'a Owner),
    /// The holder is not visible from here, or is the kernel.
    Unseen,
}

impl HostView {
    /// Returns who holds a socket.
    #[must_use]
    pub fn holder<'a>(&'a self, listener: &'a Listener) -> Holder<'a> {
        let Some(owner) = &listener.owner else {
            return Holder::Unseen;
        };
        if let Some(container) = self.container_of(owner) {
            return Holder::Container(container, owner);
        }
        match owner.role {
            Role::Proxy => Holder::Proxy(owner),
            Role::Engine => Holder::Engine(owner),
            Role::Rootless => Holder::Rootless(owner),
            Role::Other => match &owner.unanswered {
                Some(id) => Holder::Unanswered(id, owner),
                None => Holder::Service(owner),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    fn listener(role: Role, container: Option<&str>, unanswered: Option<&str>) -> Listener {
        Listener {
            protocol: Protocol::Tcp,
            address: [0; 4].into(),
            port: 80,
            both_families: false,
            device: None,
            user: 0,
            owner: Some(Owner {
                pid: 7,
                name: "web".to_owned(),
                role,
                container: container.map(str::to_owned),
                unanswered: unanswered.map(str::to_owned),
                parent: None,
            }),
        }
    }

    #[test]
    fn every_socket_is_accounted_for() {
        let host = HostView::default();
        let of = |listener: &Listener| match host.holder(listener) {
            Holder::Proxy(_) => "proxy",
            Holder::Engine(_) => "engine",
            Holder::Rootless(_) => "rootless",
            Holder::Container(..) => "container",
            Holder::Unanswered(..) => "unanswered",
            Holder::Service(_) => "service",
            Holder::Unseen => "unseen",
        };
        assert_eq!(of(&listener(Role::Proxy, None, None)), "proxy");
        assert_eq!(of(&listener(Role::Engine, None, None)), "engine");
        // A process in a container of its own can still serve ports of a rootless engine.
        assert_eq!(of(&listener(Role::Rootless, None, Some("0"))), "rootless");
        assert_eq!(of(&listener(Role::Other, None, Some("0"))), "unanswered");
        assert_eq!(of(&listener(Role::Other, None, None)), "service");
        // The container was deleted meanwhile.
        assert_eq!(of(&listener(Role::Other, Some("gone"), None)), "service");
        let mut unseen = listener(Role::Other, None, None);
        unseen.owner = None;
        assert_eq!(of(&unseen), "unseen");
    }

    #[test]
    fn what_no_engine_explains_is_a_trace() {
        let mut host = HostView {
            listeners: vec![
                listener(Role::Proxy, None, None),
                listener(Role::Rootless, None, None),
                listener(Role::Other, None, Some("0123456789ab")),
                listener(Role::Other, None, None),
                listener(Role::Engine, None, None),
            ],
            ..HostView::default()
        };
        let traces = host.traces_of_engines();
        assert_eq!((traces.published.len(), traces.containers.len()), (2, 1));
        for listener in &mut host.listeners {
            listener.address = [127, 0, 0, 1].into();
        }
        assert!(host.traces_of_engines().is_empty());
    }
}
