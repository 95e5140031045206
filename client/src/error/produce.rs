//! Failures of producing.

use super::{ErrorContext, RequestError};
use std::sync::Arc;
use std::time::Duration;
use varve_protocol::error_code::ErrorCode;

/// A record was not acknowledged. Cheap to clone: all records of a batch share it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The record alone is larger than any request may be.
    #[error(
        "the record needs {size} bytes, above max_request_size of {size_max}{context}; send smaller records, \
             or raise max_request_size and the topic's max.message.bytes"
    )]
    RecordTooLarge {
        /// Bytes that the record needs in a batch.
        size: usize,
        /// The limit.
        size_max: usize,
        /// Where.
        context: Box<ErrorContext>,
    },
    /// The record can never fit into the buffer.
    #[error(
        "the record needs {size} bytes, above buffer_memory of {size_max}; raise buffer_memory"
    )]
    BufferTooSmall {
        /// Bytes that the record needs.
        size: usize,
        /// The limit.
        size_max: usize,
    },
    /// No room in the buffer within `max_block`: brokers take less than is produced.
    #[error(
        "no room in the buffer for {waited:?}: records come faster than brokers take them; raise \
             buffer_memory or max_block, or produce more slowly"
    )]
    BufferFull {
        /// How long was waited.
        waited: Duration,
    },
    /// The topic's partitions could not be learnt within `max_block`.
    #[error(
        "the partitions of topic `{topic}` are not known after {waited:?}: {reason}; create the topic, or \
             check its name and this client's rights"
    )]
    TopicUnavailable {
        /// The topic.
        topic: String,
        /// How long was waited.
        waited: Duration,
        /// What the last answer said.
        reason: String,
        /// Kafka's code of the last answer.
        code: Option<ErrorCode>,
    },
    /// The topic has no such partition.
    #[error("topic `{topic}` has {count} partitions, no partition {partition}; choose from 0 to {}", count - 1)]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: i32,
    },
    /// The broker refused the batch, and retrying cannot help or did not.
    #[error("the broker refused the record: {code:?}{}{context}; {}",
            message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default(), advice(*code))]
    Refused {
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words.
        message: Option<String>,
        /// Whether an earlier attempt may have been written.
        possibly_written: bool,
        /// Where, and after how many attempts.
        context: Box<ErrorContext>,
    },
    /// `delivery_timeout` passed.
    #[error("not acknowledged within delivery_timeout: {reason}{context}; {}", if *possibly_written {
            "the record may have been written, so sending it again may duplicate it"
            } else { "the record was not written, so it can be sent again" })]
    TimedOut {
        /// Whether an attempt may have been written.
        possibly_written: bool,
        /// What went wrong last.
        reason: String,
        /// Where, and after how many attempts.
        context: Box<ErrorContext>,
    },
    /// Attempts ended in a failure of transport that is not retried.
    #[error("the request failed: {source}{context}; check the connection to the broker")]
    Transport {
        /// The failure.
        source: Arc<RequestError>,
        /// Whether an attempt may have been written.
        possibly_written: bool,
        /// Where, and after how many attempts.
        context: Box<ErrorContext>,
    },
    /// The batch could not be built.
    #[error(
        "the record cannot be encoded: {reason}{context}; check its size and the compression codec"
    )]
    Encode {
        /// What does not fit.
        reason: String,
        /// Where.
        context: Box<ErrorContext>,
    },
    /// A newer producer has taken this one's identity, or the broker denied it: this producer can do no more.
    #[error("this producer is fenced: {code:?}{context}; build a new one")]
    Fenced {
        /// Kafka's code.
        code: ErrorCode,
        /// Whether an earlier attempt may have been written.
        possibly_written: bool,
        /// Where.
        context: Box<ErrorContext>,
    },
    /// The producer was closed before the record was acknowledged.
    #[error("the producer is closed; records that it had not sent are dropped")]
    Closed {
        /// Whether an attempt may have been written.
        possibly_written: bool,
    },
}

