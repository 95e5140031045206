//! A log shard: the logs that one thread owns, and the journal that they share.
//!
//! ```text
//! append* ─► take_commit ─► CommitJob::run (sync thread) ─► finish_commit ─► durable ends
//!            maintain ─► MaintenanceJob::run (maintenance thread) ─► finish_maintenance
//! ```
//! The shard's thread never waits for the disk, except in the rare operations that say so
//! (truncation, DeleteRecords, deletion of a log).

mod maintain;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::records::ValidatedBatch;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs, TopicIdPartition};

pub use maintain::{MaintenanceDone, MaintenanceJob, MaintenanceTally};

use crate::commit::{CommitDone, CommitJob, CommittedLog};
use crate::compaction::CompactionJob;
use crate::config::{LogConfig, ShardId, ShardOptions};
use crate::epochs::EpochCache;
use crate::fields::{FieldReader, FieldWriter};
use crate::file::{DirectoryFailed, Disk};
use crate::journal::{ENTRY_HEADER_BYTES, EntryKind, EntryTarget, Journal, OutgoingEntry};
use crate::layout::{DELETED_SUFFIX, PARTITIONS_DIR, partition_dir, segment_name, shard_of};
use crate::log::{
    AppendBatchesError, AppendError, AppendOrigin, Appended, AppendedBatches, Discarded, Log,
    LogParts, ShardContext, create_segment_file,
};
use crate::producer_state::ProducerStates;
use crate::segment::{Segment, SegmentStart};
use crate::segment_header::{HEADER_PAGE_BYTES, SegmentHeader};

/// Bytes of one mark in the journal.
const MARK_BYTES: usize = 20 + 4 + 8;

/// An offset known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) tip: TopicIdPartition,
    pub(crate) generation: u32,
    pub(crate) end_offset: i64,
}

/// A deleted log whose files go after the next checkpoint.
#[derive(Debug)]
struct DeadLog<D: Disk> {
    path: String,
    segments: Vec<Arc<Segment<D>>>,
    /// Number of the checkpoint that must be durable first: before it, the journal may still
    /// speak of the log, and only the renamed directory says that it is gone.
    after_checkpoint: u64,
}

/// Why a log was not made or not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogSetError {
    /// The shard has such a log already.
    #[error("the partition has a log already")]
    Exists,
    /// The shard has no such log.
    #[error("the partition has no log here")]
    Unknown,
    /// Another shard owns the partition.
    #[error("the partition belongs to shard {owner}")]
    OtherShard {
        /// Which one.
        owner: ShardId,
    },
    /// There is no room on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// A write or sync failed; see [`DirectoryFailed`].
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
}

/// The logs of one shard. Owned by one thread.
#[derive(Debug)]
pub struct LogShard<D: Disk> {
    id: ShardId,
    options: ShardOptions,
    context: Arc<ShardContext<D>>,
    logs: BTreeMap<TopicIdPartition, Log<D>>,
    journal: Journal<D>,
    /// Logs that have something for the next commit.
    dirty: Vec<TopicIdPartition>,
    is_commit_in_flight: bool,
    /// To be written with the next commit.
    marks: Vec<Mark>,
    /// Bytes appended since the last checkpoint was taken.
    appended_bytes: u64,
    is_checkpoint_in_flight: bool,
    checkpoint_number: u64,
    /// The number of the last checkpoint that is durable.
    checkpoints_done: u64,
    /// Milliseconds that have passed since the start, as far as the wall clock tells: what it is set
    /// back by counts for nothing.
    passed_ms: i64,
    /// The wall clock as it was seen last.
    seen: TimestampMs,
    /// Both in terms of `passed_ms`.
    checkpoint_taken_ms: i64,
    checkpoint_not_before_ms: i64,
    /// The logs changed in a way that no single log remembers: one was made or deleted.
    is_set_changed: bool,
    dead_logs: Vec<DeadLog<D>>,
    graveyard: Vec<Discarded<D>>,
    is_compaction_in_flight: bool,
    /// A round that goes on with the next turn.
    paused_compaction: Option<Box<CompactionJob<D>>>,
    is_sync_in_flight: bool,
    settling: Vec<maintain::SettleJob<D>>,
    now: TimestampMs,
}

