//! The first 4096 bytes of a segment: whose file this is, and, once closed, where it ends.
//!
//! Sector 0 (bytes 0–511) is the identity, written once before the first batch. Sector 1 (bytes
//! 512–1023) is the seal, written once when the segment is closed. Each has its own CRC and fits
//! into one sector, so that a power cut leaves it whole or absent. No slice is ever formed over
//! this page.

use varve_protocol::vocabulary::TopicIdPartition;

use crate::fields::{FieldReader, FieldWriter};
use crate::scan::{ScannedBatch, headers_crc_append};

/// Bytes before the first batch.
pub(crate) const HEADER_PAGE_BYTES: u32 = 4096;
/// Where the seal lies.
pub(crate) const SEAL_POSITION: u64 = 512;

const HEADER_MAGIC: [u8; 8] = *b"VRVSEGMT";
const SEAL_MAGIC: [u8; 8] = *b"VRVSEAL\0";
const VERSION: u32 = 1;
const HEADER_CRC_AT: usize = 8 + 4 + 4 + 16 + 16 + 4 + 8 + 4 + 4 + 8 + 8;
const SEAL_CRC_AT: usize = 8 + 4 + 4 + 8 + 8 + 8 + 8 + 4;
/// Bytes of the identity and of the seal, padding included.
pub(crate) const SECTOR: usize = 512;

const FLAG_RESETS: u32 = 1;
const FLAG_ROLLED: u32 = 2;

/// What a segment file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The cluster, or zeros.
    pub(crate) cluster_id: [u8; 16],
    pub(crate) tip: TopicIdPartition,
    /// Offset of the first record that may lie here.
    pub(crate) base_offset: i64,
    /// How often the log had been truncated when the segment was made. A segment makes everything
    /// of a lower generation at or past its base offset void.
    pub(crate) generation: u32,
    /// How often compaction has rewritten the segment.
    pub(crate) rewrite: u32,
    /// For a segment that compaction made of several: segments with base offsets up to here
    /// (exclusive) are contained in it. Else the base offset.
    pub(crate) covers_end: i64,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// The segment makes all lower generations void, whatever their offsets.
    pub(crate) resets: bool,
    /// Another segment of the log comes before, unless the state file says that the log begins here or
    /// later.
    pub(crate) is_rolled: bool,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SECTOR] {
        let mut writer = FieldWriter::with_capacity(SECTOR);
        writer.raw(&HEADER_MAGIC).u32(VERSION);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        writer.u32(flag(self.resets, FLAG_RESETS) | flag(self.is_rolled, FLAG_ROLLED));
        writer.raw(&self.cluster_id).partition(&self.tip).i64(self.base_offset);
        writer.u32(self.generation).u32(self.rewrite).i64(self.covers_end).i64(self.created_ms);
        finish(writer, HEADER_CRC_AT)
    }

    /// `None` if the bytes are no intact header of this version.
    pub(crate) fn decode(sector: &[u8]) -> Option<Self> {
        let mut reader = checked(sector, HEADER_MAGIC, HEADER_CRC_AT)?;
        let flags = reader.u32().ok()?;
        let mut cluster_id = [0; 16];
        cluster_id.copy_from_slice(reader.raw(16).ok()?);
        Some(Self {
            cluster_id,
            tip: reader.partition().ok()?,
            base_offset: reader.i64().ok()?,
            generation: reader.generation().ok()?,
            rewrite: reader.generation().ok()?,
            covers_end: reader.i64().ok()?,
            created_ms: reader.i64().ok()?,
            resets: flags & FLAG_RESETS != 0,
            is_rolled: flags & FLAG_ROLLED != 0,
        })
    }
}

/// Where a closed segment ends, and a checksum of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Position behind the last batch.
    pub(crate) end_position: u64,
    /// Offset behind the last record.
    pub(crate) next_offset: i64,
    pub(crate) max_timestamp: i64,
    /// Time of the first batch, for closing and deleting by time.
    pub(crate) first_timestamp: i64,
    /// CRC-32C over the first 21 bytes of every batch in order. Each batch's own CRC is among
    /// them, so this covers every byte, also those that the batch's CRC does not.
    pub(crate) headers_crc: u32,
}

impl Seal {
    /// Of a segment without batches.
    pub(crate) fn empty(base_offset: i64) -> Self {
        Self {
            end_position: u64::from(HEADER_PAGE_BYTES),
            next_offset: base_offset,
            max_timestamp: i64::MIN,
            first_timestamp: i64::MIN,
            headers_crc: 0,
        }
    }

    /// Moves the end behind the next batch.
    pub(crate) fn extend(&mut self, batch: &ScannedBatch) {
        let header = &batch.header;
        if self.first_timestamp == i64::MIN {
            self.first_timestamp = header.base_timestamp.0.max(0);
        }
        self.end_position = batch.end_position();
        self.next_offset = header.next_offset().0;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp.0);
        self.headers_crc = headers_crc_append(self.headers_crc, &header.encode());
    }

    pub(crate) fn encode(&self) -> [u8; SECTOR] {
        let mut writer = FieldWriter::with_capacity(SECTOR);
        writer.raw(&SEAL_MAGIC).u32(VERSION).u32(0);
        writer.u64(self.end_position).i64(self.next_offset);
        writer.i64(self.max_timestamp).i64(self.first_timestamp).u32(self.headers_crc);
        finish(writer, SEAL_CRC_AT)
    }

    /// `None` if the bytes are no intact seal.
    pub(crate) fn decode(sector: &[u8]) -> Option<Self> {
        let mut reader = checked(sector, SEAL_MAGIC, SEAL_CRC_AT)?;
        let _flags = reader.u32().ok()?;
        Some(Self {
            end_position: reader.u64().ok()?,
            next_offset: reader.i64().ok()?,
            max_timestamp: reader.i64().ok()?,
            first_timestamp: reader.i64().ok()?,
            headers_crc: reader.u32().ok()?,
        })
    }
}

fn finish(mut writer: FieldWriter, crc_at: usize) -> [u8; SECTOR] {
    assert!(writer.bytes.len() == crc_at, "the fields end where the CRC is");
    let crc = crc32c::crc32c(&writer.bytes);
    writer.u32(crc);
    let mut sector = [0; SECTOR];
    sector[..writer.bytes.len()].copy_from_slice(&writer.bytes);
    sector
}

fn checked(sector: &[u8], magic: [u8; 8], crc_at: usize) -> Option<FieldReader<'_>> {
    let covered = sector.get(..crc_at)?;
    let mut tail = FieldReader::new(sector.get(crc_at..)?);
    if tail.u32().ok()? != crc32c::crc32c(covered) {
        return None;
    }
    let mut reader = FieldReader::new(covered);
    let is_known = reader.raw(8).ok()? == magic && reader.u32().ok()? == VERSION;
    is_known.then_some(reader)
}
