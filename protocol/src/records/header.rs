//! The 61 bytes before the records, and the changes that a log may make to them.
//!
//! Base offset and leader epoch lie outside the CRC and are overwritten freely. What lies under
//! the CRC is changed together with it, and without reading the records again: CRC-32C is linear,
//! so the change of the header's part says how the whole changes.

use thiserror::Error;

use super::compression::Compression;
use super::validate::BatchError;
use crate::vocabulary::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// Bytes from the base offset to the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the batch length does not count: the base offset and itself.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The only magic that is read or written.
pub const MAGIC: i8 = 2;

/// The least batch length that Kafka looks at: a header of the oldest format.
pub(super) const LENGTH_MIN_ANY_MAGIC: i32 = 14;
/// Bytes needed to see a batch's magic.
pub(super) const THROUGH_MAGIC_BYTES: usize = 17;
/// Where the CRC'd part begins.
pub(super) const CRC_START: usize = 21;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC_AT: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

const _: () = assert!(RECORD_COUNT + 4 == HEADER_BYTES);

/// What a batch's timestamps mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Each record carries the time that its producer gave it.
    #[default]
    CreateTime,
    /// All records carry the time of the append, which is the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch. Unused bits are kept as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec's number: 0 to 7, of which 5 to 7 are not defined.
    pub const fn compression_code(self) -> u8 {
        (self.0 & Self::CODEC) as u8
    }

    /// The codec; `None` when its number is not defined.
    pub const fn compression(self) -> Option<Compression> {
        Compression::from_code(self.compression_code())
    }

    /// What the timestamps mean.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// The batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// The batch holds control records, which consumers do not hand to applications.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp is the time until which tombstones are kept (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// These attributes with another codec.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self((self.0 & !Self::CODEC) | compression.code() as i16)
    }

    /// These attributes with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(kind, TimestampType::LogAppendTime))
    }

    /// These attributes, transactional or not.
    #[must_use]
    pub const fn with_transactional(self, is_transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, is_transactional)
    }

    /// These attributes, control or not.
    #[must_use]
    pub const fn with_control(self, is_control: bool) -> Self {
        self.with(Self::CONTROL, is_control)
    }

    /// These attributes, with a delete horizon or without.
    #[must_use]
    pub const fn with_delete_horizon(self, has_delete_horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, has_delete_horizon)
    }

    const fn with(self, bit: i16, is_set: bool) -> Self {
        Self(if is_set { self.0 | bit } else { self.0 & !bit })
    }
}

