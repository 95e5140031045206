//! Writing what stays of a few neighbouring segments into one new file.

use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::records::{
    BatchBuilder, BatchHeader, DecompressLimits, HEADER_BYTES, NewRecord, Record, RecordBatch,
    TimestampType,
};
use varve_protocol::vocabulary::TimestampMs;

use super::{CompactionError, KeyMap, Rules, each_batch};
use crate::file::{Disk, DiskFile};
use crate::log::{ShardContext, create_segment_file};
use crate::scan::headers_crc_append;
use crate::segment::{Segment, SegmentStart};
use crate::segment_header::{SEAL_POSITION, Seal, SegmentHeader};

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes that are written before they are synced: a commit that comes meanwhile waits for so much
/// and not for the whole file.
const SYNC_BYTES: u64 = 8 << 20;

/// A new file, durable under a scratch name.
#[derive(Debug)]
pub(crate) struct Rewritten<D: Disk> {
    pub(crate) context: Arc<ShardContext<D>>,
    pub(crate) sources: Vec<Arc<Segment<D>>>,
    pub(crate) scratch: String,
    pub(crate) file: D::File,
    pub(crate) start: SegmentStart,
}

pub(super) fn discard_scratch<D: Disk>(rewritten: &Rewritten<D>) {
    // What stays is taken away by the next open.
    let _ = rewritten.context.disk.remove(&rewritten.scratch);
}

/// Writes the new file.
pub(super) struct Rewriter<'a, D: Disk> {
    context: &'a Arc<ShardContext<D>>,
    keys: &'a KeyMap,
    rules: &'a Rules,
    scratch: String,
    file: D::File,
    rewrite: u32,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    position: u64,
    synced_position: u64,
    seal: Seal,
    has_changed: bool,
}

impl<'a, D: Disk> Rewriter<'a, D> {
    pub(super) fn begin(
        context: &'a Arc<ShardContext<D>>,
        sources: &[Arc<Segment<D>>],
        keys: &'a KeyMap,
        rules: &'a Rules,
    ) -> Result<Self, CompactionError> {
        let (first, last) = (&sources[0], &sources[sources.len() - 1]);
        let mut page = [0; 512];
        first.file()?.read_at(0, &mut page)?;
        let old = SegmentHeader::decode(&page).ok_or(CompactionError::Header)?;
        let rewrite = sources.iter().map(|source| source.rewrite).max().unwrap_or(0) + 1;
        let header = SegmentHeader { rewrite, covers_end: last.next_offset(), ..old };
        // Not the scratch name that a truncation to this offset would use.
        let scratch = format!("{}.compacted.new", first.path);
        let file = create_segment_file(&context.disk, &scratch, &header)?;
        let seal = Seal::empty(last.next_offset());
        Ok(Self {
            context,
            keys,
            rules,
            scratch,
            file,
            rewrite,
            buffer: Vec::with_capacity(WRITE_BYTES),
            position: seal.end_position,
            synced_position: 0,
            seal,
            has_changed: sources.len() > 1,
        })
    }

    /// Writes the file. `None` if it would say the same as its only source did.
    pub(super) fn run(
        mut self,
        sources: &[Arc<Segment<D>>],
    ) -> Result<Option<Rewritten<D>>, CompactionError> {
        let written = self.write(sources);
        let is_same = written.is_ok() && !self.has_changed && sources[0].rewrite > 0;
        if written.is_err() || is_same {
            let _ = self.context.disk.remove(&self.scratch);
        }
        written?;
        if is_same {
            return Ok(None);
        }
        let first = &sources[0];
        Ok(Some(Rewritten {
            context: Arc::clone(self.context),
            sources: sources.to_vec(),
            scratch: self.scratch,
            file: self.file,
            start: SegmentStart {
                tip: first.tip,
                base_offset: first.base_offset,
                generation: first.generation,
                rewrite: self.rewrite,
                end_position: self.seal.end_position,
                next_offset: self.seal.next_offset,
                max_timestamp: self.seal.max_timestamp,
                headers_crc: self.seal.headers_crc,
            },
        }))
    }

    fn write(&mut self, sources: &[Arc<Segment<D>>]) -> Result<(), CompactionError> {
        for source in sources {
            each_batch(source, |batch| self.take(batch))?;
        }
        self.flush()?;
        self.file.write_at(SEAL_POSITION, &[&self.seal.encode()])?;
        self.file.sync()?;
        Ok(())
    }