impl<D: Disk> LogShard<D> {
    pub(crate) fn from_parts(
        id: ShardId,
        options: ShardOptions,
        context: Arc<ShardContext<D>>,
        logs: BTreeMap<TopicIdPartition, Log<D>>,
        journal: Journal<D>,
        now: TimestampMs,
    ) -> Self {
        Self {
            id,
            options,
            context,
            logs,
            journal,
            dirty: Vec::new(),
            is_commit_in_flight: false,
            marks: Vec::new(),
            appended_bytes: 0,
            is_checkpoint_in_flight: false,
            checkpoint_number: 0,
            checkpoints_done: 0,
            passed_ms: 0,
            seen: now,
            checkpoint_taken_ms: 0,
            checkpoint_not_before_ms: 0,
            is_set_changed: false,
            dead_logs: Vec::new(),
            graveyard: Vec::new(),
            is_compaction_in_flight: false,
            paused_compaction: None,
            is_sync_in_flight: false,
            settling: Vec::new(),
            now,
        }
    }

    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// One log.
    #[must_use]
    pub fn log(&self, tip: &TopicIdPartition) -> Option<&Log<D>> {
        self.logs.get(tip)
    }

    /// One log, to change its settings, its epochs, or to truncate it.
    pub fn log_mut(&mut self, tip: &TopicIdPartition) -> Option<&mut Log<D>> {
        self.logs.get_mut(tip)
    }

    /// All logs, in the order of their ids.
    pub fn logs(&self) -> impl Iterator<Item = &Log<D>> {
        self.logs.values()
    }

