//! The person at the other end: their SSH connection, their answer, and the process that rolls back without it.

pub(super) mod confirm;
pub(super) mod ssh;
pub(super) mod watchdog;
