//! What a ruleset does to the packets of this host.

pub mod audit;
pub mod eval;
pub mod explain;
pub mod path;
pub mod test;
pub mod traffic;
