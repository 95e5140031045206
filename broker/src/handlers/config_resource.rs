//! Resources of the configuration requests: from the wire's type and name to a thing of this broker.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::BrokerId;

use crate::metadata::{ConfigError, ConfigResource, MetadataHandle};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Why a resource cannot be described or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResourceError {
    /// Kafka has no such type either.
    #[error("Unknown resource type {0}")]
    UnknownType(i8),
    /// Kafka has it, varve does not.
    #[error("This broker has no configurations of {0}")]
    Unsupported(&'static str),
    /// A group or a set of client metrics without a name.
    #[error("A resource of type {0} needs a name")]
    Nameless(i8),
    /// A broker's name that is no number.
    #[error("Broker id must be an integer, but it is: {0}")]
    NotABroker(String),
    /// Another broker's, which only that one knows.
    #[error("Unexpected broker id, expected {expected} or empty string, but received {found}")]
    OtherBroker {
        /// This one.
        expected: BrokerId,
        /// The asked one.
        found: i32,
    },
    /// A resource twice in one request.
    #[error("Each resource must appear at most once.")]
    Repeated,
    /// An operation that no version of the protocol has.
    #[error("Unknown operation {operation} for configuration {name}")]
    UnknownOperation {
        /// The operation's number.
        operation: i8,
        /// The key.
        name: String,
    },
    /// The change was refused.
    #[error(transparent)]
    Change(#[from] ConfigError),
}

impl ResourceError {
    /// The wire's word for it.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownType(_)
            | Self::Unsupported(_)
            | Self::Nameless(_)
            | Self::NotABroker(_)
            | Self::OtherBroker { .. }
            | Self::Repeated => ErrorCode::InvalidRequest,
            // What Kafka answers.
            Self::UnknownOperation { .. } => ErrorCode::UnknownServerError,
            Self::Change(error) => error.code(),
        }
    }
}

/// Whether this is a thing of Kafka's that has no keys here, whatever its name: what lists the
/// configurations of groups is told that there are none.
///
/// # Errors
/// [`ResourceError::Nameless`], as in Kafka.
pub(crate) fn is_without_keys(kind: i8, name: &str) -> Result<bool, ResourceError> {
    match kind {
        CLIENT_METRICS | GROUP if name.is_empty() => Err(ResourceError::Nameless(kind)),
        CLIENT_METRICS | GROUP => Ok(true),
        _ => Ok(false),
    }
}

/// The thing that `kind` and `name` stand for, if this broker knows its values: of brokers, only its own.
///
/// # Errors
/// [`ResourceError`] when this broker does not have it.
pub(crate) fn parse_own_resource(
    metadata: &MetadataHandle,
    kind: i8,
    name: &str,
) -> Result<ConfigResource, ResourceError> {
    let expected = metadata.broker_id();
    match parse_resource(kind, name)? {
        ConfigResource::Broker(found) if found != expected => {
            Err(ResourceError::OtherBroker { expected, found: found.0 })
        }
        resource => Ok(resource),
    }
}

/// The thing that `kind` and `name` stand for. The controller changes the values of any broker.
///
/// # Errors
/// [`ResourceError`] when there is no such thing here.
pub(crate) fn parse_resource(kind: i8, name: &str) -> Result<ConfigResource, ResourceError> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER => {
            let not_a_broker = |_| ResourceError::NotABroker(name.to_owned());
            let found = name.parse::<i32>().map_err(not_a_broker)?;
            Ok(ConfigResource::Broker(BrokerId(found)))
        }
        BROKER_LOGGER => Err(ResourceError::Unsupported("loggers")),
        CLIENT_METRICS => Err(ResourceError::Unsupported("client metrics")),
        GROUP => Err(ResourceError::Unsupported("groups")),
        _ => Err(ResourceError::UnknownType(kind)),
    }
}
