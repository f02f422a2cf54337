//! The user's session: the SSH connection, the confirmation, and the watchdog that rolls back without it.

pub(super) mod confirm;
pub(super) mod ssh;
pub(super) mod watchdog;
