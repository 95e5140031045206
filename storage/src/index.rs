//! The sparse index of one segment: from offsets and timestamps to positions.
//!
//! One entry about every `index.interval.bytes`. It is derived from the batches: kept in memory
//! while the segment grows, written with a CRC when the segment is closed, and built again by
//! hopping from header to header whenever the file is missing or in doubt. An entry only says
//! where to begin to look; what is found there is checked against what was asked for.

use crate::fields::{EnvelopeError, FieldReader, FieldWriter, open_envelope, seal_envelope};
use crate::segment_header::HEADER_PAGE_BYTES;

const MAGIC: [u8; 8] = *b"VRVINDEX";
const VERSION: u32 = 1;
/// Bytes of one entry, in memory and on disk.
pub(crate) const ENTRY_BYTES: usize = 16;
/// The interval of an index that is built again; Kafka's default.
pub(crate) const REBUILD_INTERVAL_BYTES: u32 = 4096;

/// A batch that the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// The batch's base offset less the segment's.
    pub(crate) relative_offset: u32,
    /// Where the batch begins in the file.
    pub(crate) position: u32,
    /// The latest timestamp of all batches of the segment before this one.
    pub(crate) max_timestamp_before: i64,
}

/// Entries in the order of their positions.
///
/// Invariant: positions and offsets strictly increase, timestamps do not decrease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SegmentIndex {
    entries: Vec<IndexEntry>,
    bytes_since_entry: u32,
    max_timestamp: i64,
}

impl SegmentIndex {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), bytes_since_entry: 0, max_timestamp: i64::MIN }
    }

    /// Notes a batch that follows all noted before.
    pub(crate) fn push(&mut self, batch: IndexedBatch, interval_bytes: u32) {
        if self.entries.is_empty() || self.bytes_since_entry >= interval_bytes {
            self.entries.push(IndexEntry {
                relative_offset: batch.relative_offset,
                position: batch.position,
                max_timestamp_before: self.max_timestamp,
            });
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(batch.len);
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
    }

    /// Puts the index of all earlier batches before this one.
    pub(crate) fn prepend(&mut self, mut earlier: Self) {
        let before = earlier.max_timestamp;
        earlier.entries.extend(self.entries.iter().map(|entry| IndexEntry {
            max_timestamp_before: entry.max_timestamp_before.max(before),
            ..*entry
        }));
        self.entries = earlier.entries;
        self.max_timestamp = self.max_timestamp.max(before);
    }

    /// Where to begin to look for the batch that holds an offset.
    pub(crate) fn position_for_offset(&self, relative_offset: u32) -> u32 {
        let after = self.entries.partition_point(|entry| entry.relative_offset <= relative_offset);
        after.checked_sub(1).map_or(HEADER_PAGE_BYTES, |index| self.entries[index].position)
    }

    /// The last indexed batch that begins at or before an offset.
    pub(crate) fn entry_for_offset(&self, relative_offset: u32) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.relative_offset <= relative_offset);
        after.checked_sub(1).map(|index| self.entries[index])
    }

    /// The first indexed batch that begins at or behind a position.
    pub(crate) fn entry_from(&self, position: u64) -> Option<IndexEntry> {
        let before = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        self.entries.get(before).copied()
    }

    /// Where to begin to look for the first batch with a timestamp of at least `timestamp`.
    pub(crate) fn position_for_timestamp(&self, timestamp: i64) -> u32 {
        let after = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
        after.checked_sub(1).map_or(HEADER_PAGE_BYTES, |index| self.entries[index].position)
    }

    /// Bytes that the entries take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }

    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    pub(crate) fn encode(&self, end_position: u64) -> Vec<u8> {
        let mut body = FieldWriter::with_capacity(20 + self.size_bytes());
        body.u64(end_position).i64(self.max_timestamp).count(self.entries.len());
        for entry in &self.entries {
            body.u32(entry.relative_offset).u32(entry.position).i64(entry.max_timestamp_before);
        }
        seal_envelope(MAGIC, VERSION, &body.bytes)
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The end of the segment that an index file speaks of.
    pub(crate) fn end_position(file: &[u8]) -> Result<u64, EnvelopeError> {
        Ok(FieldReader::new(open_envelope(MAGIC, VERSION, file)?).u64()?)
    }

    /// Reads what [`SegmentIndex::encode`] wrote for a segment that ends at `end_position`.
    pub(crate) fn decode(file: &[u8], end_position: u64) -> Result<Self, EnvelopeError> {
        let mut reader = FieldReader::new(open_envelope(MAGIC, VERSION, file)?);
        if reader.u64()? != end_position {
            return Err(reader.error().into());
        }
        let mut index = Self::new();
        index.max_timestamp = reader.i64()?;
        let count = reader.count(ENTRY_BYTES)?;
        index.entries.reserve_exact(count);
        for _ in 0..count {
            let entry = IndexEntry {
                relative_offset: reader.u32()?,
                position: reader.u32()?,
                max_timestamp_before: reader.i64()?,
            };
            let follows = index.entries.last().is_none_or(|last| {
                last.position < entry.position && last.relative_offset < entry.relative_offset
            });
            if !follows || u64::from(entry.position) >= end_position {
                return Err(reader.error().into());
            }
            index.entries.push(entry);
        }
        reader.end()?;
        Ok(index)
    }
}

/// What an index wants to know of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexedBatch {
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
    pub(crate) len: u32,
    pub(crate) max_timestamp: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentIndex {
        let mut index = SegmentIndex::new();
        for number in 0..10_u32 {
            let batch = IndexedBatch {
                relative_offset: number * 5,
                position: HEADER_PAGE_BYTES + number * 100,
                len: 100,
                max_timestamp: i64::from(number) * 10,
            };
            index.push(batch, 200);
        }
        index
    }

    #[test]
    fn floors_by_offset_and_timestamp() {
        let index = sample();
        assert_eq!(index.position_for_offset(0), 4096);
        assert_eq!(index.position_for_offset(9), 4096);
        assert_eq!(index.position_for_offset(10), 4296);
        assert_eq!(index.position_for_offset(1000), 4896);
        // The batch at 4296 is the first with 20; everything before has at most 10.
        assert_eq!(index.position_for_timestamp(20), 4296);
        assert_eq!(index.position_for_timestamp(10), 4096);
        assert_eq!(index.entry_for_offset(10).unwrap().position, 4296);
        assert_eq!(SegmentIndex::new().entry_for_offset(10), None);
        assert_eq!(index.entry_from(4097).unwrap().relative_offset, 10);
        assert_eq!(index.entry_from(4296).unwrap().relative_offset, 10);
        assert_eq!(index.entry_from(5000), None);
    }

    #[test]
    fn survives_the_disk_and_refuses_damage() {
        let index = sample();
        let mut file = index.encode(5096);
        let decoded = SegmentIndex::decode(&file, 5096).unwrap();
        assert_eq!(decoded.entries, index.entries);
        assert!(SegmentIndex::decode(&file, 6000).is_err());
        file[40] ^= 1;
        assert!(SegmentIndex::decode(&file, 5096).is_err());
    }
}
