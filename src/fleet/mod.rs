//! The administrator's side of a site in etcd: pushing generations, and rolling them out in stages.
//!
//! - `host`: what a host says of itself;
//! - `progress`: what a roll-out does next, without doing it;
//! - `keys`: secret keys, which sign;
//! - `record`: what is remembered of a roll-out and of the hosts, beside what they say;
//! - `site`: reads and writes the keys of the site;
//! - `push`: a new generation, step by step;
//! - `members`: the members of the cluster;
//! - `overview`: what an administrator sees.

pub mod host;
pub mod keys;
pub mod members;
pub mod overview;
pub mod progress;
pub mod push;
pub mod record;
pub mod site;

use thiserror::Error;

use crate::bundle;
use crate::etcd;

/// Reasons why something is not done.
#[derive(Debug, Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] etcd::Error),
    /// A signed text of the store, or one that is to be written.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A file of this machine.
    #[error("{0}")]
    File(String),
    /// The administrator asks for something that is refused.
    #[error("{0}")]
    Refused(String),
    /// Somebody else changed the site at the same time.
    #[error("another `dfw fleet` changed the site at the same time: try again")]
    Overtaken,
}
