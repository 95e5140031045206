//! The sparse index of one segment: from offsets and timestamps to positions.
//!
//! One entry about every `index.interval.bytes`. It is derived from the batches: kept in memory
//! while the segment grows, written with a CRC when the segment is closed, and built again by
//! hopping from header to header whenever the file is missing or in doubt. An entry only says
//! where to begin to look; what is found there is checked against what was asked for.
//!
//! It also says what no batch says of itself: each entry has the checksum of all headers before it,
//! as they were when they were appended. Between two of them ([`Mark`]) the headers of the file are held
//! against it by whoever reads there.

use crate::fields::{EnvelopeError, FieldReader, FieldWriter, open_envelope, seal_envelope};
use crate::segment_header::HEADER_PAGE_BYTES;

const MAGIC: [u8; 8] = *b"VRVINDEX";
/// Version 1 had no checksums of headers; such an index is built again.
const VERSION: u32 = 2;
/// Bytes of one entry on the disk.
pub(crate) const ENTRY_BYTES: usize = 20;
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
    /// See [`crate::segment_header::Seal::headers_crc`]; of all batches before this one.
    pub(crate) headers_crc_before: u32,
}

/// A place in a segment up to which the checksum of its headers is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: u64,
    /// Of the batch that begins there, less the segment's base; none at the end.
    pub(crate) relative_offset: Option<u32>,
    /// See [`crate::segment_header::Seal::headers_crc`]; of all batches before.
    pub(crate) headers_crc: u32,
}

/// Entries in the order of their positions.
///
/// Invariant: positions and offsets strictly increase, timestamps do not decrease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    entries: Vec<IndexEntry>,
    bytes_since_entry: u32,
    max_timestamp: i64,
    /// Where the last batch ends.
    end_position: u64,
    /// Of all headers before that.
    headers_crc: u32,
}

impl SegmentIndex {
    /// Of the batches that begin at or behind a position, up to which the headers have that checksum.
    pub(crate) fn beginning_at(position: u64, headers_crc: u32) -> Self {
        Self {
            entries: Vec::new(),
            bytes_since_entry: 0,
            max_timestamp: i64::MIN,
            end_position: position,
            headers_crc,
        }
    }

