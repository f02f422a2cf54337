//! A process that holds a socket, and what for.

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// The name of its program, at most 15 bytes; its owner's choice, and cleaned.
    pub name: String,
    /// What it holds sockets for.
    pub role: Role,
    /// The identifier of the container that it lives in, of an engine that was asked.
    pub container: Option<String>,
    /// The first twelve digits of the identifier of the container that it lives in, of an engine that was
    /// not asked or does not answer.
    pub unanswered: Option<String>,
    /// The process that started it, unless that has ended.
    pub parent: Option<u32>,
}

/// What a process holds sockets for, as its credentials and namespaces tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Docker's `docker-proxy`: all that it listens for is a published port.
    Proxy,
    /// An engine, or what holds a published port for one and serves nobody: `dockerd`, Podman's `conmon`.
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
