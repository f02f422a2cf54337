//! Event sources of the loop, one file each.

pub(super) mod clients;
pub(super) mod control;
pub(super) mod engines;
pub(super) mod event;
pub(super) mod feed;
pub(super) mod files;
pub(super) mod job;
pub(super) mod links;
mod notices;
pub(super) mod signals;
pub(super) mod sockets;
pub(super) mod sources;
pub(super) mod table;
