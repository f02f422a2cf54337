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
//! Which packets there can be on this host, and what a ruleset does to them, says [`analysis`] without a
//! kernel.
//!
//! What is deliberately absent: no other program is ever started, no table but dfw's own is ever
//! written, and nothing is remembered outside the kernel but the last good policies, by [`guard`].

pub mod analysis;
pub mod cli;
pub mod compile;
pub mod file;
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