    /// Why nothing can be written any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<DirectoryFailed> {
        self.context.disk.latch().failure()
    }

    /// Makes the log of a partition that has none. It is durable with its first commit; a power
    /// cut before that may take the empty log away, and it can be made again.
    ///
    /// # Errors
    /// [`LogSetError`]; nothing has changed then.
    pub fn create_log(
        &mut self,
        tip: TopicIdPartition,
        config: impl Into<Arc<LogConfig>>,
    ) -> Result<&mut Log<D>, LogSetError> {
        self.context.disk.latch().check()?;
        let owner = shard_of(&tip, self.options.shard_count);
        if owner != self.id {
            return Err(LogSetError::OtherShard { owner });
        }
        if self.logs.contains_key(&tip) {
            return Err(LogSetError::Exists);
        }
        let generation = self.context.take_generation();
        let parts = new_log(&self.context, tip, generation, 0, self.now.0).map_err(|error| {
            if error.kind() == std::io::ErrorKind::StorageFull {
                return LogSetError::DiskFull;
            }
            self.failed("new log", &error).into()
        })?;
        let log = Log::from_parts(&self.context, config.into(), parts, self.now.0);
        self.is_set_changed = true;
        Ok(self.logs.entry(tip).or_insert(log))
    }

    /// Deletes a log: it is gone, durably, on return; its files go later, when nobody reads them.
    ///
    /// # Errors
    /// [`LogSetError::Unknown`], [`LogSetError::DirectoryFailed`].
    pub fn delete_log(&mut self, tip: &TopicIdPartition) -> Result<(), LogSetError> {
        self.delete_logs(&[*tip]).pop().expect("one result a log")
    }

    /// Deletes logs, all with one sync; results in the order of `tips`. See [`Self::delete_log`].
    pub fn delete_logs(&mut self, tips: &[TopicIdPartition]) -> Vec<Result<(), LogSetError>> {
        let mut results: Vec<_> = tips.iter().map(|tip| self.bury(tip)).collect();
        if results.iter().any(Result::is_ok)
            && let Err(error) = self.context.disk.sync_dir(PARTITIONS_DIR)
        {
            let failed = self.failed("deletion", &error);
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(failed.clone().into());
            }
        }
        let gone: HashSet<_> = tips.iter().filter(|tip| !self.logs.contains_key(tip)).collect();
        self.dirty.retain(|dirty| !gone.contains(dirty));
        self.marks.retain(|mark| !gone.contains(&mark.tip));
        results
    }

    /// Takes one log out and renames its directory, which is durable once that is synced.
    fn bury(&mut self, tip: &TopicIdPartition) -> Result<(), LogSetError> {
        let log = self.logs.remove(tip).ok_or(LogSetError::Unknown)?;
        let segments = log.segments().to_vec();
        for segment in &segments {
            segment.retire();
        }
        // The generation says which journal entries the deletion makes void.
        let path = format!("{}{DELETED_SUFFIX}-{}", log.dir(), self.context.take_generation());
        if let Err(error) = self.context.disk.rename(log.dir(), &path) {
            return Err(self.failed("deletion", &error).into());
        }
        self.dead_logs.push(DeadLog {
            path,
            segments,
            after_checkpoint: self.checkpoint_number + 1,
        });
        self.is_set_changed = true;
        Ok(())
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> DirectoryFailed {
        let latch = self.context.disk.latch();
        latch.close(&format!("{what} in shard {}", self.id), error);
        latch.failure().expect("the latch was just closed")
    }

    /// Time goes on, as far as the wall clock tells.
    fn note_time(&mut self, now: TimestampMs) {
        let passed_ms = now.0.saturating_sub(self.seen.0).max(0);
        self.passed_ms = self.passed_ms.saturating_add(passed_ms);
        self.seen = now;
        self.now = self.now.max(now);
    }

    /// Appends a batch. It can be read at once; it is durable when a commit says so.
    ///
    /// A duplicate is not appended again: its answer holds the offsets of the first time, which
    /// may themselves still wait for a commit. With `write.caching` the durable end moves with
    /// the append.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn append(
        &mut self,
        tip: &TopicIdPartition,
        batch: &ValidatedBatch,
        leader_epoch: LeaderEpoch,
        origin: AppendOrigin,
        now: TimestampMs,
    ) -> Result<Appended, AppendError> {
        self.note_time(now);
        let log = self.logs.get_mut(tip).ok_or(AppendError::UnknownPartition)?;
        let had_pending = log.has_pending();
        let appended = log.append(batch, leader_epoch, origin, now)?;
        if !had_pending && log.has_pending() {
            self.dirty.push(*tip);
        }
        if !appended.duplicate {
            self.appended_bytes += batch.bytes.len() as u64;
        }
        Ok(appended)
    }

    /// Appends batches that a follower fetched, as they are. They can be read at once, and are
    /// durable when a commit says so.
    ///
    /// # Errors
    /// [`AppendBatchesError`].
    pub fn append_batches(
        &mut self,
        tip: &TopicIdPartition,
        records: &Bytes,
        now: TimestampMs,
    ) -> Result<AppendedBatches, AppendBatchesError> {
        self.note_time(now);
        let log = self.logs.get_mut(tip).ok_or(AppendBatchesError::UnknownPartition)?;
        let had_pending = log.has_pending();
        let appended = log.append_batches(records, now);
        // A full disk may have stopped it half way.
        if !had_pending && log.has_pending() {
            self.dirty.push(*tip);
        }
        if appended.is_ok() {
            self.appended_bytes += records.len() as u64;
        }
        appended
    }

    /// Whether there is something to commit.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether a commit is on its way.
    #[must_use]
    pub fn is_commit_in_flight(&self) -> bool {
        self.is_commit_in_flight
    }

    /// What was appended since the last commit was taken, to be made durable on any thread. `None`
    /// if there is nothing, or while another commit is in flight.
    pub fn take_commit(&mut self) -> Option<CommitJob<D>> {
        if self.is_commit_in_flight || self.dirty.is_empty() {
            return None;
        }
        let mut entries = self.take_marks();
        let used: u64 = entries.iter().map(OutgoingEntry::size).sum();
        let budget = self.journal.room().min(self.options.journal_commit_bytes_max as u64);
        let mut budget = budget.saturating_sub(used);
        let mut job = CommitJob {
            disk: self.context.disk.clone(),
            journal: None,
            segments: Vec::new(),
            logs: Vec::new(),
        };
        for tip in std::mem::take(&mut self.dirty) {
            let Some(log) = self.logs.get_mut(&tip) else { continue };
            let bytes = log.pending_journal_bytes();
            let may_journal = bytes <= budget;
            let Some(commit) = log.take_pending(may_journal) else { continue };
            let size: u64 = commit.entries.iter().map(OutgoingEntry::size).sum();
            assert!(size <= budget || commit.entries.is_empty());
            budget -= size;
            job.logs.push(CommittedLog {
                tip,
                generation: commit.generation,
                end_offset: commit.end_offset,
                is_direct: !commit.segments.is_empty(),
            });
            job.segments.extend(commit.segments);
            entries.extend(commit.entries);
        }
        if !entries.is_empty() {
            job.journal = Some(self.journal.place(entries));
        }
        self.is_commit_in_flight = true;
        Some(job)
    }

    fn take_marks(&mut self) -> Vec<OutgoingEntry> {
        let marks = std::mem::take(&mut self.marks);
        let len = marks.len() * MARK_BYTES;
        // Marks only spare work and sharpen judgement after a crash; they never crowd out appends.
        if marks.is_empty() || (len + 2 * ENTRY_HEADER_BYTES) as u64 > self.journal.room() / 4 {
            return Vec::new();
        }
        let mut payload = FieldWriter::with_capacity(len);
        for mark in &marks {
            payload.partition(&mark.tip).u32(mark.generation).i64(mark.end_offset);
        }
        let target = EntryTarget {
            kind: EntryKind::Marks,
            tip: TopicIdPartition::default(),
            generation: 0,
            resets: false,
            base_offset: 0,
            position: 0,
        };
        vec![OutgoingEntry { target, pieces: vec![Bytes::from(payload.bytes)], len }]
    }

    /// Takes note of a commit that has run. Returns the logs whose durable end has moved, and where
    /// it is now.
    ///
    /// # Errors
    /// [`DirectoryFailed`]: nothing of the commit counts as durable, and nothing ever will again.
    pub fn finish_commit(
        &mut self,
        done: CommitDone,
    ) -> Result<Vec<(TopicIdPartition, Offset)>, DirectoryFailed> {
        assert!(self.is_commit_in_flight);
        self.is_commit_in_flight = false;
        done.result?;
        self.journal.on_written(done.was_journal_synced);
        let mut durable = Vec::with_capacity(done.logs.len());
        for committed in done.logs {
            let Some(log) = self.logs.get_mut(&committed.tip) else { continue };
            let moved = log.on_durable(committed.generation, committed.end_offset);
            let Some(end) = moved else { continue };
            durable.push((committed.tip, end));
            if committed.is_direct {
                self.marks.push(Mark {
                    tip: committed.tip,
                    generation: committed.generation,
                    end_offset: committed.end_offset,
                });
            }
        }
        Ok(durable)
    }
}

