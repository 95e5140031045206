//! Failures of administrative calls.

use super::{ErrorContext, RequestError};
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;

/// An administrative call failed, as a whole or for one of its subjects.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The broker refused.
    #[error("{what} was refused: {code:?}{}{context}; {}",
            message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default(), advice(*code))]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
        /// About what.
        context: Box<ErrorContext>,
    },
    /// No answer came; the broker may have acted all the same.
    #[error(
        "{what} failed: {source}{context}; check the connection, and look whether it took effect before retrying"
    )]
    Transport {
        /// What was asked.
        what: &'static str,
        /// The failure.
        source: Arc<RequestError>,
        /// About what.
        context: Box<ErrorContext>,
    },
    /// The argument cannot be right.
    #[error("{what} cannot be asked: {reason}; correct the argument")]
    Argument {
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The broker's answer leaves out what was asked for.
    #[error("the answer to {what} says nothing about {subject}; please report it")]
    Missing {
        /// What was asked.
        what: &'static str,
        /// What is missing.
        subject: String,
    },
}

impl AdminError {
    /// Kafka's code, if a broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            AdminError::Refused { code, .. } => Some(*code),
            AdminError::Transport { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            AdminError::Refused { code, .. } => code.is_retriable(),
            AdminError::Transport { source, .. } => source.is_retriable(),
            _ => false,
        }
    }

    /// Whether only another argument, or a change of the cluster, can help.
    pub fn is_fatal(&self) -> bool {
        !self.is_retriable()
    }

    /// Whether the change may have taken effect although no answer came.
    pub fn possibly_written(&self) -> bool {
        matches!(self, AdminError::Transport { source, .. } if source.possibly_written())
    }

    /// About what, for the variants that know it.
    pub fn context(&self) -> Option<&ErrorContext> {
        match self {
            AdminError::Refused { context, .. } | AdminError::Transport { context, .. } => {
                Some(context)
            }
            _ => None,
        }
    }
}

/// What a user can do about a refusal.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TopicAlreadyExists => "choose another name, or use the topic that is there",
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => "check the topic's name",
        ErrorCode::InvalidReplicationFactor => "there must be as many brokers as replicas",
        ErrorCode::InvalidPartitions => "partitions can only be added, and there is at least one",
        ErrorCode::InvalidTopicException => {
            "topic names are 1 to 249 letters, digits, dots, _ and -"
        }
        ErrorCode::InvalidConfig => "check the name and the value of each setting",
        ErrorCode::NonEmptyGroup => "stop the group's members first",
        ErrorCode::GroupIdNotFound => "check the group's name",
        ErrorCode::UnknownMemberId => {
            "stop the group's members first, offsets of a live group are its own"
        }
        ErrorCode::OffsetOutOfRange => {
            "the offset must lie between the log's start and its high watermark"
        }
        ErrorCode::NotController | ErrorCode::NotLeaderOrFollower | ErrorCode::NotCoordinator => {
            "retry shortly"
        }
        _ => "see the broker's log",
    }
}
