//! A way to an engine, and why there is none.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::SystemVersion;

use super::transport::Transport;
use crate::untrusted::clean;

/// How long an engine may take to say all that it is asked. One that starts just now, or hangs,
/// must not hold up a firewall.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An engine that has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the container engine at {address} does not answer: {reason}")]
pub struct Unanswered {
    /// Where it was asked.
    pub address: String,
    /// Why not.
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    #[error("no process listens on the socket")]
    NobodyThere,
    #[error("it is not running, and dfw does not start it")]
    Asleep,
    /// What it said, cleaned.
    #[error("{0}")]
    Api(String),
    #[error("{0} of its containers are starting or stopping and cannot be inspected")]
    Busy(usize),
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Slow,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<ApiError> for Rejection {
    fn from(error: ApiError) -> Self {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        match error {
            ApiError::IOError { err } if matches!(err.kind(), ConnectionRefused | NotFound) => {
                Self::NobodyThere
            }
            error => {
                // bollard says of a broken connection only that it is broken; the reason is behind it.
                let cause = std::iter::successors(
                    Some(&error as &(dyn std::error::Error + 'static)),
                    |error| error.source(),
                );
                let last = cause.last().map(ToString::to_string);
                Self::Api(clean(&last.unwrap_or_default()))
            }
        }
    }
}

impl Rejection {
    /// Returns the same as others are told of it.
    pub(super) fn at(&self, address: &str) -> Unanswered {
        Unanswered {
            address: clean(address),
            reason: self.to_string(),
        }
    }
}

/// A way to an engine, and what it has said of itself.
pub(super) struct Connection {
    pub(super) address: String,
    pub(super) docker: Docker,
    pub(super) version: SystemVersion,
    pub(super) transport: Transport,
}
