//! What a ruleset does to the packets of this host.
//!
//! [`path`] is the one enumeration of ways to a port, [`find`] says which of them this host has, and
//! [`judgement`] what becomes of a packet there: accepted, dropped, rejected, or not judged. Upon them stand
//! [`audit`], [`explain`] and [`mod@test`], which ask for one packet, and [`access`], which asks for the packets of
//! every address at once.

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
pub mod traffic;
