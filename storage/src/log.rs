//! One partition's log, as its shard owns it: positions, the active segment, producers, and what
//! the next commit has to make durable.
//!
//! The log is a plain value stepped by one thread. It writes bytes into the page cache; it never
//! syncs on the append path. What must reach the disk is handed out by `take_pending` and comes
//! back through `on_durable`.

mod append;
mod prepared;
mod replicate;
mod truncate;
mod truncation_guard;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};

pub(crate) use append::is_full;
pub use append::{AppendError, AppendOrigin, Appended};
pub(crate) use prepared::{PreparationStep, PreparedSegment};
pub use replicate::{AppendBatchesError, AppendedBatches};
pub use truncate::TruncateError;
pub(crate) use truncate::{Discarded, newest_snapshot, seal_up_to};
pub(crate) use truncation_guard::TruncationGuard;

use crate::checkpoint::{INLINE_PRODUCERS_MAX, LogRecord, RecordedProducers};
use crate::compaction::{InstalledSegment, Rewritten};
use crate::config::{LogConfig, ShardOptions};
use crate::epochs::{EpochCache, EpochStart};
use crate::file::{DirectoryFailed, Disk, DiskFile, OpenMode};
use crate::journal::{ENTRY_HEADER_BYTES, EntryKind, EntryTarget, OutgoingEntry};
use crate::layout::segment_name;
use crate::open_files::OpenFiles;
use crate::partition_state::{PartitionState, StateWrite, StateWriter};
use crate::producer_state::{ProducerStates, ProducerSummary};
use crate::reader::{LogReader, LogShared};
use crate::segment::{Segment, SegmentStart};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal, SegmentHeader};

/// With more epochs than this outside its state file, a log writes the file anew.
pub(crate) const UNSAVED_EPOCHS_MAX: usize = 16;

/// What all logs of a shard have in common.
#[derive(Debug)]
pub(crate) struct ShardContext<D: Disk> {
    pub(crate) disk: D,
    pub(crate) files: Arc<OpenFiles<D>>,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) journal_append_bytes_max: usize,
    pub(crate) allocation_step_bytes_max: u32,
    pub(crate) hot_bytes: u32,
    pub(crate) compaction_slice_bytes_max: u64,
    /// The generation that the next new log or truncation gets.
    pub(crate) next_generation: AtomicU32,
}

impl<D: Disk> ShardContext<D> {
    pub(crate) fn new(disk: &D, options: &ShardOptions, next_generation: u32) -> Arc<Self> {
        Arc::new(Self {
            disk: disk.clone(),
            files: OpenFiles::new(disk.clone(), options.open_files_max),
            cluster_id: options.cluster_id,
            journal_append_bytes_max: options.journal_append_bytes_max,
            allocation_step_bytes_max: options.allocation_step_bytes_max,
            hot_bytes: options.hot_bytes,
            compaction_slice_bytes_max: options.compaction_slice_bytes_max,
            next_generation: AtomicU32::new(next_generation),
        })
    }

    pub(crate) fn take_generation(&self) -> u32 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }
}

/// Batches that were written to their segment and are not in any commit yet.
#[derive(Debug)]
struct PendingBatches<D: Disk> {
    segment: Arc<Segment<D>>,
    position: u64,
    next_offset: i64,
    /// A batch's header as it was stamped; empty for what a follower fetched.
    head: Bytes,
    /// What follows it: the batch's records, or whole batches.
    records: Bytes,
}

/// A segment that was closed and waits for its seal.
#[derive(Debug)]
pub(crate) struct RolledSegment<D: Disk> {
    pub(crate) segment: Arc<Segment<D>>,
    pub(crate) seal: Seal,
    /// The producers at its end, as a snapshot file.
    pub(crate) snapshot: Vec<u8>,
    /// The end was lowered: readers may hold slices of what lies behind it, so it stays.
    pub(crate) is_cut: bool,
}

/// What one log adds to a commit.
#[derive(Debug)]
pub(crate) struct LogCommit<D: Disk> {
    pub(crate) generation: u32,
    /// Durable once the commit has run.
    pub(crate) end_offset: i64,
    /// Entries for the journal; empty if the log syncs its segments itself.
    pub(crate) entries: Vec<OutgoingEntry>,
    /// Segments to sync, and how far they are written.
    pub(crate) segments: Vec<(Arc<Segment<D>>, u64)>,
}