/// A batch's header, parsed. The values are as they came: only magic and length are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (before compaction removed any).
    pub base_offset: Offset,
    /// Bytes after this field. At least 49.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; −1 from a client.
    pub partition_leader_epoch: LeaderEpoch,
    /// Always 2.
    pub magic: i8,
    /// CRC-32C of everything behind this field, as stored.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control.
    pub attributes: Attributes,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from, or the delete horizon.
    pub base_timestamp: TimestampMs,
    /// The latest timestamp of a record, or the append time.
    pub max_timestamp: TimestampMs,
    /// −1 without idempotence.
    pub producer_id: ProducerId,
    /// −1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record; −1 without idempotence.
    pub base_sequence: i32,
    /// Records in the batch; fewer than offsets once compacted.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; what follows need not be whole.
    ///
    /// # Errors
    /// [`BatchError::Incomplete`] with fewer than 61 bytes, [`BatchError::TooSmall`] when the
    /// length cannot hold a header, [`BatchError::OldMagic`] and [`BatchError::UnknownMagic`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let incomplete = |needed| BatchError::Incomplete { found: bytes.len(), needed };
        if bytes.len() < LOG_OVERHEAD_BYTES {
            return Err(incomplete(LOG_OVERHEAD_BYTES));
        }
        let batch_length = i32::from_be_bytes(field(bytes, LENGTH));
        if batch_length < LENGTH_MIN_ANY_MAGIC {
            return Err(BatchError::TooSmall { batch_length });
        }
        if bytes.len() < THROUGH_MAGIC_BYTES {
            return Err(incomplete(THROUGH_MAGIC_BYTES));
        }
        let magic = i8::from_be_bytes(field(bytes, MAGIC_AT));
        match magic {
            MAGIC => {}
            0 | 1 => return Err(BatchError::OldMagic { magic }),
            _ => return Err(BatchError::UnknownMagic { magic }),
        }
        if (batch_length as usize) < HEADER_BYTES - LOG_OVERHEAD_BYTES {
            return Err(BatchError::TooSmall { batch_length });
        }
        if bytes.len() < HEADER_BYTES {
            return Err(incomplete(HEADER_BYTES));
        }
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(field(bytes, BASE_OFFSET))),
            batch_length,
            partition_leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, LEADER_EPOCH))),
            magic,
            crc: u32::from_be_bytes(field(bytes, CRC)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, ATTRIBUTES))),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA)),
            base_timestamp: TimestampMs(i64::from_be_bytes(field(bytes, BASE_TIMESTAMP))),
            max_timestamp: TimestampMs(i64::from_be_bytes(field(bytes, MAX_TIMESTAMP))),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, PRODUCER_ID))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(bytes, PRODUCER_EPOCH))),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(field(bytes, RECORD_COUNT)),
        })
    }

    /// The header's 61 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(BASE_OFFSET, &self.base_offset.0.to_be_bytes());
        put(LENGTH, &self.batch_length.to_be_bytes());
        put(LEADER_EPOCH, &self.partition_leader_epoch.0.to_be_bytes());
        put(MAGIC_AT, &self.magic.to_be_bytes());
        put(CRC, &self.crc.to_be_bytes());
        put(ATTRIBUTES, &self.attributes.0.to_be_bytes());
        put(LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP, &self.base_timestamp.0.to_be_bytes());
        put(MAX_TIMESTAMP, &self.max_timestamp.0.to_be_bytes());
        put(PRODUCER_ID, &self.producer_id.0.to_be_bytes());
        put(PRODUCER_EPOCH, &self.producer_epoch.0.to_be_bytes());
        put(BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(RECORD_COUNT, &self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub const fn size(&self) -> usize {
        // At least 49 by `parse`.
        self.batch_length as usize + LOG_OVERHEAD_BYTES
    }

    /// Bytes of the records, compressed if they are.
    pub const fn records_size(&self) -> usize {
        self.size() - HEADER_BYTES
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// Offset behind the last record.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The codec; `None` when its number is not defined.
    pub const fn compression(&self) -> Option<Compression> {
        self.attributes.compression()
    }

    /// An idempotent or transactional producer wrote the batch.
    pub const fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Sequence of the last record; sequences wrap to 0 after 2³¹−1. −1 without a producer.
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        sequence_plus(self.base_sequence, self.last_offset_delta)
    }

    /// These 61 bytes with another offset and epoch, and the timestamps settled as the log's
    /// configuration says: with `append_time` all records get that time, without it they keep
    /// their own and `max_timestamp` is what validation found. The CRC is brought up to date.
    ///
    /// `self` must have been validated: a wrong CRC would stay wrong.
    pub fn stamped(
        &self,
        base_offset: Offset,
        epoch: LeaderEpoch,
        max_timestamp: TimestampMs,
        append_time: Option<TimestampMs>,
    ) -> [u8; HEADER_BYTES] {
        let mut stamped = *self;
        stamped.base_offset = base_offset;
        stamped.partition_leader_epoch = epoch;
        let kind = match append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        stamped.max_timestamp = append_time.unwrap_or(max_timestamp);
        stamped.attributes = self.attributes.with_timestamp_type(kind);
        let mut bytes = stamped.encode();
        if stamped.max_timestamp != self.max_timestamp || stamped.attributes != self.attributes {
            let crc = crc_after_change(self, &bytes);
            bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
        }
        bytes
    }
}

/// Why a header cannot be changed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes to be changed are not a whole batch of magic 2")]
pub struct PatchError;

/// Overwrites what the leader assigns; the CRC does not cover it.
///
/// # Errors
/// [`PatchError`] when `batch` does not begin with a header.
pub fn patch_base_offset_and_epoch(
    batch: &mut [u8],
    base_offset: Offset,
    epoch: LeaderEpoch,
) -> Result<(), PatchError> {
    let _ = BatchHeader::parse(batch).map_err(|_| PatchError)?;
    batch[BASE_OFFSET..LENGTH].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[LEADER_EPOCH..MAGIC_AT].copy_from_slice(&epoch.0.to_be_bytes());
    Ok(())
}

/// Gives all records of a validated batch the time of its append, and mends the CRC.
///
/// # Errors
/// [`PatchError`] when `batch` does not begin with a header.
pub fn patch_append_time(batch: &mut [u8], append_time: TimestampMs) -> Result<(), PatchError> {
    let header = BatchHeader::parse(batch).map_err(|_| PatchError)?;
    let stamped = header.stamped(
        header.base_offset,
        header.partition_leader_epoch,
        header.max_timestamp,
        Some(append_time),
    );
    batch[..HEADER_BYTES].copy_from_slice(&stamped);
    Ok(())
}

/// Gives a built batch another producer and sequence, and mends the CRC: a producer whose epoch
/// was bumped sends what waits in its queue under the new one.
///
/// # Errors
/// [`PatchError`] when `batch` does not begin with a header.
pub fn patch_producer(
    batch: &mut [u8],
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
) -> Result<(), PatchError> {
    let header = BatchHeader::parse(batch).map_err(|_| PatchError)?;
    let patched = BatchHeader { producer_id, producer_epoch, base_sequence, ..header };
    let mut bytes = patched.encode();
    let crc = crc_after_change(&header, &bytes);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    batch[..HEADER_BYTES].copy_from_slice(&bytes);
    Ok(())
}

/// CRC-32C of everything behind the CRC field of a whole batch.
pub(super) fn computed_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_START..])
}

/// `sequence + delta`, wrapping from 2³¹−1 to 0.
pub(super) const fn sequence_plus(sequence: i32, delta: i32) -> i32 {
    (sequence.wrapping_add(delta)) & i32::MAX
}

/// The CRC of `old`'s batch once its header is `new`.
///
/// For parts A (header) and B (records), crc(AB) = shift(crc(A), |B|) ^ crc(B), and the shift is
/// linear; so crc(A'B) = crc(AB) ^ shift(crc(A) ^ crc(A'), |B|), which is what `combine` computes.
fn crc_after_change(old: &BatchHeader, new: &[u8; HEADER_BYTES]) -> u32 {
    let before = crc32c::crc32c(&old.encode()[CRC_START..]);
    let after = crc32c::crc32c(&new[CRC_START..]);
    if old.records_size() == 0 {
        return old.crc ^ before ^ after;
    }
    crc32c::crc32c_combine(before ^ after, old.crc, old.records_size())
}

#[inline]
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}
