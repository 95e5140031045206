//! Failures of committing offsets.

use super::{ErrorContext, RequestError};
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;

/// Offsets could not be committed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The consumer has no group, so there is nowhere to commit to.
    #[error("this consumer has no group; name one in Client::consumer")]
    NoGroup,
    /// The member is no longer part of the group; others own its partitions.
    #[error(
        "this member is no longer part of the group: {code:?}{context}; records since the last commit will be \
             delivered again, to whoever owns the partitions now"
    )]
    Fenced {
        /// Kafka's code.
        code: ErrorCode,
        /// The group.
        context: Box<ErrorContext>,
    },
    /// The group is in the middle of a rebalance.
    #[error("the group is rebalancing{context}; commit again once recv has gone on")]
    Rebalancing {
        /// The group.
        context: Box<ErrorContext>,
    },
    /// The coordinator refused.
    #[error("the coordinator refused: {code:?}{context}; see the broker's log")]
    Refused {
        /// Kafka's code.
        code: ErrorCode,
        /// The group, and the partition if the refusal is about one.
        context: Box<ErrorContext>,
    },
    /// No answer came; the offsets may have been committed.
    #[error(
        "the request failed: {source}{context}; the offsets may have been committed, committing again is safe"
    )]
    Transport {
        /// The failure.
        source: Arc<RequestError>,
        /// The group.
        context: Box<ErrorContext>,
    },
    /// The consumer was closed.
    #[error("the consumer is closed; build a new one")]
    Closed,
}

impl CommitError {
    /// Kafka's code, if a broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            CommitError::Fenced { code, .. } | CommitError::Refused { code, .. } => Some(*code),
            CommitError::Rebalancing { .. } => Some(ErrorCode::RebalanceInProgress),
            CommitError::Transport { source, .. } => source.code(),
            CommitError::NoGroup | CommitError::Closed => None,
        }
    }

    /// Whether committing again may succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            CommitError::Rebalancing { .. } => true,
            CommitError::Refused { code, .. } => code.is_retriable(),
            CommitError::Transport { source, .. } => source.is_retriable(),
            CommitError::NoGroup | CommitError::Fenced { .. } | CommitError::Closed => false,
        }
    }

    /// Whether this consumer can commit nothing any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, CommitError::NoGroup | CommitError::Closed)
    }

    /// Whether the offsets may have been committed although no answer came.
    pub fn possibly_written(&self) -> bool {
        matches!(self, CommitError::Transport { source, .. } if source.possibly_written())
    }

    /// Where, for the variants that know it.
    pub fn context(&self) -> Option<&ErrorContext> {
        match self {
            CommitError::Fenced { context, .. }
            | CommitError::Rebalancing { context }
            | CommitError::Refused { context, .. }
            | CommitError::Transport { context, .. } => Some(context),
            CommitError::NoGroup | CommitError::Closed => None,
        }
    }
}
