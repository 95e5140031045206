//! Failures of connecting, and of building a producer or a consumer.

use super::RequestError;
use crate::config::ConfigError;
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;

/// A client, producer or consumer could not be made ready, or a broker could not be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The configuration is wrong; nothing was tried.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address is not `host:port`.
    #[error("`{address}` is not an address: {reason}; write host:port, as in localhost:9092")]
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS or QUIC was not agreed upon: a certificate is not trusted, or the peer speaks something else.
    #[error(
        "no secure connection to {address}: {reason}; check the CA (ssl.ca.location), the names in the broker's \
             certificate, and that its listener speaks TLS"
    )]
    Tls {
        /// Its address.
        address: String,
        /// What was found.
        reason: String,
    },
    /// One broker could not be reached.
    #[error(
        "cannot connect to {address}: {reason}; check that the broker runs and that its advertised listener \
             can be reached from here"
    )]
    Unreachable {
        /// Its address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// None of the bootstrap brokers could be reached.
    #[error("no broker could be reached: {}; check the address and that a broker listens there",
            tried.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; "))]
    NoBroker {
        /// Each address with what happened.
        tried: Vec<(String, String)>,
    },
    /// What answers is not a Kafka broker, or its version handshake failed.
    #[error(
        "{address} refused the version handshake: {reason}; is this the Kafka listener of the broker?"
    )]
    Handshake {
        /// Its address.
        address: String,
        /// The code that it gave, if it gave one.
        code: Option<ErrorCode>,
        /// What was found.
        reason: String,
    },
    /// The broker is known by number, but metadata gives no address for it.
    #[error(
        "broker {broker} is not in the cluster's metadata at present; it may be restarting, retry later"
    )]
    UnknownBroker {
        /// The broker's number.
        broker: i32,
    },
    /// A producer could not get its identity, or another first request failed.
    #[error("{what} failed: {source}; check the broker's log")]
    Setup {
        /// What was being asked.
        what: &'static str,
        /// Why it failed.
        source: Arc<RequestError>,
    },
    /// The broker refused a first request.
    #[error("{what} was refused: {code:?}{}; check the broker's configuration and this client's rights",
            message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// What was being asked.
        what: &'static str,
        /// The broker's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl ConnectError {
    /// Kafka's code, if a broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ConnectError::Handshake { code, .. } => *code,
            ConnectError::Refused { code, .. } => Some(*code),
            ConnectError::Setup { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            ConnectError::Unreachable { .. }
            | ConnectError::NoBroker { .. }
            | ConnectError::UnknownBroker { .. } => true,
            ConnectError::Setup { source, .. } => source.is_retriable(),
            ConnectError::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether only a change of configuration or of the cluster can help.
    pub fn is_fatal(&self) -> bool {
        !self.is_retriable()
    }

    /// Always false: nothing is written while connecting.
    pub fn possibly_written(&self) -> bool {
        false
    }
}
