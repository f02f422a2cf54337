//! Permissions for a time.

use core::time::Duration;

use crate::net::{Entry, HostPorts};

/// A permission of some sources to reach some ports until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The ports.
    pub to: HostPorts,
    /// The sources.
    pub from: Entry,
    /// When it ends: the time since boot ([`since_boot`](crate::clock::since_boot)).
    pub end: Duration,
}
