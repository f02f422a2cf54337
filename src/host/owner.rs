//! A process that holds a socket, and its role.

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its command name, at most 15 bytes, cleaned; a process can choose any name.
    pub name: String,
    /// What it holds sockets for.
    pub role: Role,
    /// The ID of its container, of a queried engine.
    pub container: Option<String>,
    /// The first twelve digits of the ID of its container, of an engine that was not queried or does
    /// not answer.
    pub unanswered: Option<String>,
    /// Its parent process, unless that has ended.
    pub parent: Option<u32>,
}

/// The role of a process, by its credentials and namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Docker's `docker-proxy`: each of its listening sockets serves a published port.
    Proxy,
    /// An engine, or a helper that reserves a published port without serving it: `dockerd`, Podman's
    /// `conmon`.
    Engine,
    /// It serves published ports of a rootless engine.
    Rootless,
    /// Anything else.
    Other,
}

impl Owner {
    /// Returns whether it holds the socket on behalf of a container engine, for a published port.
    #[must_use]
    pub fn is_engine(&self) -> bool {
        self.role != Role::Other
    }
}
