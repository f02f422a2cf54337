//! dfw: a firewall for the ports that Docker publishes.
//!
//! Data moves one way: policy files and facts about the host go in, a pure middle turns them into
//! a [`ruleset`], and one netlink transaction installs it.
//!
//! ```text
//!  policies/*.yaml ─► store ──► policy ─┐
//!                                       ├─► compile ─► ruleset ─► plan ─► nftables ─► netlink
//!  links of this host ───────► host ────┘                           ▲                     │
//!                                                                   └────── kernel ◄──────┘
//! ```
//!
//! [`analysis`] computes which packets this host can receive and what a ruleset does with them, without a kernel.
//!
//! dfw starts no other program, writes to no table but its own, and stores nothing outside of the kernel except
//! [`guard`]'s state: the last good policies and published ports.

pub mod analysis;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod compile;
pub mod confine;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod fetch;
pub mod file;
#[cfg(feature = "etcd")]
pub mod fleet;
pub mod guard;
pub mod host;
pub mod import;
pub mod init;
pub mod kernel;
pub mod net;
pub mod netlink;
pub mod nftables;
pub mod output;
pub mod page;
pub mod plan;
pub mod policy;
pub mod ruleset;
pub mod site;
pub mod store;
pub mod text;
pub mod trace;
pub mod untrusted;
