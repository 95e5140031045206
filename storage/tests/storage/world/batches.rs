//! Batches that a workload writes, and all that a log gives back.

use bytes::Bytes;
use varve_protocol::records::{
    BatchBuilder, Batches, Compression, NewRecord, ValidatedBatch, ValidationLimits, validate_batch,
};
use varve_protocol::vocabulary::{
    PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId, TopicIdPartition,
};
use varve_storage::{LogReader, SimDisk};

pub(crate) fn partition(number: i32) -> TopicIdPartition {
    let topic_id = TopicId(0x1234_5678_9abc_def0 << 32 | u128::from(number.unsigned_abs() / 4));
    TopicIdPartition { topic_id, partition: PartitionIndex(number) }
}

/// A batch of `count` records whose values are unique to `stamp`.
pub(crate) fn batch(
    stamp: u64,
    count: i32,
    value_bytes: usize,
    producer: Option<(i64, i16, i32)>,
) -> ValidatedBatch {
    batch_at(stamp, count, value_bytes, producer, 1_000)
}

pub(crate) fn batch_at(
    stamp: u64,
    count: i32,
    value_bytes: usize,
    producer: Option<(i64, i16, i32)>,
    timestamp: i64,
) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    }
    for number in 0..count {
        let mut value = format!("{stamp}/{number}/").into_bytes();
        value.resize(value.len().max(value_bytes), b'.');
        let key = format!("k{}", stamp % 7);
        builder
            .push(NewRecord {
                timestamp: TimestampMs(timestamp),
                key: Some(key.as_bytes()),
                value: Some(&value),
                headers: &[],
            })
            .unwrap();
    }
    validate_batch(builder.build().unwrap(), &ValidationLimits::default()).unwrap()
}

/// All batches of a log from its start to its end.
pub(crate) fn read_all(reader: &LogReader<SimDisk>) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut from = reader.log_start();
    while from < reader.log_end() {
        let read = reader.read(from, 10_000, reader.log_end(), true).unwrap();
        if read.slices.is_empty() {
            break;
        }
        for slice in &read.slices {
            for batch in Batches::new(slice.bytes().unwrap()) {
                let batch = batch.unwrap();
                batch.check_crc().unwrap();
                batches.push(batch.bytes().clone());
            }
        }
        assert!(read.next_offset > from);
        from = read.next_offset;
    }
    batches
}
