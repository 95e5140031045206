//! Operations on their way into the log: encoded one by one, appended many at a time.

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::records::{
    BatchBuilder, BatchOrigin, Compression, NewRecord, ValidatedBatch, ValidationLimits,
    validate_batch,
};
use varve_protocol::vocabulary::TimestampMs;

use super::ids::AppendId;
use super::records::CoordinatorRecord;

/// Bytes of records that are collected into one batch; a single operation's records always go
/// together, however many they are.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// What a record takes besides key and value, at most.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// The records of one append that the core has asked for.
#[derive(Debug)]
pub(crate) struct Operation {
    id: AppendId,
    records: Vec<(Bytes, Option<Bytes>)>,
    size: usize,
}

impl Operation {
    pub(crate) fn encode(id: AppendId, records: &[CoordinatorRecord]) -> Self {
        let records: Vec<_> =
            records.iter().map(|record| (record.encode_key(), record.encode_value())).collect();
        let size = records.iter().map(|(key, value)| {
            key.len() + value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD_BYTES
        });
        let size = size.sum();
        Self { id, records, size }
    }
}

/// Operations that become durable together or not at all.
#[derive(Debug)]
pub(crate) struct OperationBatch {
    operations: Vec<Operation>,
    size: usize,
}

impl OperationBatch {
    pub(crate) fn new() -> Self {
        Self { operations: Vec::new(), size: 0 }
    }

    /// Whether the operation may come along.
    pub(crate) fn has_room_for(&self, operation: &Operation) -> bool {
        self.operations.is_empty() || self.size + operation.size <= BATCH_BYTES_MAX
    }

    pub(crate) fn push(&mut self, operation: Operation) {
        self.size += operation.size;
        self.operations.push(operation);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operations' ids, in order.
    pub(crate) fn ids(&self) -> Vec<AppendId> {
        self.operations.iter().map(|operation| operation.id).collect()
    }

    /// The batch for the log.
    ///
    /// # Errors
    /// MESSAGE_TOO_LARGE beyond what a batch can be at all; the log has a bound of its own.
    pub(crate) fn build(&self, timestamp: TimestampMs) -> Result<ValidatedBatch, ErrorCode> {
        let mut builder = BatchBuilder::new(Compression::None).with_capacity(self.size);
        for (key, value) in self.operations.iter().flat_map(|operation| &operation.records) {
            let value = value.as_deref();
            builder
                .push(NewRecord { timestamp, key: Some(key), value, headers: &[] })
                .map_err(|_| ErrorCode::MessageTooLarge)?;
        }
        let bytes = builder.build().map_err(|_| ErrorCode::MessageTooLarge)?;
        let limits = ValidationLimits { origin: BatchOrigin::Coordinator, ..Default::default() };
        Ok(validate_batch(bytes, &limits).expect("the builder builds valid batches"))
    }
}
