//! Work off the append path: checkpoints, sealing, allocation ahead, retention, compaction, and
//! taking away files that nobody reads any more.
//!
//! `maintain` decides on the shard's thread and hands out jobs; the jobs do the writing on another
//! thread; `finish_maintenance` takes note. At most one checkpoint and one compaction are out at a
//! time. Retention and compaction touch only segments behind the last durable checkpoint, so that
//! no recovery can need what they take away.

mod checkpoint_job;
mod segments;

use std::io;
use std::sync::Arc;

use varve_protocol::vocabulary::{TimestampMs, TopicIdPartition};

use self::checkpoint_job::{CheckpointJob, SealWork, SnapshotWrite};
pub(super) use self::segments::SettleJob;
use self::segments::{allocate, discard, prepare, retain};
use super::{DeadLog, LogShard};
use crate::checkpoint::CheckpointEncoder;
use crate::commit::{WrittenSegments, sync_segments};
use crate::compaction::{CompactedLog, CompactionJob};
use crate::file::{DirectoryFailed, Disk, FailureLatch};
use crate::layout::snapshot_name;
use crate::log::{Discarded, PreparedSegment, TruncationGuard, UNSAVED_EPOCHS_MAX, is_full};
use crate::partition_state::StateWrite;
use crate::segment::Segment;

/// After a checkpoint that found no room, the next one waits for so long.
const POSTPONED_MS: i64 = 1_000;

/// Directories of deleted logs that one turn removes; freeing a file can take milliseconds.
const REMOVALS_MAX: usize = 256;

/// A piece of maintenance. Run it on any thread, then give the result to
/// `LogShard::finish_maintenance`.
#[derive(Debug)]
#[must_use = "the shard waits for the result"]
pub struct MaintenanceJob<D: Disk> {
    disk: D,
    work: Work<D>,
}

/// A job that has run, well or not.
#[derive(Debug)]
#[must_use = "the shard has to be told"]
pub struct MaintenanceDone<D: Disk> {
    result: Result<Outcome<D>, DirectoryFailed>,
    is_checkpoint: bool,
    is_compaction: bool,
    is_sync: bool,
    tally: MaintenanceTally,
}

/// What a piece of maintenance did, to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceTally {
    /// Segments that retention, or the log's start, took away.
    pub segments_deleted: u64,
    /// Rounds of compaction.
    pub compaction_runs: u64,
    /// Bytes of records that compaction left out.
    pub bytes_reclaimed: u64,
}

#[derive(Debug)]
enum Work<D: Disk> {
    Checkpoint(CheckpointJob<D>),
    Allocate {
        segment: Arc<Segment<D>>,
        tip: TopicIdPartition,
        len: u64,
    },
    Prepare {
        path: String,
        tip: TopicIdPartition,
        allocated: u64,
    },
    Retain {
        state: StateWrite,
        dir: String,
        guard: TruncationGuard,
        log_start: i64,
        segments: Vec<Arc<Segment<D>>>,
    },
    Remove {
        paths: Vec<String>,
    },
    Settle(SettleJob<D>),
    Compact(CompactionJob<D>),
    /// What logs acknowledged from the page cache.
    Sync {
        segments: WrittenSegments<D>,
        logs: Vec<TopicIdPartition>,
    },
}

#[derive(Debug)]
enum Outcome<D: Disk> {
    Nothing,
    Checkpoint {
        sequence: u64,
        number: u64,
        logs: Vec<(TopicIdPartition, u32, i64)>,
    },
    Allocated {
        tip: TopicIdPartition,
        base_offset: i64,
        generation: u32,
        len: u64,
    },
    Prepared {
        tip: TopicIdPartition,
        prepared: Option<PreparedSegment<D>>,
    },
    Discarded(Vec<Discarded<D>>),
    Synced(Vec<TopicIdPartition>),
    /// The disk was full; the seals wait for the next checkpoint.
    Postponed(Vec<SealWork<D>>),
    Compacted(Box<CompactedLog<D>>),
}

impl<D: Disk> LogShard<D> {
    /// Whether [`Self::maintain`] should be called now rather than with its next regular turn:
    /// the journal waits for a checkpoint.
    #[must_use]
    pub fn is_maintenance_due(&self) -> bool {
        !self.is_checkpoint_in_flight
            && self.passed_ms >= self.checkpoint_not_before_ms
            && (self.journal.wants_checkpoint()
                || self.appended_bytes >= self.options.checkpoint_bytes_max)
    }

