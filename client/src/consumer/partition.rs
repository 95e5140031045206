//! One assigned partition: where it stands, what was fetched ahead, what is processed.
//!
//! ```text
//! Committed ──> Fetching <──> Validating      (a new leader: is the position still in its log?)
//!     └──> Reset ──┘  │
//!           ^         ├──> Reset              (out of range, or cut below the position)
//!           └─ seek   └──> Failed             (until a seek)
//! ```

use super::chunk::{Chunk, Reading};
use super::marks::Marks;
use crate::admin::OffsetSpec;
use crate::clock::Instant;
use std::collections::VecDeque;

/// What a partition waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The group's committed offset.
    Committed,
    /// An offset from the partition's leader.
    Reset(OffsetSpec),
    /// The leader's word that the position is in its log.
    Validating,
    /// Nothing: it is fetched.
    Fetching,
    /// A seek, after an error that was told.
    Failed,
}

/// An assigned partition. A value.
#[derive(Debug)]
pub(super) struct Partition {
    /// Changes with assignment, seek, and where a position is lost or set back: what was begun under another token is
    /// worthless.
    pub(super) token: u64,
    pub(super) phase: Phase,
    pub(super) is_paused: bool,
    /// It is being taken away: nothing is delivered any more.
    pub(super) is_leaving: bool,
    /// The next offset to fetch, and the epoch of the record before it; -1 if unknown.
    pub(super) fetch_offset: i64,
    pub(super) fetch_epoch: i32,
    /// The leader epoch under which `fetch_offset` was found to be in the log.
    pub(super) validated_under: i32,
    /// Behind the last record that was returned; -1 before there is a position.
    pub(super) consumed: i64,
    /// Behind the last record that was returned before the latest call.
    pub(super) polled: i64,
    pub(super) marks: Marks,
    /// Starts of leader epochs among returned records, for commits.
    epochs: Vec<(i64, i32)>,
    pub(super) committed: Option<i64>,
    pub(super) chunks: VecDeque<Chunk>,
    /// Bytes in `chunks`.
    pub(super) chunk_bytes: usize,
    /// Begun and set aside, because the partition was paused.
    pub(super) reading: Option<Reading>,
    /// -1 before the first answer.
    pub(super) high_watermark: i64,
    pub(super) last_stable: i64,
    pub(super) log_start: i64,
    /// A nearer broker to fetch from, and until when (KIP-392).
    pub(super) preferred_replica: Option<(i32, Instant)>,
    /// Not before this, after an error.
    pub(super) retry_at: Option<Instant>,
    /// When something last came, or was asked for anew.
    pub(super) progress_at: Instant,
    pub(super) is_stall_told: bool,
}

impl Partition {
    pub(super) fn new(token: u64, phase: Phase, now: Instant) -> Self {
        Partition {
            token,
            phase,
            is_paused: false,
            is_leaving: false,
            fetch_offset: -1,
            fetch_epoch: -1,
            validated_under: -1,
            consumed: -1,
            polled: -1,
            marks: Marks::default(),
            epochs: Vec::new(),
            committed: None,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            reading: None,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            preferred_replica: None,
            retry_at: None,
            progress_at: now,
            is_stall_told: false,
        }
    }

    /// Forgets what was fetched; answers its bytes.
    pub(super) fn drop_fetched(&mut self) -> usize {
        self.chunks.clear();
        self.reading = None;
        std::mem::take(&mut self.chunk_bytes)
    }

    /// Goes on at `offset`, whose record before has `epoch`.
    pub(super) fn set_position(&mut self, offset: i64, epoch: i32, now: Instant) {
        self.phase = Phase::Fetching;
        self.fetch_offset = offset;
        self.fetch_epoch = epoch;
        self.validated_under = -1;
        self.consumed = offset;
        self.polled = offset;
        self.marks = Marks::at(offset);
        self.epochs.clear();
        if epoch >= 0 {
            self.epochs.push((offset - 1, epoch));
        }
        self.retry_at = None;
        self.progress_at = now;
        self.is_stall_told = false;
    }

    /// A record is returned.
    pub(super) fn on_delivered(&mut self, offset: i64, epoch: i32) {
        self.marks.on_delivered(offset);
        self.consumed = offset + 1;
        if self.epochs.last().is_none_or(|(_, last)| *last != epoch) {
            self.epochs.push((offset, epoch));
        }
    }

    /// Nothing below `position` will be returned any more.
    pub(super) fn on_walked(&mut self, position: i64) {
        if position > self.consumed {
            let had_all_polled = self.polled == self.consumed;
            self.consumed = position;
            if had_all_polled {
                self.polled = position;
            }
            self.marks.on_skipped(position);
        }
    }

    /// The epoch of the record before `offset`; -1 if unknown.
    pub(super) fn epoch_before(&self, offset: i64) -> i32 {
        let after = self.epochs.partition_point(|(start, _)| *start < offset);
        after.checked_sub(1).map_or(-1, |index| self.epochs[index].1)
    }

    /// Offsets below are committed: their epochs are not needed any more.
    pub(super) fn on_committed(&mut self, offset: i64) {
        self.committed = Some(offset);
        let after = self.epochs.partition_point(|(start, _)| *start < offset);
        self.epochs.drain(..after.saturating_sub(1));
    }

    /// Whether it has something to return.
    pub(super) fn has_fetched(&self) -> bool {
        self.reading.is_some() || !self.chunks.is_empty()
    }

    pub(super) fn is_returnable(&self) -> bool {
        !self.is_paused && !self.is_leaving
    }
}
