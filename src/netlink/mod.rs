//! The wire: netlink messages, the socket that carries them, and what is asked of the kernel beside
//! nf_tables. What nf_tables' own messages say is [`nftables`](crate::nftables)' to know.
//!
//! Sources: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`; the files name theirs.

pub mod answer;
pub mod header;
pub mod message;
pub mod nflog;
pub(crate) mod number;
pub mod rtnetlink;
pub mod sock_diag;
pub mod socket;
pub mod trace;
