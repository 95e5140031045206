//! Failures of consuming.

use super::{ErrorContext, RequestError};
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;

/// The stream of records was interrupted. Unless [`is_fatal`](ConsumeError::is_fatal), calling
/// [`recv`](crate::Consumer::recv) again goes on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The member lost its place in the group: others own its partitions now. The next `recv` joins again.
    #[error(
        "this member was removed from its group: {reason}{context}; its partitions went to others, and records \
             not committed are delivered again; call recv again to rejoin"
    )]
    Fenced {
        /// Why.
        reason: FenceReason,
        /// The group.
        context: Box<ErrorContext>,
    },
    /// Another member uses the same `group_instance_id`.
    #[error(
        "another member of the group uses the same group_instance_id{context}; give each member its own"
    )]
    InstanceFenced {
        /// The group.
        context: Box<ErrorContext>,
    },
    /// There is no committed offset, and `auto_offset_reset` is `Error`.
    #[error(
        "no offset is committed{context}; seek, or set auto_offset_reset to Earliest or Latest"
    )]
    NoPosition {
        /// The partition.
        context: Box<ErrorContext>,
    },
    /// The position is outside of the log, and `auto_offset_reset` is `Error`.
    #[error(
        "the position is outside of the log{context}; seek, or set auto_offset_reset to Earliest or Latest"
    )]
    OffsetOutOfRange {
        /// The partition and the position.
        context: Box<ErrorContext>,
    },
    /// The log was cut below the position, and `auto_offset_reset` is `Error`: records that were read are gone.
    #[error(
        "the log was truncated below the position, to {diverging_end}{context}; records that were read no longer \
             exist; seek to continue"
    )]
    Truncated {
        /// Where the logs part, or -1 if unknown.
        diverging_end: i64,
        /// The partition and the position.
        context: Box<ErrorContext>,
    },
    /// The topic does not exist, or its name is not valid.
    #[error("topic cannot be read: {code:?}{context}; create it, or check its name")]
    Topic {
        /// Kafka's code.
        code: ErrorCode,
        /// The topic.
        context: Box<ErrorContext>,
    },
    /// This client may not read the topic or the group.
    #[error("not authorised: {code:?}{context}; grant READ on the topic and on the group")]
    Unauthorised {
        /// Kafka's code.
        code: ErrorCode,
        /// The topic or the group.
        context: Box<ErrorContext>,
    },
    /// A batch is damaged; all records before it were returned. `recv` goes on in its partition only when told to by
    /// [`Consumer::seek`](crate::Consumer::seek).
    #[error("a batch is damaged: {reason}{context}; seek past it, or restore the partition")]
    Damaged {
        /// What was found and expected.
        reason: String,
        /// The partition and the position.
        context: Box<ErrorContext>,
    },
    /// The group refused this member.
    #[error("the group refused this member: {code:?}{}{context}; check its configuration against the other members",
            message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Group {
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
        /// The group.
        context: Box<ErrorContext>,
    },
    /// The broker refused a request, and retrying cannot help.
    #[error("the broker refused to serve: {code:?}{context}; see the broker's log")]
    Refused {
        /// Kafka's code.
        code: ErrorCode,
        /// Where.
        context: Box<ErrorContext>,
    },
    /// A request failed in a way that is not retried.
    #[error("a request failed: {source}{context}; check the connection to the brokers")]
    Transport {
        /// The failure.
        source: Arc<RequestError>,
        /// Where.
        context: Box<ErrorContext>,
    },
    /// The partition is not assigned to this consumer.
    #[error(
        "the partition is not assigned to this consumer{context}; seek and pause work on assigned partitions only"
    )]
    NotAssigned {
        /// The partition.
        context: Box<ErrorContext>,
    },
    /// The consumer was closed.
    #[error("the consumer is closed; build a new one")]
    Closed,
}

/// Why a member lost its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FenceReason {
    /// `recv` was not called for longer than `max_poll_interval`.
    PollInterval {
        /// How long ago the last call was.
        since: Duration,
        /// The limit.
        limit: Duration,
    },
    /// The broker did not hear from the member for `session_timeout`, or the group moved on without it.
    Coordinator(ErrorCode),
}

impl std::fmt::Display for FenceReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FenceReason::PollInterval { since, limit } => write!(
                f,
                "recv was not called for {since:.1?}, above max_poll_interval of {limit:.1?} (process faster, or raise it)"
            ),
            FenceReason::Coordinator(code) => write!(f, "the coordinator answered {code:?}"),
        }
    }
}

impl ConsumeError {
    /// Kafka's code, if a broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ConsumeError::Fenced { reason: FenceReason::Coordinator(code), .. } => Some(*code),
            ConsumeError::InstanceFenced { .. } => Some(ErrorCode::FencedInstanceId),
            ConsumeError::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            ConsumeError::Topic { code, .. }
            | ConsumeError::Unauthorised { code, .. }
            | ConsumeError::Group { code, .. }
            | ConsumeError::Refused { code, .. } => Some(*code),
            ConsumeError::Transport { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether calling `recv` again may go on without any other change.
    pub fn is_retriable(&self) -> bool {
        match self {
            ConsumeError::Fenced { .. } => true,
            ConsumeError::Topic { code, .. } | ConsumeError::Refused { code, .. } => {
                code.is_retriable()
            }
            ConsumeError::Transport { source, .. } => source.is_retriable(),
            _ => false,
        }
    }

    /// Whether this consumer can deliver nothing any more.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            ConsumeError::InstanceFenced { .. }
                | ConsumeError::Closed
                | ConsumeError::Group { .. }
                | ConsumeError::Unauthorised { .. }
        )
    }

    /// Always false: consuming writes nothing.
    pub fn possibly_written(&self) -> bool {
        false
    }

    /// Where, for the variants that know it.
    pub fn context(&self) -> Option<&ErrorContext> {
        match self {
            ConsumeError::Fenced { context, .. }
            | ConsumeError::InstanceFenced { context }
            | ConsumeError::NoPosition { context }
            | ConsumeError::OffsetOutOfRange { context }
            | ConsumeError::Truncated { context, .. }
            | ConsumeError::Topic { context, .. }
            | ConsumeError::Unauthorised { context, .. }
            | ConsumeError::Damaged { context, .. }
            | ConsumeError::Group { context, .. }
            | ConsumeError::Refused { context, .. }
            | ConsumeError::Transport { context, .. }
            | ConsumeError::NotAssigned { context } => Some(context),
            ConsumeError::Closed => None,
        }
    }
}