    /// What there is to do off the append path. Call it about once a second, and whenever
    /// [`Self::is_maintenance_due`] says so.
    pub fn maintain(&mut self, now: TimestampMs) -> Vec<MaintenanceJob<D>> {
        self.note_time(now);
        if self.context.disk.latch().is_closed() {
            return Vec::new();
        }
        let mut work = Vec::new();
        for log in self.logs.values_mut() {
            log.expire_producers(now.0);
            prepare(log, self.options.fast_append_bytes, &mut work);
            retain(log, now.0, &mut work);
            self.graveyard.extend(log.take_discarded());
        }
        if let Some(job) = self.choose_compaction(now.0) {
            self.is_compaction_in_flight = true;
            work.push(Work::Compact(job));
        }
        work.extend(std::mem::take(&mut self.settling).into_iter().map(Work::Settle));
        match self.take_checkpoint() {
            Some(job) => work.push(Work::Checkpoint(job)),
            None => work.extend(self.sync_cached()),
        }
        let paths = self.removable();
        if !paths.is_empty() {
            work.push(Work::Remove { paths });
        }
        let disk = &self.context.disk;
        work.into_iter().map(|work| MaintenanceJob { disk: disk.clone(), work }).collect()
    }

    /// `write.caching` acknowledges before anything is synced; what it leaves behind is synced with
    /// every turn, so that a power cut takes about a second of it and not a checkpoint's interval.
    fn sync_cached(&mut self) -> Option<Work<D>> {
        if self.is_sync_in_flight {
            return None;
        }
        let (mut segments, mut logs) = (Vec::new(), Vec::new());
        for (tip, log) in &self.logs {
            let unsynced =
                if log.config().write_caching { log.unsynced_segments() } else { continue };
            if !unsynced.is_empty() {
                segments.extend(unsynced);
                logs.push(*tip);
            }
        }
        self.is_sync_in_flight = !logs.is_empty();
        self.is_sync_in_flight.then_some(Work::Sync { segments, logs })
    }

    fn take_checkpoint(&mut self) -> Option<CheckpointJob<D>> {
        if self.is_checkpoint_in_flight || self.passed_ms < self.checkpoint_not_before_ms {
            return None;
        }
        let is_changed = self.is_set_changed || self.logs.values().any(|log| log.is_changed);
        let since = self.passed_ms - self.checkpoint_taken_ms;
        let is_old = is_changed && since >= self.options.checkpoint_interval_ms;
        if !is_old && !self.is_maintenance_due() {
            return None;
        }
        self.is_checkpoint_in_flight = true;
        self.checkpoint_taken_ms = self.passed_ms;
        self.checkpoint_number += 1;
        self.appended_bytes = 0;
        self.is_set_changed = false;
        Some(self.snapshot())
    }

    fn snapshot(&mut self) -> CheckpointJob<D> {
        let sequence = self.journal.sequence();
        let next_generation =
            self.context.next_generation.load(std::sync::atomic::Ordering::Relaxed);
        let mut encoder =
            CheckpointEncoder::new(sequence, next_generation, self.options.shard_count);
        let mut job = CheckpointJob {
            shard: self.id,
            number: self.checkpoint_number,
            sequence,
            seals: Vec::new(),
            segments: Vec::new(),
            states: Vec::new(),
            snapshots: Vec::new(),
            encoded: Vec::new(),
            logs: Vec::new(),
        };
        for (tip, log) in &mut self.logs {
            if log.unsaved_epochs() > UNSAVED_EPOCHS_MAX {
                job.states.push(log.prepare_state_write());
            }
            if log.has_many_producers() && (log.is_changed || log.checkpointed.is_none()) {
                job.snapshots.push(SnapshotWrite {
                    path: format!("{}/{}", log.dir(), snapshot_name(log.log_end().0)),
                    content: log.producers_snapshot(),
                    guard: log.guard().clone(),
                    generation: log.generation(),
                });
            }
            log.is_changed = false;
            encoder.push(&log.record());
            job.segments.extend(log.unsynced_segments());
            let (guard, generation) = (log.guard().clone(), log.generation());
            let seal = |rolled| SealWork { rolled, guard: guard.clone(), generation };
            job.seals.extend(log.take_rolled().into_iter().map(seal));
            job.logs.push((*tip, log.generation(), log.active().base_offset));
        }
        job.encoded = encoder.finish();
        job
    }

