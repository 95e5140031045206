//! What a batch must be before a log takes it.
//!
//! One pass over the bytes for the CRC and one over the records' varints, without allocation for
//! a plain batch; a compressed one is decompressed through a window of one chunk (or one record,
//! if that is larger) and thrown away.
//!
//! Where Kafka is more lenient, so are we, with two exceptions that keep consumers safe: offsets
//! of plain records must count from 0 as those of compressed ones must, and a payload that is not
//! what its codec says is an error of its own instead of an unknown server error.

use bytes::Bytes;
use thiserror::Error;

use super::batch::RecordBatch;
use super::codec::{DecompressError, DecompressLimits, Decompressor, compress, decompress};
use super::compression::Compression;
use super::header::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, computed_crc};
use super::skim::{RecordError, RecordFacts, skim_common_record, skim_length, skim_record};
use crate::vocabulary::{LeaderEpoch, Offset, TimestampMs};

/// Who made a batch, which decides what it may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BatchOrigin {
    /// A client's produce request: base offset 0, offsets without gaps, no control records.
    #[default]
    Client,
    /// A coordinator of this broker: like a client's, but control records are its business.
    Coordinator,
    /// The leader's log: any base offset; compaction may have left gaps, or no record at all.
    Leader,
}

/// How [`validate_batch`] judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidationLimits {
    /// How far compressed records may grow.
    pub decompress: DecompressLimits,
    /// Who made the batch.
    pub origin: BatchOrigin,
}

/// What is wrong with a batch. Each variant is a fact; the broker's table turns it into a code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// There is no whole batch.
    #[error("a batch needs {needed} bytes, {found} are there")]
    Incomplete {
        /// Bytes that are there.
        found: usize,
        /// Bytes needed, as far as can be told.
        needed: usize,
    },
    /// The batch's length cannot hold a header.
    #[error("the batch length {batch_length} cannot hold a batch header")]
    TooSmall {
        /// The length field.
        batch_length: i32,
    },
    /// A message set of the formats before Kafka 0.11.
    #[error("the batch has the old magic {magic}, 2 is needed")]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// No format has this magic.
    #[error("the batch has the unknown magic {magic}, 2 is needed")]
    UnknownMagic {
        /// What was found.
        magic: i8,
    },
    /// The bytes are not those that were sent.
    #[error("the batch's CRC-32C is {computed:08x}, its header says {stored:08x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A second batch follows; a produce request carries one for a partition.
    #[error("a second batch follows the first, only one is allowed")]
    SecondBatch,
    /// A client's batch must leave the offset to the leader.
    #[error("the base offset is {0}, a client's must be 0")]
    BaseOffset(Offset),
    /// Only coordinators write control records.
    #[error("clients are not allowed to write control records")]
    ControlBatch,
    /// A producer id without a sequence.
    #[error("the batch has a producer id but the base sequence {0}")]
    BaseSequence(i32),
    /// The count is not what the offsets say, or is not positive.
    #[error(
        "the batch says it has {record_count} records and a last offset delta of {last_offset_delta}"
    )]
    Count {
        /// The count field.
        record_count: i32,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// Fewer records than the header says.
    #[error("the batch says it has {stated} records, {found} are there")]
    RecordCount {
        /// The count field.
        stated: i32,
        /// Records found.
        found: i32,
    },
    /// More bytes than the stated number of records takes.
    #[error("{left} bytes are left behind the last record")]
    BytesBehindRecords {
        /// At least this many.
        left: usize,
    },
    /// A record's offset is out of line.
    #[error("record {index} has the offset delta {found}")]
    OffsetDelta {
        /// Which record, from 0.
        index: i32,
        /// Its offset delta.
        found: i32,
    },
    /// A record's bytes are wrong.
    #[error("record {index}: {source}")]
    Record {
        /// Which record, from 0.
        index: i32,
        /// What is wrong.
        source: RecordError,
    },
    /// Kafka defines no codec with this number.
    #[error("unknown compression {code}")]
    UnknownCompression {
        /// 5 to 7.
        code: u8,
    },
    /// The batch would take 2 GiB or more.
    #[error("the batch would take 2 GiB or more")]
    TooLarge,
    /// The records cannot be decompressed, or not within the limits.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// A batch that has passed [`validate_batch`]: what a log may append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// The batch, exactly.
    pub bytes: Bytes,
    /// Its header, as it came.
    pub header: BatchHeader,
    /// The earliest timestamp of a record (the header's max when there is no record).
    pub min_timestamp: TimestampMs,
    /// The latest timestamp of a record, whatever the header says.
    pub max_timestamp: TimestampMs,
    /// Offset of the first record with that timestamp, counted from the header's base offset.
    pub offset_of_max_timestamp: Offset,
    /// A record has no key, which a compacted topic refuses.
    pub has_keyless: bool,
}

