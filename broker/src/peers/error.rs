//! Why a request to another broker was not answered.

use std::time::Duration;

use thiserror::Error;
use varve_protocol::vocabulary::BrokerId;
use varve_protocol::wire::{DecodeError, EncodeError};

/// Why a request to another broker was not answered. Whether the other broker acted on it is known
/// only where it was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeerError {
    /// No address is known for it. Not sent.
    #[error("broker {0} is not known")]
    Unknown(BrokerId),
    /// It did not answer, or there was no connection, until the time was over.
    #[error("broker {0} did not answer within {1:?}")]
    TimedOut(BrokerId, Duration),
    /// The connection broke while the answer was awaited.
    #[error("the connection to broker {0} broke")]
    Broken(BrokerId),
    /// As many requests as may be are waiting for it. Not sent.
    #[error("too many requests wait for broker {0}")]
    Full(BrokerId),
    /// The request has no form on the wire. Not sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer cannot be read.
    #[error("broker {broker}'s answer: {source}")]
    Decode {
        /// Who answered.
        broker: BrokerId,
        /// What is wrong.
        source: DecodeError,
    },
}