    /// Takes note of a job that has run.
    ///
    /// # Errors
    /// [`DirectoryFailed`] once a write or sync has failed.
    pub fn finish_maintenance(&mut self, done: MaintenanceDone<D>) -> Result<(), DirectoryFailed> {
        if done.is_checkpoint {
            self.is_checkpoint_in_flight = false;
        }
        if done.is_compaction {
            self.is_compaction_in_flight = false;
        }
        if done.is_sync {
            self.is_sync_in_flight = false;
        }
        match done.result? {
            Outcome::Nothing => {}
            Outcome::Synced(logs) => {
                for tip in logs {
                    if let Some(log) = self.logs.get_mut(&tip) {
                        log.drop_synced();
                    }
                }
            }
            Outcome::Checkpoint { sequence, number, logs } => {
                self.journal.on_checkpoint(sequence);
                self.checkpoints_done = number;
                for (tip, generation, active_base) in logs {
                    let Some(log) = self.logs.get_mut(&tip) else { continue };
                    log.drop_synced();
                    if log.generation() == generation {
                        log.checkpointed = Some((generation, active_base));
                    }
                }
            }
            Outcome::Allocated { tip, base_offset, generation, len } => {
                if let Some(log) = self.logs.get_mut(&tip) {
                    log.on_allocated(base_offset, generation, len);
                }
            }
            Outcome::Prepared { tip, prepared } => {
                if let Some(log) = self.logs.get_mut(&tip) {
                    log.on_prepared(prepared);
                }
            }
            Outcome::Discarded(discarded) => self.graveyard.extend(discarded),
            Outcome::Postponed(seals) => {
                self.checkpoint_not_before_ms = self.passed_ms.saturating_add(POSTPONED_MS);
                for SealWork { rolled, generation, .. } in seals {
                    if let Some(log) = self.logs.get_mut(&rolled.segment.tip) {
                        log.give_back_rolled(rolled, generation);
                    }
                }
            }
            Outcome::Compacted(compacted) => self.finish_compaction(*compacted)?,
        }
        Ok(())
    }

    fn finish_compaction(&mut self, mut compacted: CompactedLog<D>) -> Result<(), DirectoryFailed> {
        self.paused_compaction = compacted.rest.take();
        let Some(log) = self.logs.get_mut(&compacted.tip) else { return Ok(()) };
        let installed = compacted.install(log, self.passed_ms).map_err(|error| {
            fail(self.context.disk.latch(), "installing a compacted segment", &error)
        })?;
        if !installed.is_empty() {
            let (dir, guard) = (log.dir().to_owned(), log.guard().clone());
            self.settling.push(SettleJob { dir, guard, installed });
        }
        Ok(())
    }

    fn choose_compaction(&mut self, now_ms: i64) -> Option<CompactionJob<D>> {
        if self.is_compaction_in_flight {
            return None;
        }
        if let Some(paused) = self.paused_compaction.take()
            && self.logs.get(&paused.tip).is_some_and(|log| log.generation() == paused.generation)
        {
            return Some(*paused);
        }
        let passed_ms = self.passed_ms;
        let candidates = self
            .logs
            .values()
            .filter(|log| log.config().cleanup.compact && passed_ms >= log.compaction_not_before);
        let mut best: Option<(f64, TopicIdPartition)> = None;
        for log in candidates {
            let Some(ratio) = crate::compaction::dirty_ratio(log, now_ms) else { continue };
            if best.is_none_or(|(highest, _)| ratio > highest) {
                best = Some((ratio, log.partition()));
            }
        }
        let log = self.logs.get_mut(&best?.1)?;
        CompactionJob::take(log, &self.context, now_ms)
    }

    /// Directories of logs that an earlier run deleted; maintenance removes them.
    pub(crate) fn bury_dirs(&mut self, paths: Vec<String>) {
        let dead = |path| DeadLog { path, segments: Vec::new(), after_checkpoint: 0 };
        self.dead_logs.extend(paths.into_iter().map(dead));
    }

    /// Files of deleted logs and segments over which no slice is any more, not more of them than
    /// one turn should take.
    fn removable(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        let is_free = |segment: &Arc<Segment<D>>| Arc::strong_count(segment) == 1;
        self.graveyard.retain(|discarded| {
            let is_free = is_free(&discarded.segment);
            if is_free {
                paths.push(discarded.path.clone());
            }
            !is_free
        });
        let checkpoints_done = self.checkpoints_done;
        self.dead_logs.retain(|dead| {
            let is_free = paths.len() < REMOVALS_MAX
                && dead.after_checkpoint <= checkpoints_done
                && dead.segments.iter().all(is_free);
            if is_free {
                paths.push(dead.path.clone());
            }
            !is_free
        });
        paths
    }

