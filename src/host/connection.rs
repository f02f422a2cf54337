//! Connections to engines, and their errors.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::SystemVersion;

use super::transport::Transport;
use crate::untrusted::clean;

/// The time limit of an engine for all answers. An engine that starts or hangs must not delay the firewall.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// An engine that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the container engine at {address} does not answer: {reason}")]
pub struct Unanswered {
    /// The address of the API.
    pub address: String,
    /// The reason.
    pub reason: String,
}

/// The reason why an engine did not answer a query.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("no process listens on the socket")]
    NobodyThere,
    #[error("it is not running, and dfw does not start it")]
    Asleep,
    /// An error of the API, with its cleaned message.
    #[error("{0}")]
    Api(String),
    #[error("{0} of its containers are starting or stopping and cannot be inspected")]
    Busy(usize),
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Slow,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<ApiError> for QueryError {
    fn from(error: ApiError) -> Self {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        match error {
            ApiError::IOError { err } if matches!(err.kind(), ConnectionRefused | NotFound) => {
                Self::NobodyThere
            }
            error => {
                // For a broken connection, bollard's text has no reason; the innermost source has it.
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

impl QueryError {
    /// Returns the error for display, with the address.
    pub(super) fn at(&self, address: &str) -> Unanswered {
        Unanswered {
            address: clean(address),
            reason: self.to_string(),
        }
    }
}

/// A connection to an engine, and its version.
pub(super) struct Connection {
    pub(super) address: String,
    pub(super) docker: Docker,
    pub(super) version: SystemVersion,
    pub(super) transport: Transport,
}
