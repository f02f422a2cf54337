//! Who a listening socket is accounted to.

use super::HostView;
use super::engine::Container;
use super::listener::{Listener, Owner, Role};

/// Who holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// docker-proxy: it serves a published port.
    Proxy(&'a Owner),
    /// An engine itself, which keeps a published port and serves nobody there.
    Engine(&'a Owner),
    /// It serves a published port of a rootless engine.
    Rootless(&'a Owner),
    /// A process of a container in the network of the host.
    Container(&'a Container, &'a Owner),
    /// A process of a container of an engine that was not asked or does not answer, with the first twelve
    /// digits of the container's identifier.
    Unanswered(&'a str, &'a Owner),
    /// A service of the host.
    Service(&'a Owner),
    /// It cannot be seen from here, or it is the kernel itself.
    Unseen,
}

impl HostView {
    /// Who holds a socket.
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