    /// Makes everything durable and writes a checkpoint, so that the next open has nothing to
    /// replay. For a clean shutdown; the shard can go on afterwards.
    ///
    /// # Errors
    /// [`DirectoryFailed`].
    ///
    /// # Panics
    /// If a commit is in flight: finish it first.
    pub fn close(&mut self) -> Result<(), DirectoryFailed> {
        assert!(!self.is_commit_in_flight);
        if let Some(job) = self.take_commit() {
            let done = job.run();
            let _ = self.finish_commit(done)?;
        }
        if self.is_checkpoint_in_flight {
            // Its result will not come any more; the one that follows covers it.
            self.is_checkpoint_in_flight = false;
        }
        self.checkpoint_number += 1;
        let work = Work::Checkpoint(self.snapshot());
        let done = MaintenanceJob { disk: self.context.disk.clone(), work }.run();
        self.finish_maintenance(done)
    }
}

impl<D: Disk> MaintenanceDone<D> {
    /// What was done.
    #[must_use]
    pub fn tally(&self) -> MaintenanceTally {
        self.tally
    }
}

impl<D: Disk> MaintenanceJob<D> {
    /// Does the work.
    pub fn run(self) -> MaintenanceDone<D> {
        let is_checkpoint = matches!(self.work, Work::Checkpoint(_));
        let is_compaction = matches!(self.work, Work::Compact(_));
        let is_sync = matches!(self.work, Work::Sync { .. });
        let mut tally = MaintenanceTally::default();
        let disk = self.disk;
        let ran = match self.work {
            Work::Checkpoint(job) => match job.run(&disk) {
                // Nothing depends on a checkpoint but how much is read again; it can wait.
                Err(error) if is_full(&error) => Ok(Outcome::Postponed(job.seals)),
                Err(error) => Err(error),
                Ok(()) => Ok(Outcome::Checkpoint {
                    sequence: job.sequence,
                    number: job.number,
                    logs: job.logs,
                }),
            },
            Work::Allocate { segment, tip, len } => allocate(&segment, tip, len),
            Work::Prepare { path, tip, allocated } => {
                match PreparedSegment::make(&disk, &path, allocated) {
                    Ok(prepared) => Ok(Outcome::Prepared { tip, prepared: Some(prepared) }),
                    Err(error) if disk.latch().is_closed() => Err(error),
                    // No room, or the log is gone: the roll makes its file itself.
                    Err(_) => Ok(Outcome::Prepared { tip, prepared: None }),
                }
            }
            Work::Retain { state, dir, guard, log_start, segments } => {
                tally.segments_deleted = segments.len() as u64;
                let mut written = state.run(&disk);
                if written.as_ref().is_err_and(is_full) {
                    // Freeing space must not fail for want of space: what is derived goes first.
                    for segment in &segments {
                        let _ = disk.remove(&segment.index_path());
                    }
                    written = state.run(&disk);
                }
                match checkpoint_job::ignore_deleted(written) {
                    Err(error) if !is_full(&error) => Err(error),
                    // Without room even now, the next checkpoint says where the log begins.
                    _ => Ok(discard(&disk, (&dir, &guard), log_start, segments)),
                }
            }
            Work::Remove { paths } => {
                for path in paths {
                    // What stays is found and taken away by the next open.
                    let _ = disk.remove(&path);
                }
                Ok(Outcome::Nothing)
            }
            Work::Settle(job) => job.run(&disk),
            Work::Compact(job) => {
                let compacted = job.run();
                tally.compaction_runs = 1;
                tally.bytes_reclaimed = compacted.bytes_reclaimed();
                Ok(Outcome::Compacted(Box::new(compacted)))
            }
            Work::Sync { segments, logs } => {
                sync_segments(&disk, &segments, 1).map(|()| Outcome::Synced(logs))
            }
        };
        let result = ran.map_err(|error| fail(disk.latch(), "maintenance", &error));
        MaintenanceDone { result, is_checkpoint, is_compaction, is_sync, tally }
    }
}

fn fail(latch: &FailureLatch, what: &str, error: &io::Error) -> DirectoryFailed {
    latch.close(what, error);
    latch.failure().expect("the latch was just closed")
}