impl ValidatedBatch {
    /// The view for walking over the records.
    pub fn batch(&self) -> RecordBatch {
        RecordBatch::parse(&self.bytes).expect("a validated batch is whole")
    }

    /// The codec.
    pub fn compression(&self) -> Compression {
        self.header.compression().expect("validation refuses unknown codecs")
    }

    /// The header to be written before [`Self::records_bytes`] at this place of a log; see
    /// [`BatchHeader::stamped`].
    pub fn stamped_header(
        &self,
        base_offset: Offset,
        epoch: LeaderEpoch,
        append_time: Option<TimestampMs>,
    ) -> [u8; HEADER_BYTES] {
        self.header.stamped(base_offset, epoch, self.max_timestamp, append_time)
    }

    /// What follows the header.
    pub fn records_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// This batch with another codec, for a topic whose `compression.type` is not `producer`. The
    /// records stay as they are, byte for byte.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] when the limits are less than those of the validation, and
    /// [`BatchError::TooLarge`] when the result is.
    pub fn recompressed(
        &self,
        compression: Compression,
        level: Option<i32>,
        limits: &DecompressLimits,
    ) -> Result<Self, BatchError> {
        let plain = decompress(self.compression(), &self.records_bytes(), limits)?;
        let records = match compression {
            Compression::None => plain,
            _ => compress(compression, level, &plain).into(),
        };
        let size = HEADER_BYTES - LOG_OVERHEAD_BYTES + records.len();
        let mut header = BatchHeader {
            batch_length: i32::try_from(size).map_err(|_| BatchError::TooLarge)?,
            attributes: self.header.attributes.with_compression(compression),
            ..self.header
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + records.len());
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&records);
        header.crc = computed_crc(&bytes);
        bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        Ok(Self { bytes: bytes.into(), header, ..self.clone() })
    }

    /// The indexes of records without a key, for the `record_errors` of a produce response.
    pub fn keyless_indexes(&self, limits: &DecompressLimits) -> Vec<i32> {
        self.indexes_where(limits, |_, is_keyless| is_keyless)
    }

    /// The indexes of records whose timestamp lies outside `least..=most`, for the
    /// `record_errors` of a produce response. −1 (no timestamp) is never outside.
    pub fn indexes_outside(
        &self,
        limits: &DecompressLimits,
        least: TimestampMs,
        most: TimestampMs,
    ) -> Vec<i32> {
        self.indexes_where(limits, |timestamp, _| {
            timestamp.0 != -1 && (timestamp < least || timestamp > most)
        })
    }

    fn indexes_where(
        &self,
        limits: &DecompressLimits,
        is_wanted: impl Fn(TimestampMs, bool) -> bool,
    ) -> Vec<i32> {
        let batch = self.batch();
        let Ok(records) = batch.records(limits) else { return Vec::new() };
        let base = self.header.base_timestamp.0;
        (0..)
            .zip(records.map_while(Result::ok))
            .filter(|(_, record)| {
                let timestamp = TimestampMs(base.wrapping_add(record.timestamp_delta));
                is_wanted(timestamp, record.key.is_none())
            })
            .map(|(index, _)| index)
            .collect()
    }
}

