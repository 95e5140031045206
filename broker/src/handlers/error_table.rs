//! From what went wrong to Kafka's code for it: the one table.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::{BatchError, DecompressError};
use varve_storage::{AppendError, ReadError, TruncateError};

use crate::shard::{DeleteRecordsError, ProduceError};

/// What a batch that fails validation is answered with; as Kafka's `ProduceRequest` and
/// `LogValidator` do.
pub fn batch_error(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::TooSmall { .. } | BatchError::UnknownMagic { .. } | BatchError::Crc { .. } => {
            ErrorCode::CorruptMessage
        }
        // Kafka's own answer. Unlike CORRUPT_MESSAGE it is not retriable: the same bytes would
        // not decompress the next time either.
        BatchError::Decompress(DecompressError::Malformed { .. })
        | BatchError::UnknownCompression { .. } => ErrorCode::UnknownServerError,
        // A client that splits batches may come below the bounds.
        BatchError::Decompress(
            DecompressError::TooLarge { .. } | DecompressError::Ratio { .. },
        )
        | BatchError::TooLarge => ErrorCode::MessageTooLarge,
        BatchError::Incomplete { .. }
        | BatchError::OldMagic { .. }
        | BatchError::SecondBatch
        | BatchError::BaseOffset(_)
        | BatchError::ControlBatch
        | BatchError::BaseSequence(_)
        | BatchError::Count { .. }
        | BatchError::RecordCount { .. }
        | BatchError::BytesBehindRecords { .. }
        | BatchError::OffsetDelta { .. }
        | BatchError::Record { .. } => ErrorCode::InvalidRecord,
    }
}

/// What a batch that is not acknowledged is answered with.
pub fn produce_error(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::Append(error) => append_error(error),
        ProduceError::DirectoryFailed(_) => ErrorCode::KafkaStorageError,
        ProduceError::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
        ProduceError::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
        ProduceError::TimedOut => ErrorCode::RequestTimedOut,
        // Retriable, and makes clients look for another leader. A replica that was deleted here under a
        // batch may have gone elsewhere, and the batch with it.
        ProduceError::NotLeader | ProduceError::Deleted | ProduceError::ShuttingDown => {
            ErrorCode::NotLeaderOrFollower
        }
    }
}

fn append_error(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::KeylessRecord => ErrorCode::InvalidRecord,
        AppendError::StaleLeaderEpoch { .. } | AppendError::OffsetGap { .. } => {
            ErrorCode::NotLeaderOrFollower
        }
        AppendError::DiskFull | AppendError::Damaged { .. } | AppendError::DirectoryFailed(_) => {
            ErrorCode::KafkaStorageError
        }
    }
}

/// What a read that fails is answered with.
pub(crate) fn read_error(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Batch { .. } => ErrorCode::CorruptMessage,
        ReadError::Damaged { .. } | ReadError::Rotten(_) | ReadError::Io { .. } => {
            ErrorCode::KafkaStorageError
        }
    }
}

/// What records that are not deleted are answered with.
pub(crate) fn delete_records_error(error: &DeleteRecordsError) -> ErrorCode {
    match error {
        DeleteRecordsError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        DeleteRecordsError::OutOfRange { .. }
        | DeleteRecordsError::Truncate(TruncateError::OutOfRange { .. }) => {
            ErrorCode::OffsetOutOfRange
        }
        DeleteRecordsError::Truncate(_) => ErrorCode::KafkaStorageError,
        DeleteRecordsError::NotLeader | DeleteRecordsError::ShuttingDown => {
            ErrorCode::NotLeaderOrFollower
        }
        DeleteRecordsError::TimedOut => ErrorCode::RequestTimedOut,
    }
}