    /// Writes what stays of a batch.
    fn take(&mut self, batch: &RecordBatch) -> Result<(), CompactionError> {
        let header = batch.header();
        if header.next_offset().0 <= self.rules.log_start {
            self.has_changed = true;
            return Ok(());
        }
        let attributes = header.attributes;
        if attributes.is_control() || attributes.is_transactional() || header.record_count == 0 {
            let stays = header.record_count > 0 || self.stays_empty(header);
            self.has_changed |= !stays;
            return if stays { self.put(batch.bytes()) } else { Ok(()) };
        }
        let mut kept = Vec::new();
        let mut has_tombstone = false;
        for record in batch.records(&DecompressLimits::default())? {
            let record = record?;
            if self.stays(batch, &record) {
                has_tombstone |= record.value.is_none();
                kept.push(record);
            }
        }
        let all = i32::try_from(kept.len()).is_ok_and(|kept| kept == header.record_count);
        let wants_horizon = has_tombstone && !attributes.has_delete_horizon();
        if all && !wants_horizon {
            return self.put(batch.bytes());
        }
        self.has_changed = true;
        if kept.is_empty() && !self.stays_empty(header) {
            return Ok(());
        }
        let rebuilt = self.rebuild(batch, &kept, wants_horizon)?;
        self.put(&rebuilt)
    }

    /// Whether a batch stays although none of its records does.
    fn stays_empty(&self, header: &BatchHeader) -> bool {
        let is_last_of_producer =
            header.has_producer() && self.rules.last_of_producers.contains(&header.last_offset().0);
        is_last_of_producer || header.next_offset().0 == self.seal.next_offset
    }

    fn stays(&self, batch: &RecordBatch, record: &Record) -> bool {
        let Some(key) = &record.key else { return false };
        if !self.keys.is_newest(key, batch.offset_of(record).0) {
            return false;
        }
        let header = batch.header();
        let is_expired =
            header.attributes.has_delete_horizon() && header.base_timestamp.0 <= self.rules.now_ms;
        record.value.is_some() || !is_expired
    }

    fn rebuild(
        &self,
        batch: &RecordBatch,
        kept: &[Record],
        wants_horizon: bool,
    ) -> Result<Bytes, CompactionError> {
        let header = batch.header();
        let mut builder = BatchBuilder::new(batch.compression()?);
        builder
            .set_base_offset(header.base_offset)
            .set_leader_epoch(header.partition_leader_epoch)
            .set_producer(header.producer_id, header.producer_epoch, header.base_sequence)
            .set_last_offset_delta(header.last_offset_delta);
        if wants_horizon {
            let horizon = self.rules.now_ms.saturating_add(self.rules.delete_retention_ms);
            builder.set_base_timestamp(TimestampMs(horizon), true);
        } else {
            let has_horizon = header.attributes.has_delete_horizon();
            builder.set_base_timestamp(header.base_timestamp, has_horizon);
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            builder.set_append_time(header.max_timestamp);
        }
        for record in kept {
            let new = NewRecord {
                timestamp: batch.timestamp_of(record),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            };
            builder.push_at(record.offset_delta, new)?;
        }
        Ok(builder.build()?)
    }

    fn put(&mut self, batch: &Bytes) -> Result<(), CompactionError> {
        let header = BatchHeader::parse(batch)?;
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(&batch[..HEADER_BYTES]);
        let seal = &mut self.seal;
        seal.headers_crc = headers_crc_append(seal.headers_crc, &head);
        seal.end_position += batch.len() as u64;
        seal.max_timestamp = seal.max_timestamp.max(header.max_timestamp.0);
        if seal.first_timestamp == i64::MIN {
            seal.first_timestamp = header.max_timestamp.0.max(0);
        }
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CompactionError> {
        let end = self.position + self.buffer.len() as u64;
        self.file.allocate(end)?;
        self.file.write_at(self.position, &[&self.buffer])?;
        self.position = end;
        self.buffer.clear();
        if self.position - self.synced_position >= SYNC_BYTES {
            self.file.sync()?;
            self.synced_position = self.position;
        }
        Ok(())
    }
}
