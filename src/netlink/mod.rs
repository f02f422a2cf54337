//! Netlink: messages, the socket, and requests to subsystems other than nf_tables. The messages of nf_tables
//! are in [`nftables`](crate::nftables).
//!
//! Sources: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`; the files name theirs.

pub mod answer;
pub mod conntrack;
pub mod header;
pub mod message;
pub mod nflog;
pub(crate) mod number;
pub mod rtnetlink;
pub mod sock_diag;
pub mod socket;
pub mod trace;