/// A log. See the module's documentation.
#[derive(Debug)]
pub struct Log<D: Disk> {
    shared: Arc<LogShared<D>>,
    context: Arc<ShardContext<D>>,
    config: Arc<LogConfig>,
    dir: Box<str>,
    /// Given out by the shard at creation and at every truncation.
    generation: u32,
    guard: TruncationGuard,
    /// Whether the segment that began this generation made all others void.
    is_reset: bool,
    active: Arc<Segment<D>>,
    /// Bytes that the active segment's file has space for.
    allocated: u64,
    headers_crc: u32,
    first_timestamp: i64,
    /// When the active segment got its first batch, by the broker's clock.
    first_append_ms: i64,
    producers: ProducerStates,
    pending: Vec<PendingBatches<D>>,
    pending_bytes: usize,
    /// The next commit syncs the segments instead of journalling.
    is_pending_direct: bool,
    /// There is something for the next commit.
    has_pending: bool,
    preparation: prepared::Preparation<D>,
    /// Segments that have bytes which are not synced, oldest first; the active one at the end.
    unsynced: Vec<Arc<Segment<D>>>,
    rolled: Vec<RolledSegment<D>>,
    /// Segments that a truncation made void.
    discarded: Vec<Discarded<D>>,
    state_writer: StateWriter,
    /// Something changed since the last checkpoint was taken.
    pub(crate) is_changed: bool,
    /// Cleaning must not touch this offset and what follows it; −1 for the durable end.
    cleanup_limit: i64,
    /// As the caller said last; −1 before that.
    high_watermark: i64,
    recovered_high_watermark: i64,
    /// What a checkpoint says of this log while it is damaged.
    damaged_record: Option<Box<LogRecord>>,
    /// The generation and the active segment's base in the last durable checkpoint.
    pub(crate) checkpointed: Option<(u32, i64)>,
    /// After a failed compaction, the log is left alone until then.
    pub(crate) compaction_not_before: i64,
    /// Bytes appended since the last maintenance.
    pub(crate) appended_bytes: u64,
}

/// A log's parts as recovery or creation found them.
pub(crate) struct LogParts<D: Disk> {
    pub(crate) tip: TopicIdPartition,
    pub(crate) dir: String,
    pub(crate) generation: u32,
    pub(crate) is_reset: bool,
    /// By base offset; the last one is open for appends.
    pub(crate) segments: Vec<Arc<Segment<D>>>,
    pub(crate) allocated: u64,
    pub(crate) headers_crc: u32,
    pub(crate) first_timestamp: i64,
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    pub(crate) damaged_from: Option<i64>,
    /// See [`Log::record`].
    pub(crate) damaged_record: Option<Box<LogRecord>>,
    pub(crate) epochs: EpochCache,
    pub(crate) epochs_saved: LeaderEpoch,
    pub(crate) producers: ProducerStates,
    pub(crate) checkpointed: Option<(u32, i64)>,
    pub(crate) rolled: Vec<RolledSegment<D>>,
    /// From the checkpoint; −1 if it has none.
    pub(crate) high_watermark: i64,
}

impl<D: Disk> Log<D> {
    pub(crate) fn from_parts(
        context: &Arc<ShardContext<D>>,
        config: Arc<LogConfig>,
        parts: LogParts<D>,
        now_ms: i64,
    ) -> Self {
        assert!(parts.log_start <= parts.log_end);
        let active = Arc::clone(parts.segments.last().expect("a log has a segment"));
        let unsynced = if active.is_synced() { Vec::new() } else { vec![Arc::clone(&active)] };
        let shared = Arc::new(LogShared {
            tip: parts.tip,
            hot_bytes: context.hot_bytes,
            log_start: AtomicI64::new(parts.log_start),
            durable_end: AtomicI64::new(parts.log_end),
            log_end: AtomicI64::new(parts.log_end),
            damaged_from: AtomicI64::new(parts.damaged_from.unwrap_or(i64::MAX)),
            segments: RwLock::new(parts.segments.into()),
            epochs: RwLock::new(parts.epochs),
        });
        let first_append_ms = if parts.first_timestamp == i64::MIN {
            now_ms
        } else {
            parts.first_timestamp.min(now_ms)
        };
        Self {
            shared,
            context: Arc::clone(context),
            config,
            dir: parts.dir.into(),
            generation: parts.generation,
            guard: TruncationGuard::new(parts.generation),
            is_reset: parts.is_reset,
            active,
            allocated: parts.allocated,
            headers_crc: parts.headers_crc,
            first_timestamp: parts.first_timestamp,
            first_append_ms,
            producers: parts.producers,
            pending: Vec::new(),
            pending_bytes: 0,
            is_pending_direct: false,
            has_pending: false,
            preparation: prepared::Preparation::new(),
            unsynced,
            rolled: parts.rolled,
            discarded: Vec::new(),
            state_writer: StateWriter::new(parts.epochs_saved),
            is_changed: parts.checkpointed.is_none(),
            cleanup_limit: -1,
            high_watermark: parts.high_watermark,
            recovered_high_watermark: parts.high_watermark.clamp(parts.log_start, parts.log_end),
            damaged_record: parts.damaged_record,
            checkpointed: parts.checkpointed,
            compaction_not_before: i64::MIN,
            appended_bytes: 0,
        }
    }

