//! The compiler: turns a policy and host facts into a ruleset.
//!
//! Pure, total and deterministic: no kernel, files, environment or clock.
//!
//! ```text
//!             ┌─ forward ────────────────────────────────┐
//!             │ related ICMP errors: accept               │
//!  client ──► │ replies from published ports ► published  │
//!   DNAT      │ from a container: accept                  │ ──► Docker's own rules
//!             │ DNAT by Docker ─────────────► published   │
//!             │ routed to a container ──► to-container    │
//!             └───────────────────────────────────────────┘
//!             ┌─ input ──────────────────────────────────┐
//!  client ──► │ from lo or a container: accept            │ ──► docker-proxy, host network
//!             │ port with a key in a policy ──► host-…    │
//!             └───────────────────────────────────────────┘
//! ```
//!
//! Base chains of other programs on these hooks, by priority: crowdsec -10, pitkley/dfw -5, **dfw -4**,
//! Docker, netavark and Calico 0, foomuuri +5, firewalld +10. Only a drop is final: a packet that dfw accepts
//! goes on to all later chains.
//!
//! The input chain does not match on connection tracking, on purpose. With engines without ip6tables, the
//! first such rule would enable connection tracking, and connections would be picked up mid-stream, possibly
//! reversed: a packet of a client would count as a reply. The exceptions are the ephemeral port range, and limits per
//! source, which give no access.
//!
//! `source` resolves sources on a host; `names` spells names of chains and sets, `write` writes them, and
//! [`read`](read()) reads them back. No other module parses names.

mod logged;
mod names;
mod read;
mod source;
mod write;

pub use logged::logged;
pub use names::{
    CONTAINERS, Context, FOREIGN, FORWARD, LimitChain, LimitSet, List, SHARED_ALLOWED,
    SHARED_DENIED, SharedSet, key_of_step, limit_of_chain, port_of_chain,
};
pub use read::{
    PortReading, Reading, Who, addresses, admitted, admitting, allows, entries, grants, has_grants,
    is_marking, limits, port_key, read, remembered, remembers, shared_ports, shared_sets,
    shared_sources,
};
pub use source::{Held, held};
pub use write::{Overlap, comment, compile, denied, left_open, overlaps, unnamed};