/// Takes `bytes` for one batch of magic 2 and checks everything that can be checked without
/// knowing the log: length, CRC, count, offsets, record structure, and for compressed records that
/// they decompress within the limits.
///
/// An unfinished batch behind the first is cut off, as Kafka does; a whole one is an error.
///
/// # Errors
/// [`BatchError`]: the first thing that was found, in the order of the variants.
pub fn validate_batch(
    bytes: Bytes,
    limits: &ValidationLimits,
) -> Result<ValidatedBatch, BatchError> {
    let header = BatchHeader::parse(&bytes)?;
    if bytes.len() < header.size() {
        return Err(BatchError::Incomplete { found: bytes.len(), needed: header.size() });
    }
    if bytes.len() > header.size() {
        check_tail(&bytes[header.size()..])?;
    }
    let bytes = bytes.slice(..header.size());
    let computed = computed_crc(&bytes);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    check_header(&header, limits.origin)?;
    let code = header.attributes.compression_code();
    let compression =
        Compression::from_code(code).ok_or(BatchError::UnknownCompression { code })?;
    let mut seen = Seen::new(&header, limits.origin);
    let records = &bytes[HEADER_BYTES..];
    match compression {
        Compression::None => check_plain(records, &mut seen)?,
        // A batch that compaction has emptied has no compressed stream either.
        _ if records.is_empty() && header.record_count == 0 => {}
        _ => check_compressed(compression, records, &mut seen, &limits.decompress)?,
    }
    let Seen { min_timestamp, max_timestamp, offset_delta_of_max, has_keyless, .. } = seen;
    let is_empty = header.record_count == 0;
    let timestamp = |found| if is_empty { header.max_timestamp } else { TimestampMs(found) };
    Ok(ValidatedBatch {
        min_timestamp: timestamp(min_timestamp),
        max_timestamp: timestamp(max_timestamp),
        offset_of_max_timestamp: Offset(
            header.base_offset.0.saturating_add(i64::from(offset_delta_of_max)),
        ),
        has_keyless,
        bytes,
        header,
    })
}

/// Judges what follows the first batch: nothing, or something that is not whole, may.
fn check_tail(tail: &[u8]) -> Result<(), BatchError> {
    match BatchHeader::parse(tail) {
        Ok(second) if second.size() <= tail.len() => Err(BatchError::SecondBatch),
        Ok(_) | Err(BatchError::Incomplete { .. }) => Ok(()),
        Err(BatchError::OldMagic { .. }) => Err(BatchError::SecondBatch),
        Err(error) => Err(error),
    }
}

fn check_header(header: &BatchHeader, origin: BatchOrigin) -> Result<(), BatchError> {
    let BatchHeader { record_count, last_offset_delta, .. } = *header;
    let count_error = || BatchError::Count { record_count, last_offset_delta };
    if origin == BatchOrigin::Leader {
        let fits = record_count >= 0
            && last_offset_delta >= 0
            && i64::from(record_count) <= i64::from(last_offset_delta) + 1;
        return if fits { Ok(()) } else { Err(count_error()) };
    }
    if origin == BatchOrigin::Client {
        if header.base_offset.0 != 0 {
            return Err(BatchError::BaseOffset(header.base_offset));
        }
        if header.attributes.is_control() {
            return Err(BatchError::ControlBatch);
        }
    }
    if record_count <= 0 || i64::from(last_offset_delta) + 1 != i64::from(record_count) {
        return Err(count_error());
    }
    // Transaction markers carry a producer but no sequence.
    if header.has_producer() && header.base_sequence < 0 && !header.attributes.is_control() {
        return Err(BatchError::BaseSequence(header.base_sequence));
    }
    Ok(())
}