    /// Notes a batch that follows all noted before.
    pub(crate) fn push(&mut self, batch: IndexedBatch, interval_bytes: u32) {
        if self.entries.is_empty() || self.bytes_since_entry >= interval_bytes {
            self.entries.push(IndexEntry {
                relative_offset: batch.relative_offset,
                position: batch.position,
                max_timestamp_before: self.max_timestamp,
                headers_crc_before: self.headers_crc,
            });
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(batch.len);
        self.end_position = u64::from(batch.position) + u64::from(batch.len);
        self.headers_crc = batch.headers_crc;
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

    /// The checksum of all headers before the first batch that is noted.
    pub(crate) fn headers_crc_before(&self) -> u32 {
        self.entries.first().map_or(self.headers_crc, |first| first.headers_crc_before)
    }

    /// Where the last batch ends, and the checksum of all headers before that.
    pub(crate) fn end(&self) -> (u64, u32) {
        (self.end_position, self.headers_crc)
    }

    /// From the last mark at or before a position to the first at or behind another, but not past
    /// the end: at least one.
    pub(crate) fn marks(&self, from: u64, to: u64) -> Vec<Mark> {
        let before = self.entries.partition_point(|entry| u64::from(entry.position) <= from);
        let behind = self.entries.partition_point(|entry| u64::from(entry.position) < to);
        let first = u64::from(HEADER_PAGE_BYTES);
        let start = Mark { position: first, relative_offset: Some(0), headers_crc: 0 };
        let end = Mark {
            position: self.end_position,
            relative_offset: None,
            headers_crc: self.headers_crc,
        };
        let last = (behind + 1).clamp(before, self.entries.len());
        let known = &self.entries[before.saturating_sub(1)..last];
        let is_start =
            before == 0 && known.first().is_none_or(|entry| entry.position > HEADER_PAGE_BYTES);
        let mut marks = Vec::with_capacity(known.len() + 2);
        marks.extend(is_start.then_some(start));
        marks.extend(known.iter().map(|entry| Mark {
            position: u64::from(entry.position),
            relative_offset: Some(entry.relative_offset),
            headers_crc: entry.headers_crc_before,
        }));
        let is_open =
            marks.last().is_some_and(|last| last.position < to && last.position < end.position);
        marks.extend(is_open.then_some(end));
        marks
    }

    /// Forgets what lies at or behind a position, where the headers before have that checksum. Nothing
    /// is noted any more.
    pub(crate) fn cut(&mut self, end_position: u64, headers_crc: u32, max_timestamp: i64) {
        self.entries.retain(|entry| u64::from(entry.position) < end_position);
        self.max_timestamp = max_timestamp;
        self.end_position = end_position;
        self.headers_crc = headers_crc;
    }

    /// Forgets entries behind a position, of batches that are there all the same.
    pub(crate) fn forget_behind(&mut self, position: u64) {
        self.entries.retain(|entry| u64::from(entry.position) <= position);
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

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = FieldWriter::with_capacity(24 + self.size_bytes());
        body.u64(self.end_position).i64(self.max_timestamp).u32(self.headers_crc);
        body.count(self.entries.len());
        for entry in &self.entries {
            body.u32(entry.relative_offset).u32(entry.position).i64(entry.max_timestamp_before);
            body.u32(entry.headers_crc_before);
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
        let mut index = Self::beginning_at(end_position, 0);
        index.max_timestamp = reader.i64()?;
        index.headers_crc = reader.u32()?;
        let count = reader.count(ENTRY_BYTES)?;
        index.entries.reserve_exact(count);
        for _ in 0..count {
            let entry = IndexEntry {
                relative_offset: reader.u32()?,
                position: reader.u32()?,
                max_timestamp_before: reader.i64()?,
                headers_crc_before: reader.u32()?,
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
    /// Of the segment's headers up to this one, included.
    pub(crate) headers_crc: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentIndex {
        let mut index = SegmentIndex::beginning_at(u64::from(HEADER_PAGE_BYTES), 0);
        for number in 0..10_u32 {
            let batch = IndexedBatch {
                relative_offset: number * 5,
                position: HEADER_PAGE_BYTES + number * 100,
                len: 100,
                max_timestamp: i64::from(number) * 10,
                headers_crc: number + 1,
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
        assert_eq!(
            SegmentIndex::beginning_at(u64::from(HEADER_PAGE_BYTES), 0).entry_for_offset(10),
            None
        );
    }

    #[test]
    fn marks_lie_around_what_is_asked_for() {
        let places = |index: &SegmentIndex, from, to| -> Vec<(u64, u32)> {
            index.marks(from, to).iter().map(|mark| (mark.position, mark.headers_crc)).collect()
        };
        let index = sample();
        assert_eq!(places(&index, 4096, 4096), [(4096, 0)]);
        assert_eq!(places(&index, 4100, 4200), [(4096, 0), (4296, 2)]);
        assert_eq!(places(&index, 4296, 4297), [(4296, 2), (4496, 4)]);
        assert_eq!(places(&index, 4890, u64::MAX), [(4696, 6), (4896, 8), (5096, 10)]);
        assert_eq!(places(&index, 4896, 5096), [(4896, 8), (5096, 10)]);
        let mut cut = index.clone();
        cut.cut(4496, 4, 30);
        assert_eq!(places(&cut, 4300, 9000), [(4296, 2), (4496, 4)]);
        // What came before this process is not in the index yet.
        let mut late = SegmentIndex::beginning_at(4296, 2);
        assert_eq!(places(&late, 4096, 4200), [(4096, 0), (4296, 2)]);
        late.push(
            IndexedBatch {
                relative_offset: 10,
                position: 4296,
                len: 100,
                max_timestamp: 0,
                headers_crc: 3,
            },
            200,
        );
        assert_eq!(places(&late, 4096, 4200), [(4096, 0), (4296, 2)]);
        assert_eq!(places(&late, 4096, 4396), [(4096, 0), (4296, 2), (4396, 3)]);
        let mut earlier = index.clone();
        earlier.cut(4296, 2, 10);
        late.prepend(earlier);
        assert_eq!(late.entries()[..1], index.entries()[..1]);
        assert_eq!(places(&late, 4100, 4396), [(4096, 0), (4296, 2), (4396, 3)]);
    }

    #[test]
    fn survives_the_disk_and_refuses_damage() {
        let index = sample();
        let mut file = index.encode();
        let decoded = SegmentIndex::decode(&file, 5096).unwrap();
        assert_eq!(decoded.entries, index.entries);
        assert_eq!(decoded.headers_crc, 10);
        assert!(SegmentIndex::decode(&file, 6000).is_err());
        file[40] ^= 1;
        assert!(SegmentIndex::decode(&file, 5096).is_err());
    }
}
