//! The store of a site in etcd: connections with bounded calls, and which key holds what.
//!
//! What is read here is trusted with nothing: hosts verify signatures and digests. etcd's client neither bounds its
//! calls nor opens streams again, so both are done here: each call has a time limit, and after an error the caller
//! opens a new connection, to another member.

mod connection;
mod identity;
mod layout;

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::untrusted::clean_to;

pub use connection::{Connection, Endpoint, Found};
pub use identity::Identity;
pub use layout::{Layout, PIECE, pieces};

/// How long a call may take. A member that is stopped completes no TLS handshake, and the client does not bound that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest text of an error, in characters.
const TEXT: usize = 200;

/// Reasons why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The files for TLS cannot be read.
    #[error("{0}")]
    Identity(String),
    /// No answer came in time.
    #[error("{0} does not answer in time")]
    Silent(String),
    /// The certificate has no right to do this.
    #[error("{0} denies it: this certificate has no permission")]
    Denied(String),
    /// The quota of the database is reached: reading and leases work, and writing does not.
    #[error("the database is full (NOSPACE): `dfw fleet repair` frees space")]
    Full,
    /// The member has no majority.
    #[error("{0} has no leader: a majority of the members is down")]
    NoLeader(String),
    /// The members have elected another leader meanwhile.
    #[error("{0}: the members have elected another leader")]
    LeaderChanged(String),
    /// The answer is larger than what is received at once.
    #[error("the answer of {0} is larger than 4 MiB")]
    TooLarge(String),
    /// The member refuses a connection, or breaks it off.
    #[error("{0}: {1}")]
    Refused(String, String),
    /// Anything else.
    #[error("{0}: {1}")]
    Other(String, String),
}

impl Error {
    fn of(member: &str, error: &etcd_client::Error) -> Self {
        let member = member.to_owned();
        let text = match error {
            etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
            error => error.to_string(),
        };
        if text.contains("permission denied") {
            Self::Denied(member)
        } else if text.contains("database space exceeded") {
            Self::Full
        } else if text.contains("no leader") {
            Self::NoLeader(member)
        } else if text.contains("leader changed") {
            Self::LeaderChanged(member)
        } else if text.contains("Timeout expired") || text.contains("request timed out") {
            Self::Silent(member)
        } else if text.contains("message length too large") {
            Self::TooLarge(member)
        } else if is_refusal(error) {
            Self::Refused(member, clean_to(&text, TEXT))
        } else {
            Self::Other(member, clean_to(&text, TEXT))
        }
    }

    /// Returns whether it came from the member, so that it is there, and packets pass.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Denied(_)
            | Self::Full
            | Self::NoLeader(_)
            | Self::LeaderChanged(_)
            | Self::TooLarge(_)
            | Self::Refused(..) => true,
            Self::Identity(_) | Self::Silent(_) | Self::Other(..) => false,
        }
    }

    /// Returns whether an election is the reason, which may be over soon.
    #[must_use]
    pub fn is_election(&self) -> bool {
        matches!(self, Self::NoLeader(_) | Self::LeaderChanged(_))
    }
}

/// Returns whether a connection failed by what the other end did.
fn is_refusal(error: &etcd_client::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        etcd_client::Error::GRpcStatus(status) => Some(status),
        etcd_client::Error::TransportError(error) => Some(error),
        etcd_client::Error::IoError(error) => Some(error),
        _ => None,
    };
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            // The last one is TLS that fails.
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::InvalidData
            );
        }
        cause = error.source();
    }
    false
}
