//! The codec of nf_tables messages: encodes and decodes rulesets.
//!
//! One codec serves both directions. It decodes what dfw sends and keeps the rest as bytes; a foreign object
//! is never an error. It is pure: it opens no socket and has no state.
//!
//! Sources: `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`.

mod expression;
pub mod foreign;
mod instruction;
mod message;
pub mod notice;
mod number;
pub mod object;
pub mod request;
pub mod tracer;
pub mod transaction;
