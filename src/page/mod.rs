//! Pages and pictures for people: one file each, complete in itself.
//!
//! ```text
//!  analysis ─► model (audit, change) ─► page ────────────────────► HTML
//!                     └─► picture (layout) ─► svg ─► inside of it, or a file of its own
//! ```
//!
//! A page has no script, and its Content-Security-Policy forbids everything but its own style: nothing is
//! loaded, and a name that looks like markup is text. Every name is [cleaned](crate::untrusted) in the model,
//! and escaped where it becomes markup.

pub mod audit;
mod audit_page;
pub mod change;
mod change_page;
pub mod count;
#[cfg(feature = "etcd")]
pub mod fleet_page;
mod frame;
pub mod picture;
mod svg;