impl ProduceError {
    /// Kafka's code, if a broker gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ProduceError::Refused { code, .. } | ProduceError::Fenced { code, .. } => Some(*code),
            ProduceError::TopicUnavailable { code, .. } => *code,
            ProduceError::Transport { source, .. } => source.code(),
            _ => None,
        }
    }

    /// Whether sending the record again may succeed. See [`possibly_written`](Self::possibly_written) first.
    pub fn is_retriable(&self) -> bool {
        match self {
            ProduceError::BufferFull { .. } | ProduceError::TimedOut { .. } => true,
            ProduceError::TopicUnavailable { code, .. } => {
                code.is_none_or(|code| code.is_retriable())
            }
            ProduceError::Refused { code, .. } => code.is_retriable(),
            ProduceError::Transport { source, .. } => source.is_retriable(),
            _ => false,
        }
    }

    /// Whether this producer can send nothing any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, ProduceError::Fenced { .. } | ProduceError::Closed { .. })
    }

    /// Whether the record may be in the log although it was not acknowledged. When false, sending it again
    /// cannot duplicate it.
    pub fn possibly_written(&self) -> bool {
        match self {
            ProduceError::Refused { possibly_written, .. }
            | ProduceError::TimedOut { possibly_written, .. }
            | ProduceError::Transport { possibly_written, .. }
            | ProduceError::Fenced { possibly_written, .. }
            | ProduceError::Closed { possibly_written } => *possibly_written,
            _ => false,
        }
    }

    /// Where and when, for the variants that know it.
    pub fn context(&self) -> Option<&ErrorContext> {
        match self {
            ProduceError::RecordTooLarge { context, .. }
            | ProduceError::Refused { context, .. }
            | ProduceError::TimedOut { context, .. }
            | ProduceError::Transport { context, .. }
            | ProduceError::Encode { context, .. }
            | ProduceError::Fenced { context, .. } => Some(context),
            _ => None,
        }
    }
}

/// What a user can do about a refusal.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::MessageTooLarge => {
            "send smaller records, or raise the topic's max.message.bytes"
        }
        ErrorCode::InvalidRecord => "check that records of a compacted topic have keys",
        ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed => {
            "grant this client WRITE"
        }
        ErrorCode::InvalidTimestamp => {
            "check the record's timestamp against message.timestamp.*.max.ms"
        }
        ErrorCode::UnsupportedCompressionType => "choose another compression",
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            "bring replicas back, or lower min.insync.replicas"
        }
        ErrorCode::InvalidTopicException => {
            "topic names are 1 to 249 letters, digits, dots, _ and -"
        }
        _ => "see the broker's log",
    }
}

/// [`Producer::try_enqueue`](crate::Producer::try_enqueue) could not take the record, and gives it back.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TryEnqueueError {
    /// The buffer has no room at present.
    #[error("the buffer is full; wait for a delivery, or use enqueue")]
    Full(crate::ProducerRecord),
    /// The topic's partitions are not known yet; they are being asked for, try again shortly.
    #[error("the partitions of the topic are not known yet; try again shortly, or use enqueue")]
    TopicPending(crate::ProducerRecord),
    /// The record can never be taken.
    #[error("{error}")]
    Refused {
        /// The record.
        record: crate::ProducerRecord,
        /// Why.
        error: ProduceError,
    },
}

impl TryEnqueueError {
    /// The record, to try again or to keep elsewhere.
    pub fn into_record(self) -> crate::ProducerRecord {
        match self {
            TryEnqueueError::Full(record)
            | TryEnqueueError::TopicPending(record)
            | TryEnqueueError::Refused { record, .. } => record,
        }
    }

    /// Whether trying again later may succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            TryEnqueueError::Full(_) | TryEnqueueError::TopicPending(_) => true,
            TryEnqueueError::Refused { error, .. } => error.is_retriable(),
        }
    }
}
