//! Builds one batch, record by record.

use bytes::Bytes;
use thiserror::Error;

use super::codec::compress;
use super::compression::Compression;
use super::header::{
    Attributes, BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC, TimestampType, computed_crc,
};
use super::record::Header;
use super::varint;
use crate::vocabulary::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// A record to be added to a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// When it happened; −1 for no timestamp.
    pub timestamp: TimestampMs,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header],
}

/// Why a batch cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A record or the batch would not fit into 31 bits.
    #[error("a batch holds less than 2 GiB")]
    TooLarge,
    /// The offsets must rise.
    #[error("the offset delta {next} does not follow {last}")]
    OffsetDelta {
        /// The last record's.
        last: i32,
        /// The refused one.
        next: i32,
    },
    /// A batch without records is only written by compaction, which says the last offset.
    #[error("the batch has no records")]
    Empty,
}

/// Collects records and writes a batch. Base offset 0, leader epoch −1 and no producer, unless
/// set.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    level: Option<i32>,
    /// Header's room, then records, uncompressed.
    bytes: Vec<u8>,
    last_offset_delta_least: i32,
}

impl BatchBuilder {
    /// An empty batch that will be compressed so.
    pub fn new(compression: Compression) -> Self {
        Self {
            header: BatchHeader {
                base_offset: Offset(0),
                batch_length: 0,
                partition_leader_epoch: LeaderEpoch(-1),
                magic: MAGIC,
                crc: 0,
                attributes: Attributes::default().with_compression(compression),
                last_offset_delta: -1,
                base_timestamp: TimestampMs(-1),
                max_timestamp: TimestampMs(-1),
                producer_id: ProducerId(-1),
                producer_epoch: ProducerEpoch(-1),
                base_sequence: -1,
                record_count: 0,
            },
            compression,
            level: None,
            bytes: vec![0; HEADER_BYTES],
            last_offset_delta_least: -1,
        }
    }

    /// The codec's own level; see [`compress`].
    #[must_use]
    pub fn with_level(mut self, level: Option<i32>) -> Self {
        self.level = level;
        self
    }

    /// Room for this many bytes of records at once.
    #[must_use]
    pub fn with_capacity(mut self, records_bytes: usize) -> Self {
        self.bytes.reserve(records_bytes);
        self
    }

    /// Where the batch lies in a log.
    pub fn set_base_offset(&mut self, base_offset: Offset) -> &mut Self {
        self.header.base_offset = base_offset;
        self
    }

