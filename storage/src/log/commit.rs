//! What a log adds to a commit, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use varve_protocol::vocabulary::Offset;

use super::{Log, PendingBatches};
use crate::file::Disk;
use crate::journal::{ENTRY_HEADER_BYTES, EntryKind, EntryTarget, OutgoingEntry};
use crate::segment::Segment;

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

impl<D: Disk> Log<D> {
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

    pub(super) fn journal_entries(&self, pending: Vec<PendingBatches<D>>) -> Vec<OutgoingEntry> {
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
}
