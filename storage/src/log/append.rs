//! Appending: judge the batch, stamp it, write it to the active segment, publish it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use varve_protocol::records::{BatchHeader, HEADER_BYTES, TimestampType, ValidatedBatch};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs};

use super::{Log, PendingBatches, RolledSegment};
use crate::file::{DirectoryFailed, Disk, DiskFile};
use crate::producer_state::{SequenceError, SequenceVerdict};
use crate::scan::{ScannedBatch, headers_crc_append};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal};

/// Space is allocated in multiples of this.
const BLOCK_BYTES: u64 = 4096;

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// The partition's leader, for a client: offsets are assigned, everything is judged.
    Leader,
    /// A follower, for what it fetched: offsets and epoch stay, nothing is judged again.
    Follower,
    /// A coordinator of this broker: offsets are assigned; control batches are its business.
    Coordinator,
}

/// Where a batch went. Not durable yet: see `LogShard::finish_commit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The time that all records got, if the log's timestamps are those of the append.
    pub log_append_time: Option<TimestampMs>,
    /// Where the log begins.
    pub log_start: Offset,
    /// The batch is here already; these are the offsets that it got then. It is durable once the
    /// log's durable end has passed them.
    pub duplicate: bool,
}

/// Why a batch was not appended. Nothing has changed, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The shard has no such log.
    #[error("this shard has no log for the partition")]
    UnknownPartition,
    /// The producer left out sequences, or repeats what is not remembered any more.
    #[error("the producer's sequence is {found}, {expected} was expected")]
    OutOfOrderSequence {
        /// What would have followed.
        expected: i32,
        /// What came.
        found: i32,
    },
    /// A newer instance of the producer has written.
    #[error("the producer's epoch is {found}, its newest is {current}")]
    InvalidProducerEpoch {
        /// The newest epoch.
        current: i16,
        /// What came.
        found: i16,
    },
    /// The batch is larger than the topic or a segment allows.
    #[error("the batch has {size} bytes, at most {size_max} are allowed")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// The bound that it breaks.
        size_max: usize,
    },
    /// A record's time is too far from now.
    #[error("a record's timestamp {timestamp} is too far from the broker's time {now}")]
    InvalidTimestamp {
        /// The record's.
        timestamp: TimestampMs,
        /// The broker's.
        now: TimestampMs,
    },
    /// The log is compacted and a record has no key.
    #[error("a record of a compacted topic has no key")]
    KeylessRecord,
    /// The leader epoch is older than the newest in the log.
    #[error("the leader epoch {found} is older than {latest}, which has written already")]
    StaleLeaderEpoch {
        /// The newest epoch of the log.
        latest: LeaderEpoch,
        /// What came.
        found: LeaderEpoch,
    },
    /// A follower's batch begins below the log's end, or further above than a segment reaches.
    #[error("the batch begins at offset {found}, the log ends at {expected}")]
    OffsetGap {
        /// The log's end.
        expected: Offset,
        /// The batch's base offset.
        found: Offset,
    },
    /// There is no room on the disk. Retriable: the log goes on when there is.
    #[error("the disk is full")]
    DiskFull,
    /// The log has damaged bytes and takes no more.
    #[error("the log is damaged from offset {damaged_from} on")]
    Damaged {
        /// The first offset that cannot be served.
        damaged_from: Offset,
    },
    /// A write or sync failed; see [`DirectoryFailed`].
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
}

/// A batch as it goes into the segment.
struct Stamped {
    head: [u8; HEADER_BYTES],
    header: BatchHeader,
    log_append_time: Option<TimestampMs>,
}