    /// Who leads the partition.
    pub fn set_leader_epoch(&mut self, epoch: LeaderEpoch) -> &mut Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// The idempotent producer and the first record's sequence (−1 in a transaction marker).
    pub fn set_producer(
        &mut self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: i32,
    ) -> &mut Self {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// The batch belongs to a transaction.
    pub fn set_transactional(&mut self, is_transactional: bool) -> &mut Self {
        self.header.attributes = self.header.attributes.with_transactional(is_transactional);
        self
    }

    /// The batch holds control records.
    pub fn set_control(&mut self, is_control: bool) -> &mut Self {
        self.header.attributes = self.header.attributes.with_control(is_control);
        self
    }

    /// What compaction knows of the original batch: offsets up to this delta are spoken for even
    /// when their records are gone.
    pub fn set_last_offset_delta(&mut self, last_offset_delta: i32) -> &mut Self {
        self.last_offset_delta_least = last_offset_delta;
        self
    }

    /// All records have the batch's max timestamp, which is this.
    pub fn set_append_time(&mut self, append_time: TimestampMs) -> &mut Self {
        self.header.attributes =
            self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = append_time;
        self
    }

    /// What the records' timestamps count from; settable before the first record. With
    /// `is_delete_horizon` it is the time until which tombstones are kept (KIP-534).
    pub fn set_base_timestamp(
        &mut self,
        base_timestamp: TimestampMs,
        is_delete_horizon: bool,
    ) -> &mut Self {
        assert!(self.header.record_count == 0, "the base timestamp comes before the records");
        self.header.base_timestamp = base_timestamp;
        self.header.attributes = self.header.attributes.with_delete_horizon(is_delete_horizon);
        self
    }

    /// Adds a record with the next offset; returns its offset delta.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`]; the batch is as before.
    pub fn push(&mut self, record: NewRecord<'_>) -> Result<i32, BuildError> {
        let next = self.header.last_offset_delta.checked_add(1).ok_or(BuildError::TooLarge)?;
        self.push_at(next, record)?;
        Ok(next)
    }

    /// Adds a record with an offset of its own, which must be higher than the last.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] and [`BuildError::OffsetDelta`]; the batch is as before.
    pub fn push_at(&mut self, offset_delta: i32, record: NewRecord<'_>) -> Result<(), BuildError> {
        let last = self.header.last_offset_delta;
        if offset_delta <= last {
            return Err(BuildError::OffsetDelta { last, next: offset_delta });
        }
        let is_first = self.header.record_count == 0;
        let base = match self.header.base_timestamp {
            TimestampMs(-1) if is_first => record.timestamp,
            base => base,
        };
        let timestamp_delta = record.timestamp.0.wrapping_sub(base.0);
        let size = body_size(timestamp_delta, offset_delta, &record);
        let length = i32::try_from(size).map_err(|_| BuildError::TooLarge)?;
        if self.bytes.len() + size + 5 > i32::MAX as usize {
            return Err(BuildError::TooLarge);
        }
        self.header.base_timestamp = base;
        self.header.last_offset_delta = offset_delta;
        self.header.record_count += 1;
        if self.header.attributes.timestamp_type() == TimestampType::CreateTime
            && (is_first || record.timestamp > self.header.max_timestamp)
        {
            self.header.max_timestamp = record.timestamp;
        }
        varint::write_i32(&mut self.bytes, length);
        write_body(&mut self.bytes, timestamp_delta, offset_delta, &record);
        Ok(())
    }

    /// Records so far.
    pub const fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// No record so far.
    pub const fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes that the batch would take uncompressed.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The batch.
    ///
    /// # Errors
    /// [`BuildError::Empty`], unless [`Self::set_last_offset_delta`] was called, and
    /// [`BuildError::TooLarge`].
    pub fn build(mut self) -> Result<Bytes, BuildError> {
        if self.is_empty() && self.last_offset_delta_least < 0 {
            return Err(BuildError::Empty);
        }
        self.header.last_offset_delta =
            self.header.last_offset_delta.max(self.last_offset_delta_least);
        if self.compression != Compression::None && !self.is_empty() {
            let compressed = compress(self.compression, self.level, &self.bytes[HEADER_BYTES..]);
            self.bytes.truncate(HEADER_BYTES);
            self.bytes.extend_from_slice(&compressed);
        }
        self.header.batch_length = i32::try_from(self.bytes.len() - LOG_OVERHEAD_BYTES)
            .map_err(|_| BuildError::TooLarge)?;
        self.bytes[..HEADER_BYTES].copy_from_slice(&self.header.encode());
        self.header.crc = computed_crc(&self.bytes);
        self.bytes[..HEADER_BYTES].copy_from_slice(&self.header.encode());
        Ok(Bytes::from(self.bytes))
    }
}

/// Bytes that a record takes in a batch at most, whatever its place: what an accumulator counts
/// with before it adds one.
pub fn record_size_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
    let record = NewRecord { timestamp: TimestampMs(0), key, value, headers };
    5 + body_size(i64::MIN, i32::MAX, &record)
}

fn body_size(timestamp_delta: i64, offset_delta: i32, record: &NewRecord<'_>) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| nullable_size(Some(&header.key)) + nullable_size(header.value.as_deref()))
        .sum();
    1 + varint::size_i64(timestamp_delta)
        + varint::size_i32(offset_delta)
        + nullable_size(record.key)
        + nullable_size(record.value)
        + varint::size_i64(record.headers.len() as i64)
        + headers
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        // As 64 bits, so that what is too large for 32 is counted before it is refused.
        Some(bytes) => varint::size_i64(bytes.len() as i64) + bytes.len(),
    }
}

fn write_body(out: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i32, record: &NewRecord<'_>) {
    out.push(0);
    varint::write_i64(out, timestamp_delta);
    varint::write_i32(out, offset_delta);
    write_nullable(out, record.key);
    write_nullable(out, record.value);
    varint::write_i64(out, record.headers.len() as i64);
    for header in record.headers {
        write_nullable(out, Some(&header.key));
        write_nullable(out, header.value.as_deref());
    }
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write_i32(out, -1),
        Some(bytes) => {
            // The record's size was checked to fit into 31 bits.
            varint::write_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
