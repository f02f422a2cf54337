//! Computes what a ruleset does with the packets of this host.
//!
//! [`path`] enumerates the kinds of paths, [`find`] finds the paths of this host, and [`judgement`] is the
//! result for a packet: accepted, dropped, rejected, or not judged. [`audit`], [`explain`] and [`mod@test`]
//! evaluate single packets; [`access`] evaluates packets of all addresses at once.

pub mod access;
pub mod audit;
pub mod difference;
pub mod eval;
pub mod explain;
pub mod find;
pub mod interfaces;
pub mod judgement;
pub mod path;
pub mod sources;
pub mod surroundings;
pub mod test;
pub mod threads;
pub mod traffic;
pub mod unfetched;
