//! Why one request got no answer. Operations carry it as their source.

use super::ConnectError;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;

/// One request to one broker failed before an answer could be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No connection could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended while the request was under way; whether the broker acted on it is unknown.
    #[error("the connection to {address} ended: {reason}")]
    Disconnected {
        /// The broker's address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// No answer came in time; whether the broker acted on the request is unknown.
    #[error("{address} did not answer {api} within {timeout:?}")]
    TimedOut {
        /// The broker's address.
        address: String,
        /// The request's name.
        api: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// The broker and this client have no version of the request in common.
    #[error(
        "{address} does not serve {api} in a version that this client speaks (client {client_min} to \
         {client_max}, broker {broker}); use a broker of Kafka 2.1 or later"
    )]
    Unsupported {
        /// The broker's address.
        address: String,
        /// The request's name.
        api: String,
        /// Lowest version of this client.
        client_min: i16,
        /// Highest version of this client.
        client_max: i16,
        /// The broker's range, or that it has none.
        broker: String,
    },
    /// The answer could not be read.
    #[error(
        "the answer of {address} to {api} v{version} cannot be read: {reason}; please report it"
    )]
    Malformed {
        /// The broker's address.
        address: String,
        /// The request's name.
        api: String,
        /// Its version.
        version: i16,
        /// What was found, and where.
        reason: String,
    },
    /// The request cannot be written in the version that the broker speaks.
    #[error("{api} v{version} cannot be written: {reason}")]
    Unwritable {
        /// The request's name.
        api: String,
        /// Its version.
        version: i16,
        /// What does not fit.
        reason: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl RequestError {
    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            RequestError::Connect(error) => error.is_retriable(),
            RequestError::Disconnected { .. } | RequestError::TimedOut { .. } => true,
            RequestError::Unsupported { .. }
            | RequestError::Malformed { .. }
            | RequestError::Unwritable { .. }
            | RequestError::Closed => false,
        }
    }

    /// Whether the broker may have acted on the request all the same.
    pub fn possibly_written(&self) -> bool {
        matches!(
            self,
            RequestError::Disconnected { .. }
                | RequestError::TimedOut { .. }
                | RequestError::Malformed { .. }
        )
    }

    /// The Kafka code behind the failure, where there is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            RequestError::Connect(error) => error.code(),
            _ => None,
        }
    }
}
