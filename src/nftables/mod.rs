//! nf_tables' messages: rulesets as bytes and back.
//!
//! One codec for both directions, so that what is written is what is read. It knows what dfw
//! sends and keeps the rest as bytes; a foreign object is never an error. It is pure: it opens no
//! socket, and knows neither what is installed nor what changes.
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