    /// Whose log this is.
    #[must_use]
    pub fn partition(&self) -> TopicIdPartition {
        self.shared.tip
    }

    /// A reader, for any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader<D> {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings, from the next append on.
    pub fn set_config(&mut self, config: impl Into<Arc<LogConfig>>) {
        self.config = config.into();
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        Offset(self.shared.log_start.load(Ordering::Relaxed))
    }

    /// Everything below is on the disk.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        Offset(self.shared.durable_end.load(Ordering::Relaxed))
    }

    /// The offset that the next record will get.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        Offset(self.shared.log_end.load(Ordering::Relaxed))
    }

    /// The first offset that is damaged, if any is. Such a log must not lead.
    #[must_use]
    pub fn damaged_from(&self) -> Option<Offset> {
        self.reader().damaged_from()
    }

    /// Bytes of batches in all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.reader().size_bytes()
    }

    /// The newest epoch and where it begins.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<EpochStart> {
        self.shared.epochs.read().latest()
    }

    /// Notes that a leader epoch begins at the log's end, before it has written anything.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch) {
        let log_end = self.log_end();
        if self.shared.epochs.write().assign(epoch, log_end) {
            self.is_changed = true;
        }
    }

    /// Retention and compaction must not touch `limit` and what follows it: the high watermark or
    /// the last stable offset. Until this is called they keep away from what is not durable.
    pub fn set_cleanup_limit(&mut self, limit: Offset) {
        self.cleanup_limit = limit.0;
    }

    /// Notes the partition's high watermark. It goes into the next checkpoint and is never synced
    /// for its own sake: after a restart it may be older than the truth, never newer.
    pub fn note_high_watermark(&mut self, high_watermark: Offset) {
        if self.high_watermark != high_watermark.0 {
            self.high_watermark = high_watermark.0;
            self.is_changed = true;
        }
    }

    /// The high watermark that the last checkpoint before the open knew, within the log as it was
    /// opened; the log's start if it knew none.
    #[must_use]
    pub fn recovered_high_watermark(&self) -> Offset {
        Offset(self.recovered_high_watermark)
    }

    pub(crate) fn cleanup_limit(&self) -> i64 {
        let durable_end = self.durable_end().0;
        if self.cleanup_limit < 0 { durable_end } else { self.cleanup_limit.min(durable_end) }
    }

    /// The producers that the log remembers.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerSummary> {
        self.producers.summaries()
    }

    /// Where the oldest open transaction begins.
    #[must_use]
    pub fn first_open_transaction(&self) -> Option<Offset> {
        self.producers.first_open_transaction()
    }

    pub(crate) fn expire_producers(&mut self, now_ms: i64) {
        if self.producers.len() > 0 {
            let config = &self.config;
            self.producers.expire(now_ms, config.producer_expiration_ms, config.producers_max);
        }
    }

    /// Moves the log's start up to `offset` (DeleteRecords). Durable on return. Segments that lie
    /// below go with the next retention. A lower offset changes nothing.
    ///
    /// # Errors
    /// [`TruncateError::OutOfRange`] past the log's end; [`TruncateError::DirectoryFailed`].
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<Offset, TruncateError> {
        let log_end = self.log_end();
        if offset > log_end {
            return Err(TruncateError::OutOfRange { offset, log_start: self.log_start(), log_end });
        }
        if offset > self.log_start() {
            let write = self.move_log_start(offset.0);
            write
                .run(&self.context.disk)
                .map_err(|error| self.failed("partition.state", &error))?;
        }
        Ok(self.log_start())
    }

    /// Moves the start in memory, and hands out the write that makes it durable.
    pub(crate) fn move_log_start(&mut self, offset: i64) -> StateWrite {
        assert!(offset <= self.log_end().0);
        self.shared.log_start.fetch_max(offset, Ordering::AcqRel);
        self.shared.epochs.write().truncate_from_start(Offset(offset));
        self.is_changed = true;
        self.prepare_state_write()
    }

    /// The state file as it should be now.
    pub(crate) fn prepare_state_write(&mut self) -> StateWrite {
        let epochs = self.shared.epochs.read().starts().to_vec();
        let state =
            PartitionState { generation: self.generation, log_start: self.log_start().0, epochs };
        // Whoever syncs a segment's name syncs the directory's, too.
        let is_dir_new = !self.segments().iter().any(|segment| segment.is_name_synced());
        self.state_writer.prepare(&self.dir, state, is_dir_new)
    }

    /// A failed write: closes the latch, so that nothing is written to this directory any more.
    fn failed(&self, what: &str, error: &io::Error) -> DirectoryFailed {
        let latch = self.context.disk.latch();
        latch.close(&format!("{what} of {}", self.dir), error);
        latch.failure().expect("the latch was just closed")
    }

    fn set_segments(&self, segments: Vec<Arc<Segment<D>>>) {
        *self.shared.segments.write() = segments.into();
    }

    pub(crate) fn segments(&self) -> Arc<[Arc<Segment<D>>]> {
        self.shared.segments()
    }

    pub(crate) fn active(&self) -> &Arc<Segment<D>> {
        &self.active
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// A maintenance job has allocated more space for the active segment.
    pub(crate) fn on_allocated(&mut self, base_offset: i64, generation: u32, allocated: u64) {
        if self.active.base_offset == base_offset && self.active.generation == generation {
            self.allocated = self.allocated.max(allocated);
        }
    }

    pub(crate) fn dir(&self) -> &str {
        &self.dir
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn guard(&self) -> &TruncationGuard {
        &self.guard
    }

    pub(crate) fn first_append_ms(&self) -> i64 {
        self.first_append_ms
    }

    /// A seal that was not written; the segment may be gone or cut meanwhile.
    pub(crate) fn give_back_rolled(&mut self, rolled: RolledSegment<D>, generation: u32) {
        if generation == self.generation && !rolled.segment.is_retired() {
            self.rolled.push(rolled);
            self.is_changed = true;
        }
    }

    pub(crate) fn take_rolled(&mut self) -> Vec<RolledSegment<D>> {
        std::mem::take(&mut self.rolled)
    }

    /// Takes the oldest segments out of the log; readers do not find them any more.
    pub(crate) fn drop_oldest(&mut self, count: usize) -> Vec<Arc<Segment<D>>> {
        let segments = self.segments();
        assert!(count < segments.len());
        self.set_segments(segments[count..].to_vec());
        let dropped = segments[..count].to_vec();
        self.forget(&dropped);
        dropped
    }

    /// Puts a rewritten segment in the place of the ones that it was made from. Its name is not
    /// synced: until it is, a crash brings the old files back, which say the same.
    pub(crate) fn install_rewritten(
        &mut self,
        first: usize,
        rewritten: Rewritten<D>,
    ) -> io::Result<InstalledSegment<D>> {
        let path = self.segment_path(rewritten.start.base_offset);
        let count = rewritten.sources.len();
        // Readers that meet a retired segment wait for this lock and find the new list.
        let mut list = self.shared.segments.write();
        for source in &rewritten.sources {
            source.retire();
        }
        let _ = self.context.disk.remove(&rewritten.sources[0].index_path());
        self.context.disk.rename(&rewritten.scratch, &path)?;
        let segment = Segment::sealed(&self.context.files, path, rewritten.start);
        let mut segments = list.to_vec();
        segments.splice(first..first + count, [Arc::clone(&segment)]);
        *list = segments.into();
        drop(list);
        segment.adopt_file(rewritten.file);
        self.forget(&rewritten.sources);
        self.is_changed = true;
        Ok(InstalledSegment { segment, covered: rewritten.sources[1..].to_vec() })
    }

    pub(crate) fn last_offsets_of_producers(&self) -> std::collections::BTreeSet<i64> {
        self.producers.last_offsets()
    }

    fn forget(&mut self, gone: &[Arc<Segment<D>>]) {
        let is_gone = |segment: &Arc<Segment<D>>| gone.iter().any(|old| Arc::ptr_eq(old, segment));
        self.unsynced.retain(|segment| !is_gone(segment));
        self.rolled.retain(|rolled| !is_gone(&rolled.segment));
    }

    /// Makes the file of a new segment, with its header, open and not synced. Returns how much
    /// space it has.
    fn create_segment(
        &mut self,
        base_offset: i64,
        now_ms: i64,
        path: &str,
        resets: bool,
    ) -> io::Result<(D::File, u64)> {
        let header = SegmentHeader {
            cluster_id: self.context.cluster_id,
            tip: self.shared.tip,
            base_offset,
            generation: self.generation,
            rewrite: 0,
            covers_end: base_offset,
            created_ms: now_ms,
            resets,
        };
        let disk = &self.context.disk;
        if let Some(PreparedSegment { file, allocated }) = self.preparation.take() {
            let path_now = format!("{}/{}", self.dir, crate::layout::PREPARED_FILE);
            file.write_at(0, &[&header.encode()])?;
            match disk.rename(&path_now, path) {
                Ok(()) => return Ok((file, allocated)),
                // Given back by a job that came late.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let file = create_segment_file(disk, path, &header)?;
        Ok((file, u64::from(HEADER_PAGE_BYTES)))
    }

    fn segment_path(&self, base_offset: i64) -> String {
        format!("{}/{}", self.dir, segment_name(base_offset))
    }

    /// Makes a new segment the active one.
    fn begin_segment(&mut self, file: D::File, base_offset: i64, now_ms: i64) {
        let path = self.segment_path(base_offset);
        let start = SegmentStart::empty(self.shared.tip, base_offset, self.generation);
        let segment = Segment::active(&self.context.files, path, start);
        segment.adopt_file(file);
        let mut segments = self.segments().to_vec();
        segments.push(Arc::clone(&segment));
        self.set_segments(segments);
        self.unsynced.push(Arc::clone(&segment));
        self.active = segment;
        self.allocated = u64::from(HEADER_PAGE_BYTES);
        self.headers_crc = 0;
        self.first_timestamp = i64::MIN;
        self.first_append_ms = now_ms;
    }

    // ---- commits -------------------------------------------------------------------------

    /// Bytes that the next commit would put into the journal for this log, at most.
    pub(crate) fn pending_journal_bytes(&self) -> u64 {
        // One entry for each segment: the active one, and what was rolled since the last commit.
        let entries = 2 + self.rolled.len();
        let overhead = entries * (ENTRY_HEADER_BYTES + 8);
        if self.is_pending_direct { 0 } else { (self.pending_bytes + overhead) as u64 }
    }

    /// What the next commit has to make durable. `None` if there is nothing. With
    /// `may_journal == false` the segments are synced whatever the size.
    pub(crate) fn take_pending(&mut self, may_journal: bool) -> Option<LogCommit<D>> {
        if !std::mem::take(&mut self.has_pending) {
            return None;
        }
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let is_direct = std::mem::take(&mut self.is_pending_direct) || !may_journal;
        let mut commit = LogCommit {
            generation: self.generation,
            end_offset: self.log_end().0,
            entries: Vec::new(),
            segments: Vec::new(),
        };
        if is_direct {
            for segment in &self.unsynced {
                commit.segments.push((Arc::clone(segment), segment.end_position()));
            }
        } else {
            commit.entries = self.journal_entries(pending);
        }
        Some(commit)
    }

    fn journal_entries(&self, pending: Vec<PendingBatches<D>>) -> Vec<OutgoingEntry> {
        let mut entries: Vec<OutgoingEntry> = Vec::new();
        let mut next_position = 0;
        let mut next_segment: Option<Arc<Segment<D>>> = None;
        for batch in pending {
            let len = batch.head.len() + batch.records.len();
            let continues = batch.position == next_position
                && next_segment.as_ref().is_some_and(|last| Arc::ptr_eq(last, &batch.segment));
            if !continues {
                let target = EntryTarget {
                    kind: EntryKind::Append,
                    tip: self.shared.tip,
                    generation: batch.segment.generation,
                    resets: self.is_reset,
                    base_offset: batch.segment.base_offset,
                    position: batch.position,
                };
                entries.push(OutgoingEntry { target, pieces: Vec::new(), len: 0 });
            }
            next_position = batch.position + len as u64;
            next_segment = Some(batch.segment);
            let entry = entries.last_mut().expect("one was just pushed");
            entry.len += len;
            let pieces = [batch.head, batch.records];
            entry.pieces.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        }
        entries
    }

    /// A commit with this log's `end_offset` has run. Returns the durable end; `None` if the log
    /// was truncated since the commit was taken: truncation has made durable what it left.
    pub(crate) fn on_durable(&mut self, generation: u32, end_offset: i64) -> Option<Offset> {
        self.drop_synced();
        if generation != self.generation {
            return None;
        }
        assert!(end_offset <= self.log_end().0);
        self.shared.durable_end.fetch_max(end_offset, Ordering::AcqRel);
        Some(self.durable_end())
    }

    pub(crate) fn drop_synced(&mut self) {
        self.unsynced.retain(|segment| !segment.is_synced());
    }

    /// Segments with bytes or names that are not on the disk, and how far they are written.
    pub(crate) fn unsynced_segments(&self) -> Vec<(Arc<Segment<D>>, u64)> {
        let unsynced = self.unsynced.iter().filter(|segment| !segment.is_synced());
        unsynced.map(|segment| (Arc::clone(segment), segment.end_position())).collect()
    }

    // ---- checkpoints ---------------------------------------------------------------------

    /// The log as it is now, for a checkpoint that is written after `unsynced_segments` are synced.
    /// A damaged log stays recorded as it was found, so that the next open finds the damage again.
    pub(crate) fn record(&self) -> LogRecord {
        if let Some(record) = &self.damaged_record {
            return LogRecord::clone(record);
        }
        let epochs = self.shared.epochs.read();
        let saved_epoch = self.state_writer.saved_epoch();
        let saved = epochs.starts().partition_point(|start| start.epoch <= saved_epoch);
        let is_inline = self.producers.len() <= INLINE_PRODUCERS_MAX;
        LogRecord {
            tip: self.shared.tip,
            generation: self.generation,
            log_start: self.log_start().0,
            active_base: self.active.base_offset,
            position: self.active.end_position(),
            end_offset: self.log_end().0,
            durable_end: self.log_end().0,
            high_watermark: self.high_watermark.min(self.log_end().0),
            headers_crc: self.headers_crc,
            max_timestamp: self.active.max_timestamp(),
            first_timestamp: self.first_timestamp,
            epochs: epochs.starts()[saved..].to_vec(),
            producers: if is_inline {
                RecordedProducers::Inline(self.producers.clone())
            } else {
                RecordedProducers::Snapshot
            },
        }
    }

    /// Epochs that only the checkpoint holds.
    pub(crate) fn unsaved_epochs(&self) -> usize {
        let epochs = self.shared.epochs.read();
        let saved_epoch = self.state_writer.saved_epoch();
        let saved = epochs.starts().partition_point(|start| start.epoch <= saved_epoch);
        epochs.starts().len() - saved
    }

    pub(crate) fn producers_snapshot(&self) -> Vec<u8> {
        self.producers.encode_snapshot(self.log_end().0, self.generation)
    }

    pub(crate) fn has_many_producers(&self) -> bool {
        self.producers.len() > INLINE_PRODUCERS_MAX
    }
}

/// Makes (or empties) a segment file and writes its header. Not synced.
pub(crate) fn create_segment_file<D: Disk>(
    disk: &D,
    path: &str,
    header: &SegmentHeader,
) -> io::Result<D::File> {
    let file = disk.open(path, OpenMode::Replace)?;
    let created = file
        .allocate(u64::from(HEADER_PAGE_BYTES))
        .and_then(|()| file.write_at(0, &[&header.encode()]));
    if let Err(error) = created {
        // Nothing refers to the file yet. If it stays, recovery finds it empty and takes it away.
        drop(file);
        let _ = disk.remove(path);
        return Err(error);
    }
    Ok(file)
}
