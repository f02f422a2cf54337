//! The vocabulary of everything else: protocols, families, addresses, ports.
//!
//! Plain data without input or output, which uses no other module of dfw. Who parses what people write
//! keeps the mistakes there: keys in [`policy`](crate::policy), answers of engines in
//! [`host`](crate::host).

mod address;
mod counts;
mod family;
mod limits;
mod lines;
mod numbers;
mod port;
mod ports;
mod protocol;
pub mod ranges;
mod unmerged;

pub use address::{AddressSet, Entry};
pub use counts::Counts;
pub use family::Family;
pub use limits::{Limits, Per, Rate, SOURCE_V6};
pub use lines::Lines;
pub use port::{HostPorts, KeysByPort, decisive};
pub use ports::Ports;
pub use protocol::Protocol;
pub use ranges::Ranges;
pub use unmerged::{Redundant, Unmerged};
