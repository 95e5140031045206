//! A batch as a view over its bytes, and a row of batches as a view over theirs.

use bytes::Bytes;

use super::codec::{DecompressLimits, decompress};
use super::compression::Compression;
use super::header::{BatchHeader, HEADER_BYTES, TimestampType, computed_crc};
use super::record::Record;
use super::skim::RecordError;
use super::validate::BatchError;
use crate::vocabulary::{Offset, TimestampMs};

/// One whole batch. Cheap to clone; nothing but the header has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
    header: BatchHeader,
}

impl RecordBatch {
    /// The batch at the start of `bytes`; what follows it is not kept.
    ///
    /// # Errors
    /// Those of [`BatchHeader::parse`], and [`BatchError::Incomplete`] when the batch's length
    /// reaches over the end.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        if bytes.len() < header.size() {
            return Err(BatchError::Incomplete { found: bytes.len(), needed: header.size() });
        }
        Ok(Self { bytes: bytes.slice(..header.size()), header })
    }

    /// The header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as it lies in a log or on the wire.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records' bytes, compressed if they are.
    pub fn records_bytes(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// Compares the CRC with the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = computed_crc(&self.bytes);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc { stored: self.header.crc, computed })
    }

    /// The codec.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`].
    pub fn compression(&self) -> Result<Compression, BatchError> {
        self.header.compression().ok_or(BatchError::UnknownCompression {
            code: self.header.attributes.compression_code(),
        })
    }

    /// Decompresses the records, if need be, and walks over them.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`] and [`BatchError::Decompress`].
    pub fn records(&self, limits: &DecompressLimits) -> Result<Records, BatchError> {
        let compression = self.compression()?;
        let packed = self.records_bytes();
        // A batch that compaction has emptied has no compressed stream either.
        let records = match self.header.record_count {
            0 if packed.is_empty() => packed,
            _ => decompress(compression, &packed, limits)?,
        };
        Ok(Records { records, position: 0, index: 0, count: self.header.record_count })
    }

    /// The offset of one of this batch's records.
    pub fn offset_of(&self, record: &Record) -> Offset {
        Offset(self.header.base_offset.0.wrapping_add(i64::from(record.offset_delta)))
    }

    /// The timestamp of one of this batch's records.
    pub fn timestamp_of(&self, record: &Record) -> TimestampMs {
        match self.header.attributes.timestamp_type() {
            TimestampType::CreateTime => {
                TimestampMs(self.header.base_timestamp.0.wrapping_add(record.timestamp_delta))
            }
            TimestampType::LogAppendTime => self.header.max_timestamp,
        }
    }
}

/// Walks over a batch's records; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    records: Bytes,
    position: usize,
    index: i32,
    count: i32,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let left = self.records.len() - self.position;
            self.position = self.records.len();
            // Bytes behind the last record make a liar of the count, once.
            return (left > 0).then_some(Err(BatchError::BytesBehindRecords { left }));
        }
        let index = self.index;
        self.index += 1;
        Some(Record::read(&self.records, &mut self.position).map_err(|source| {
            self.index = self.count;
            let is_at_end = self.position == self.records.len();
            self.position = self.records.len();
            if is_at_end && source == RecordError::EndsEarly {
                return BatchError::RecordCount { stated: self.count, found: index };
            }
            BatchError::Record { index, source }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes 7 bytes at least, whatever the count says.
        let by_count = usize::try_from(self.count - self.index).unwrap_or(0);
        (0, Some(by_count.min((self.records.len() - self.position) / 7) + 1))
    }
}

/// Walks over the batches of a fetch or of a stretch of a log. What is cut off at the end is left
/// out, as Kafka's clients do: a broker may cut the last batch.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Over these bytes.
    pub const fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that have not been walked over.
    pub const fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match RecordBatch::parse(&self.rest) {
            Ok(batch) => {
                self.rest = self.rest.slice(batch.header.size()..);
                Some(Ok(batch))
            }
            Err(BatchError::Incomplete { .. }) => None,
            Err(error) => {
                self.rest = Bytes::new();
                Some(Err(error))
            }
        }
    }
}