/// What the pass over the records gathers.
struct Seen {
    origin: BatchOrigin,
    record_count: i32,
    last_offset_delta: i32,
    base_timestamp: i64,
    min_timestamp: i64,
    max_timestamp: i64,
    offset_delta_of_max: i32,
    previous_offset_delta: i32,
    has_keyless: bool,
}

impl Seen {
    fn new(header: &BatchHeader, origin: BatchOrigin) -> Self {
        Self {
            origin,
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            base_timestamp: header.base_timestamp.0,
            min_timestamp: i64::MAX,
            max_timestamp: i64::MIN,
            offset_delta_of_max: 0,
            previous_offset_delta: -1,
            has_keyless: false,
        }
    }

    #[inline(always)]
    fn on_record(&mut self, index: i32, record: RecordFacts) -> Result<(), BatchError> {
        let found = record.offset_delta;
        // Without gaps for producers; rising and within the batch for what compaction left.
        let is_in_line = found == index
            || (self.origin == BatchOrigin::Leader
                && found > self.previous_offset_delta
                && found <= self.last_offset_delta);
        if !is_in_line {
            return Err(BatchError::OffsetDelta { index, found });
        }
        self.previous_offset_delta = found;
        let timestamp = self.base_timestamp.wrapping_add(record.timestamp_delta);
        self.min_timestamp = self.min_timestamp.min(timestamp);
        if timestamp > self.max_timestamp || index == 0 {
            self.max_timestamp = timestamp;
            self.offset_delta_of_max = found;
        }
        self.has_keyless |= !record.has_key;
        Ok(())
    }
}

fn check_plain(records: &[u8], seen: &mut Seen) -> Result<(), BatchError> {
    let mut position = 0;
    for index in 0..seen.record_count {
        if position == records.len() {
            return Err(BatchError::RecordCount { stated: seen.record_count, found: index });
        }
        let record = skim(records, position, index)?;
        seen.on_record(index, record)?;
        position = record.end;
    }
    if position != records.len() {
        return Err(BatchError::BytesBehindRecords { left: records.len() - position });
    }
    Ok(())
}

fn check_compressed(
    compression: Compression,
    records: &[u8],
    seen: &mut Seen,
    limits: &DecompressLimits,
) -> Result<(), BatchError> {
    let mut stream = Decompressor::new(compression, records, limits)?;
    let mut window = Vec::new();
    let mut position = 0;
    for index in 0..seen.record_count {
        // Bring in chunks until the whole record is in the window.
        loop {
            let length = skim_length(&window, position)
                .map_err(|source| BatchError::Record { index, source })?;
            if length.is_some_and(|(_, end)| end <= window.len()) {
                break;
            }
            window.drain(..position);
            position = 0;
            if !stream.read_chunk(&mut window)? {
                if window.is_empty() {
                    return Err(BatchError::RecordCount {
                        stated: seen.record_count,
                        found: index,
                    });
                }
                return Err(BatchError::Record { index, source: RecordError::EndsEarly });
            }
        }
        let record = skim(&window, position, index)?;
        seen.on_record(index, record)?;
        position = record.end;
    }
    // The end of the stream is where codecs notice that they were cut off.
    loop {
        if window.len() > position {
            return Err(BatchError::BytesBehindRecords { left: window.len() - position });
        }
        if !stream.read_chunk(&mut window)? {
            return Ok(());
        }
    }
}

#[inline(always)]
fn skim(records: &[u8], position: usize, index: i32) -> Result<RecordFacts, BatchError> {
    match skim_common_record(records, position) {
        Some(record) => Ok(record),
        None => skim_uncommon(records, position, index),
    }
}

#[cold]
fn skim_uncommon(records: &[u8], position: usize, index: i32) -> Result<RecordFacts, BatchError> {
    match skim_record(records, position) {
        Ok(span) => Ok(span.facts()),
        Err(source) => Err(BatchError::Record { index, source }),
    }
}