/// Reads the payload of a marks entry.
pub(crate) fn decode_marks(payload: &[u8]) -> Vec<Mark> {
    let mut reader = FieldReader::new(payload);
    let mut marks = Vec::new();
    while reader.remaining() >= MARK_BYTES {
        let (Ok(tip), Ok(generation), Ok(end_offset)) =
            (reader.partition(), reader.generation(), reader.i64())
        else {
            break;
        };
        marks.push(Mark { tip, generation, end_offset });
    }
    marks
}

/// Makes the directory and the first segment of a log that begins at `base_offset`. Not synced.
pub(crate) fn new_log<D: Disk>(
    context: &Arc<ShardContext<D>>,
    tip: TopicIdPartition,
    generation: u32,
    base_offset: i64,
    now_ms: i64,
) -> std::io::Result<LogParts<D>> {
    let dir = partition_dir(&tip);
    let path = format!("{dir}/{}", segment_name(base_offset));
    let header = SegmentHeader {
        cluster_id: context.cluster_id,
        tip,
        base_offset,
        generation,
        rewrite: 0,
        covers_end: base_offset,
        created_ms: now_ms,
        resets: true,
        is_rolled: false,
    };
    context.disk.create_dir(&dir)?;
    let file = create_segment_file(&context.disk, &path, &header)?;
    let start = SegmentStart::empty(tip, base_offset, generation);
    let segment = Segment::active(&context.files, path, start);
    segment.adopt_file(file);
    Ok(LogParts {
        tip,
        dir,
        generation,
        is_reset: true,
        segments: vec![segment],
        allocated: u64::from(HEADER_PAGE_BYTES),
        headers_crc: 0,
        first_timestamp: i64::MIN,
        log_start: base_offset,
        log_end: base_offset,
        damaged_from: None,
        damaged_record: None,
        epochs: EpochCache::default(),
        epochs_saved: LeaderEpoch(-1),
        producers: ProducerStates::default(),
        checkpointed: None,
        rolled: Vec::new(),
        high_watermark: -1,
    })
}
