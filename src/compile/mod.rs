//! The compiler: what the user wants and what the host is like, turned into a ruleset.
//!
//! Pure, total and deterministic: no kernel, files, environment or clock.
//!
//! ```text
//!             ┌─ forward ────────────────────────────────┐
//!             │ errors about connections: let through     │
//!  client ──► │ answers of published ports ─► published   │
//!   DNAT      │ from a container: let through             │ ──► Docker's own rules
//!             │ translated by Docker ──────► published    │
//!             │ straight to a container ───► direct       │
//!             └───────────────────────────────────────────┘
//!             ┌─ input ──────────────────────────────────┐
//!  client ──► │ from lo or a container: let through       │ ──► docker-proxy, host network
//!             │ a port that a policy names ─► host-…      │
//!             └───────────────────────────────────────────┘
//! ```
//!
//! Neighbours on these hooks, by priority: crowdsec -10, pitkley/dfw -5, **dfw -4**, Docker,
//! netavark and Calico 0, foomuuri +5, firewalld +10. Only a drop is final: what dfw accepts still
//! goes through all that come later.
//!
//! The input side looks at no connection tracking, on purpose: on engines without ip6tables the
//! first rule that asks for it switches it on, connections are then picked up in the middle,
//! possibly the wrong way round, and a stranger would pass as an answer. The exception are ports that
//! the kernel also chooses from for the host's own requests.
//!
//! `source` says what a source holds on a host; `names` spells what chains and sets are called, `write` writes
//! them, and [`read`](read()) reads them back. Nobody else takes names apart.

mod logged;
mod names;
mod read;
mod source;
mod write;

pub use logged::logged;
pub use names::{
    CONTAINERS, Context, FOREIGN, FORWARD, List, SHARED_ALLOWED, SHARED_REFUSED, SharedSet,
    port_of_chain,
};
pub use read::{
    PortReading, Reading, Who, addresses, admitted, admitting, allows, entries, is_marking,
    port_key, read, remembered, remembers, shared_ports, shared_sets, shared_sources,
};
pub use source::{Held, held};
pub use write::{Overlap, comment, compile, left_open, overlaps, refused, unnamed};
