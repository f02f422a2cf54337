//! nf_tables over netlink: rulesets as messages and back, and the socket that carries them.
//!
//! One codec for both directions, so that what is written is what is read. It knows what dfw
//! sends and keeps the rest as bytes; a foreign object is never an error.
//!
//! Sources: `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`, `linux/netlink.h`; for what is
//! asked beside nf_tables, [`link`] and [`listener`] name theirs.

pub mod batch;
mod deletion;
mod element;
pub mod foreign;
pub mod header;
mod instruction;
pub mod link;
pub mod listener;
mod load;
mod lower;
mod memory;
pub mod nflog;
pub mod notice;
mod number;
pub mod object;
mod port;
pub mod request;
pub mod route;
pub mod snapshot;
pub mod socket;
pub mod trace;
pub mod tracer;
mod userdata;
pub mod wire;
