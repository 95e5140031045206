//! One partition's log, as its shard owns it: positions, the active segment, producers, and what
//! the next commit has to make durable.
//!
//! The log is a plain value stepped by one thread. It writes bytes into the page cache; it never
//! syncs on the append path. What must reach the disk is handed out by `take_pending` and comes
//! back through `on_durable`.

mod append;
mod commit;
mod prepared;
mod record;
mod replicate;
mod segments;
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
pub(crate) use segments::create_segment_file;
pub use truncate::TruncateError;
pub(crate) use truncate::{Discarded, newest_snapshot};
pub(crate) use truncation_guard::TruncationGuard;

use crate::checkpoint::LogRecord;
use crate::config::{LogConfig, ShardOptions};
use crate::epochs::{EpochCache, EpochStart};
use crate::file::{DirectoryFailed, Disk};
use crate::open_files::OpenFiles;
use crate::partition_state::{PartitionState, StateWrite, StateWriter};
use crate::producer_state::{ProducerStates, ProducerSummary};
use crate::reader::{LogReader, LogShared};
use crate::segment::Segment;
use crate::segment_header::Seal;

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
    /// After a failed compaction, the log is left alone until so much of the shard's time has passed.
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
        // A start that moved before the disk failed may be in memory only.
        self.context.disk.latch().check()?;
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

    pub(crate) fn last_offsets_of_producers(&self) -> std::collections::BTreeSet<i64> {
        self.producers.last_offsets()
    }
}
