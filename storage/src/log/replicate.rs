//! Appending what a follower fetched: whole batches, byte for byte as the leader has them.
//!
//! Offsets, epochs and CRCs are the leader's. They are checked, because a leader or a wire can be
//! wrong: every batch is whole and its CRC fits, offsets rise from the log's end on (a compacted
//! log has gaps), epochs do not fall. What the leader has judged, sequences and limits, is not
//! judged again. One write serves all batches that go into the same segment.

use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::records::{BatchError, BatchHeader, HEADER_BYTES};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs};

use super::append::may_follow;
use super::{AppendError, Log, PendingBatches};
use crate::file::{DirectoryFailed, Disk, DiskFile};
use crate::scan::{CRC_START, ScannedBatch};

/// What a follower appended. Not durable yet: see `LogShard::finish_commit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedBatches {
    /// How many batches.
    pub batch_count: usize,
    /// Where the log ends now.
    pub log_end: Offset,
}

/// Why fetched batches were not appended. Nothing has changed, unless a variant says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendBatchesError {
    /// The shard has no such log.
    #[error("this shard has no log for the partition")]
    UnknownPartition,
    /// The bytes are not whole, intact batches.
    #[error("byte {position} of what was fetched begins no intact batch: {source}")]
    Batch {
        /// Where in the bytes.
        position: usize,
        /// What is wrong there.
        source: BatchError,
    },
    /// A batch begins below the end of what is before it, or further above than a segment reaches.
    #[error("a batch begins at offset {found}, what is before it ends at {expected}")]
    OffsetGap {
        /// The end of the log, or of the batch before.
        expected: Offset,
        /// The batch's base offset.
        found: Offset,
    },
    /// A batch's leader epoch is older than that of what is before it.
    #[error("the leader epoch {found} is older than {latest}, which has written already")]
    StaleLeaderEpoch {
        /// The newest epoch before the batch.
        latest: LeaderEpoch,
        /// What came.
        found: LeaderEpoch,
    },
    /// There is no room on the disk. Batches that lie in an earlier segment may have been appended:
    /// the log's end says where to go on. Retriable.
    #[error("the disk is full")]
    DiskFull,
    /// The log has damaged bytes and takes no more until it is cut below them.
    #[error("the log is damaged from offset {damaged_from} on")]
    Damaged {
        /// The first offset that cannot be served.
        damaged_from: Offset,
    },
    /// A write or sync failed; see [`DirectoryFailed`].
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
}

/// A batch within the fetched bytes.
struct Fetched {
    at: usize,
    header: BatchHeader,
}

impl<D: Disk> Log<D> {
    /// Appends all batches in `records`. They can be read at once, and are durable after the next
    /// commit.
    pub(crate) fn append_batches(
        &mut self,
        records: &Bytes,
        now: TimestampMs,
    ) -> Result<AppendedBatches, AppendBatchesError> {
        self.context.disk.latch().check()?;
        if let Some(damaged_from) = self.damaged_from() {
            return Err(AppendBatchesError::Damaged { damaged_from });
        }
        let batches = self.check_fetched(records)?;
        let mut rest = batches.as_slice();
        while let Some(first) = rest.first() {
            if self.must_roll(0, &first.header, now.0) {
                self.roll(now.0).map_err(explain)?;
            }
            let (run, later) = rest.split_at(self.run_length(rest, now));
            self.write_run(records, run, now)?;
            rest = later;
        }
        Ok(AppendedBatches { batch_count: batches.len(), log_end: self.log_end() })
    }

    fn check_fetched(&self, records: &Bytes) -> Result<Vec<Fetched>, AppendBatchesError> {
        let mut batches = Vec::new();
        let mut at = 0;
        let mut expected = self.log_end();
        let mut latest = self.latest_epoch().map(|latest| latest.epoch);
        while at < records.len() {
            let header = check_batch(&records[at..])
                .map_err(|source| AppendBatchesError::Batch { position: at, source })?;
            if !may_follow(&header, expected) {
                return Err(AppendBatchesError::OffsetGap { expected, found: header.base_offset });
            }
            let found = header.partition_leader_epoch;
            if let Some(latest) = latest
                && found < latest
            {
                return Err(AppendBatchesError::StaleLeaderEpoch { latest, found });
            }
            batches.push(Fetched { at, header });
            at += header.size();
            expected = header.next_offset();
            latest = Some(found);
        }
        Ok(batches)
    }

    /// How many of the batches go into the active segment; the first one does.
    fn run_length(&self, batches: &[Fetched], now: TimestampMs) -> usize {
        let mut unwritten = batches[0].header.size() as u64;
        for (number, batch) in batches.iter().enumerate().skip(1) {
            if self.must_roll(unwritten, &batch.header, now.0) {
                return number;
            }
            unwritten += batch.header.size() as u64;
        }
        batches.len()
    }

    /// Writes batches that lie one behind the other, as one piece.
    fn write_run(
        &mut self,
        records: &Bytes,
        run: &[Fetched],
        now: TimestampMs,
    ) -> Result<(), AppendBatchesError> {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let bytes = records.slice(first.at..last.at + last.header.size());
        let position = self.active.end_position();
        let end = position + bytes.len() as u64;
        self.allocate_to(end).map_err(explain)?;
        let file = self.active.file().map_err(|error| self.failed("open", &error))?;
        if let Err(error) = file.write_at(position, &[&bytes]) {
            return Err(explain(self.undo_write(&file, position, end, &error)));
        }
        for batch in run {
            let mut head = [0; HEADER_BYTES];
            head.copy_from_slice(&records[batch.at..batch.at + HEADER_BYTES]);
            let position = position + (batch.at - first.at) as u64;
            self.note_appended(&ScannedBatch { position, header: batch.header }, &head, now);
        }
        self.keep_for_commit(PendingBatches {
            segment: Arc::clone(&self.active),
            position,
            next_offset: last.header.next_offset().0,
            head: Bytes::new(),
            records: bytes,
        });
        Ok(())
    }
}

/// The header of the whole batch at the start of `bytes`, whose CRC fits.
fn check_batch(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let Some(batch) = bytes.get(..header.size()) else {
        return Err(BatchError::Incomplete { found: bytes.len(), needed: header.size() });
    };
    let computed = crc32c::crc32c(&batch[CRC_START..]);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

/// What rolling, allocating and writing can answer.
fn explain(error: AppendError) -> AppendBatchesError {
    match error {
        AppendError::DirectoryFailed(failed) => AppendBatchesError::DirectoryFailed(failed),
        _ => AppendBatchesError::DiskFull,
    }
}