impl<D: Disk> Log<D> {
    /// Appends a batch: it can be read at once, and is durable after the next commit.
    pub(crate) fn append(
        &mut self,
        batch: &ValidatedBatch,
        leader_epoch: LeaderEpoch,
        origin: AppendOrigin,
        now: TimestampMs,
    ) -> Result<Appended, AppendError> {
        self.context.disk.latch().check()?;
        if let Some(damaged_from) = self.damaged_from() {
            return Err(AppendError::Damaged { damaged_from });
        }
        let log_start = self.log_start();
        if origin != AppendOrigin::Follower {
            self.check_limits(batch, origin, now)?;
            match self.producers.judge(&batch.header) {
                Ok(SequenceVerdict::Append) => {}
                Ok(SequenceVerdict::Duplicate(first)) => {
                    return Ok(Appended {
                        base_offset: Offset(first.base_offset),
                        last_offset: Offset(first.last_offset),
                        log_append_time: self.append_time(TimestampMs(first.timestamp)),
                        log_start,
                        duplicate: true,
                    });
                }
                Err(SequenceError::OutOfOrder { expected, found }) => {
                    return Err(AppendError::OutOfOrderSequence { expected, found });
                }
                Err(SequenceError::OldEpoch { current, found }) => {
                    return Err(AppendError::InvalidProducerEpoch { current, found });
                }
            }
        }
        let stamped = self.stamp(batch, leader_epoch, origin, now)?;
        self.write(batch, &stamped, now)?;
        let header = &stamped.header;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: stamped.log_append_time,
            log_start,
            duplicate: false,
        })
    }

    fn append_time(&self, time: TimestampMs) -> Option<TimestampMs> {
        (self.config.message_timestamp_type == TimestampType::LogAppendTime).then_some(time)
    }

    fn check_limits(
        &self,
        batch: &ValidatedBatch,
        origin: AppendOrigin,
        now: TimestampMs,
    ) -> Result<(), AppendError> {
        let config = &self.config;
        let size = batch.bytes.len();
        let size_max = config.max_message_bytes.min(config.segment_bytes) as usize;
        if size > size_max && origin == AppendOrigin::Leader {
            return Err(AppendError::TooLarge { size, size_max });
        }
        if config.cleanup.compact && batch.has_keyless && origin == AppendOrigin::Leader {
            return Err(AppendError::KeylessRecord);
        }
        let by_producer = config.message_timestamp_type == TimestampType::CreateTime;
        if by_producer && origin == AppendOrigin::Leader && !batch.header.attributes.is_control() {
            let before = now.0.saturating_sub(batch.min_timestamp.0);
            let after = batch.max_timestamp.0.saturating_sub(now.0);
            // −1 means that the record has no time.
            let has_time = batch.min_timestamp.0 != -1;
            if has_time && before > config.message_timestamp_before_max_ms {
                return Err(AppendError::InvalidTimestamp { timestamp: batch.min_timestamp, now });
            }
            if after > config.message_timestamp_after_max_ms {
                return Err(AppendError::InvalidTimestamp { timestamp: batch.max_timestamp, now });
            }
        }
        Ok(())
    }

    fn stamp(
        &self,
        batch: &ValidatedBatch,
        leader_epoch: LeaderEpoch,
        origin: AppendOrigin,
        now: TimestampMs,
    ) -> Result<Stamped, AppendError> {
        let log_end = self.log_end();
        let (head, found, log_append_time) = if origin == AppendOrigin::Follower {
            let found = batch.header.base_offset;
            if !may_follow(&batch.header, log_end) {
                return Err(AppendError::OffsetGap { expected: log_end, found });
            }
            (batch.header.encode(), batch.header.partition_leader_epoch, None)
        } else {
            let time = self.append_time(now);
            (batch.stamped_header(log_end, leader_epoch, time), leader_epoch, time)
        };
        let latest = self.shared.epochs.read().latest();
        if let Some(latest) = latest
            && found < latest.epoch
        {
            return Err(AppendError::StaleLeaderEpoch { latest: latest.epoch, found });
        }
        let header = BatchHeader::parse(&head).expect("a stamped header is a header");
        Ok(Stamped { head, header, log_append_time })
    }

    fn write(
        &mut self,
        batch: &ValidatedBatch,
        stamped: &Stamped,
        now: TimestampMs,
    ) -> Result<(), AppendError> {
        let size = batch.bytes.len();
        assert!(size == stamped.header.size());
        if self.must_roll(0, &stamped.header, now.0) {
            self.roll(now.0)?;
        }
        let position = self.active.end_position();
        let end = position + size as u64;
        self.allocate_to(end)?;
        let records = batch.bytes.slice(HEADER_BYTES..);
        let file = self.active.file().map_err(|error| self.failed("open", &error))?;
        if let Err(error) = file.write_at(position, &[&stamped.head, &records]) {
            return Err(self.undo_write(&file, position, end, &error));
        }
        self.note_appended(&ScannedBatch { position, header: stamped.header }, &stamped.head, now);
        self.keep_for_commit(PendingBatches {
            segment: Arc::clone(&self.active),
            position,
            next_offset: stamped.header.next_offset().0,
            head: Bytes::copy_from_slice(&stamped.head),
            records,
        });
        Ok(())
    }

    /// Publishes a batch that lies in the active segment now, and all that follows from it.
    pub(super) fn note_appended(
        &mut self,
        batch: &ScannedBatch,
        head: &[u8; HEADER_BYTES],
        now: TimestampMs,
    ) {
        let header = &batch.header;
        self.headers_crc = headers_crc_append(self.headers_crc, head);
        self.active.publish(batch, self.headers_crc, self.config.index_interval_bytes);
        if self.first_timestamp == i64::MIN {
            self.first_timestamp = header.base_timestamp.0.max(0);
            self.first_append_ms = now.0;
        }
        self.producers.apply(header, now.0);
        self.producers.bound(self.config.producers_max);
        let epoch = header.partition_leader_epoch;
        if self.shared.epochs.read().latest().is_none_or(|latest| latest.epoch < epoch) {
            self.shared.epochs.write().assign(epoch, header.base_offset);
        }
        self.shared.log_end.store(header.next_offset().0, Ordering::Release);
        self.is_changed = true;
        self.appended_bytes += header.size() as u64;
    }

    pub(super) fn keep_for_commit(&mut self, written: PendingBatches<D>) {
        if self.unsynced.last().is_none_or(|last| !Arc::ptr_eq(last, &self.active)) {
            self.unsynced.push(Arc::clone(&self.active));
        }
        if self.config.write_caching {
            // Acknowledged from the page cache, by choice; the checkpoint syncs it.
            if !self.has_pending {
                self.shared.durable_end.store(self.log_end().0, Ordering::Release);
                return;
            }
        }
        self.has_pending = true;
        self.pending_bytes += written.head.len() + written.records.len();
        if self.is_pending_direct || self.pending_bytes > self.context.journal_append_bytes_max {
            self.is_pending_direct = true;
            self.pending = Vec::new();
            return;
        }
        self.pending.push(written);
    }

    /// Whether there is something that the next commit must make durable.
    pub(crate) fn has_pending(&self) -> bool {
        self.has_pending
    }

    /// A write that did not come through was never published; what is there of it must not be
    /// taken for a batch later.
    pub(super) fn undo_write(
        &self,
        file: &D::File,
        position: u64,
        end: u64,
        error: &io::Error,
    ) -> AppendError {
        if is_full(error) {
            let to = file.len().unwrap_or(end).min(end);
            match file.erase(position, to, false) {
                Ok(()) => return AppendError::DiskFull,
                Err(error) => return self.failed("erase", &error).into(),
            }
        }
        self.failed("write", error).into()
    }

    /// Makes room up to `end`. The step grows with the segment: an idle partition has a page or
    /// two, a busy one takes megabytes at once, and maintenance allocates ahead of a fast one.
    pub(super) fn allocate_to(&mut self, end: u64) -> Result<(), AppendError> {
        if end <= self.allocated {
            return Ok(());
        }
        let step_max = u64::from(self.context.allocation_step_bytes_max);
        let used = self.active.size_bytes();
        let limit = u64::from(self.segment_bytes()) + u64::from(HEADER_PAGE_BYTES);
        let limit = limit.next_multiple_of(BLOCK_BYTES);
        let exact = end.next_multiple_of(BLOCK_BYTES);
        let wished = exact.max((end + used.min(step_max)).next_multiple_of(BLOCK_BYTES).min(limit));
        let file = self.active.file().map_err(|error| self.failed("open", &error))?;
        let mut allocated = file.allocate(wished).map(|()| wished);
        if allocated.as_ref().is_err_and(is_full) && wished > exact {
            allocated = file.allocate(exact).map(|()| exact);
        }
        match allocated {
            Ok(allocated) => {
                self.allocated = allocated;
                Ok(())
            }
            Err(error) if is_full(&error) => Err(AppendError::DiskFull),
            Err(error) => Err(self.failed("allocation", &error).into()),
        }
    }

    /// Whether a batch belongs into a new segment, when `unwritten` bytes are about to be written
    /// to the active one before it.
    pub(super) fn must_roll(&self, unwritten: u64, header: &BatchHeader, now_ms: i64) -> bool {
        let used = self.active.size_bytes() + unwritten;
        if used == 0 {
            return false;
        }
        let config = &self.config;
        let size = used + header.size() as u64;
        let is_full = size > u64::from(self.segment_bytes());
        let span = header.next_offset().0 - self.active.base_offset;
        let is_wide = span > i64::from(i32::MAX);
        let is_old = now_ms.saturating_sub(self.first_append_ms) >= config.segment_ms;
        let is_index_full = self.active.index_bytes() >= config.segment_index_bytes as usize;
        is_full || is_wide || is_old || is_index_full
    }

    /// The bound of a segment's batches; positions and offsets within a segment are 32 bits wide.
    pub(crate) fn segment_bytes(&self) -> u32 {
        self.config.segment_bytes.min(i32::MAX.unsigned_abs())
    }

    /// Closes the active segment and begins the next one at the log's end.
    pub(crate) fn roll(&mut self, now_ms: i64) -> Result<(), AppendError> {
        let base_offset = self.log_end().0;
        let path = self.segment_path(base_offset);
        let created = self.create_segment(base_offset, now_ms, &path, self.is_reset);
        let (file, allocated) = match created {
            Ok(created) => created,
            Err(error) if is_full(&error) => return Err(AppendError::DiskFull),
            Err(error) => return Err(self.failed("new segment", &error).into()),
        };
        let old = Arc::clone(&self.active);
        old.seal();
        self.rolled.push(RolledSegment {
            seal: self.seal_of_active(),
            snapshot: self.producers.encode_snapshot(base_offset, self.generation),
            segment: old,
            is_cut: false,
        });
        self.begin_segment(file, base_offset, now_ms);
        self.allocated = allocated;
        self.is_changed = true;
        Ok(())
    }

    fn seal_of_active(&self) -> Seal {
        let (end_position, next_offset) = self.active.end();
        Seal {
            end_position,
            next_offset,
            max_timestamp: self.active.max_timestamp(),
            first_timestamp: self.first_timestamp,
            headers_crc: self.headers_crc,
        }
    }

    /// Drops what waits for the next commit at or past an offset that is cut off.
    pub(super) fn drop_pending_from(&mut self, offset: i64) {
        self.pending.retain(|batch| batch.next_offset <= offset);
        let bytes = self.pending.iter().map(|batch| batch.head.len() + batch.records.len());
        self.pending_bytes = bytes.sum();
    }
}

/// Whether a batch with its offsets may come next in a log: not below the end, and not so far above
/// that its offset does not fit into a segment that begins at the end.
pub(super) fn may_follow(header: &BatchHeader, log_end: Offset) -> bool {
    let reach = header.next_offset().0.checked_sub(log_end.0);
    header.last_offset_delta >= 0
        && header.base_offset >= log_end
        && header.next_offset() > header.last_offset()
        && reach.is_some_and(|reach| reach <= i64::from(i32::MAX))
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
