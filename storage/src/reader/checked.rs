//! What a reader is given was checked just now: every batch of it, each time.
//!
//! The rule is that simple on purpose. A position up to which a segment counts as checked would spare
//! work and could not be proven: pages leave the page cache and come back from the disk as it has
//! become meanwhile. Only to a follower, which checks what it appends, goes unchecked what this process
//! appended a moment ago ([`super::LogReader::read_for_follower`]).
//!
//! A batch's CRC leaves out its base offset, length and leader epoch. A wrong length makes the CRC
//! wrong; the epoch is held against the log's epochs; the base offset against the neighbours: it is not
//! lower than where the batch before ends. Where there is a gap before it (compaction leaves some) the
//! batches from there on must lead to the next one that the index knows, at its very position, or to the
//! end of the sealed segment. The next batch alone proves nothing: a write that came to the wrong place
//! may have brought two whole ones, and who believed them would go past all that they lie upon.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use varve_protocol::records::{BatchHeader, HEADER_BYTES};
use varve_protocol::vocabulary::{LeaderEpoch, Offset};

use super::LogShared;
use crate::file::{Disk, DiskFile};
use crate::rot::{Rot, RotKind};
use crate::scan::{CheckedScan, HeaderScan, ScanError, ScannedBatch};
use crate::segment::{FoundBatch, Segment};

thread_local! {
    /// What a check reads into, at most 256 KiB.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What of a segment is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Batches that end past this position are not; but the first one is, with `at_least_one`.
    pub(super) limit: u64,
    pub(super) at_least_one: bool,
    /// Batches with records at or past this offset are not.
    pub(super) upper: i64,
    /// The segment's published end.
    pub(super) segment_end: (u64, i64),
}

/// Whole batches that are as they were written.
#[derive(Debug)]
pub(super) struct CheckedRange {
    /// Where the last one ends; where the first begins if there is none.
    pub(super) end: u64,
    /// Where to read on.
    pub(super) next_offset: i64,
    /// Why the range ends there, if that is damage.
    pub(super) rot: Option<Rot>,
}

/// Checks batches from `first` on, as many as are wanted.
pub(super) fn check_range<D: Disk>(
    shared: &LogShared<D>,
    segment: &Arc<Segment<D>>,
    file: &D::File,
    first: FoundBatch,
    wanted: Wanted,
) -> io::Result<CheckedRange> {
    let (begin, (segment_end, _)) = (first.batch.position, wanted.segment_end);
    // The header behind the last wanted batch says that it is.
    let ahead_end = wanted.limit.saturating_add(HEADER_BYTES as u64);
    let buffer = BUFFER.take();
    let scan = CheckedScan::within(file, (begin, segment_end), ahead_end, buffer);
    let mut walk = Walk {
        shared,
        segment,
        file,
        // A segment that is being sealed is not held to its end.
        is_sealed: segment.is_sealed() && segment.end() == wanted.segment_end,
        scan,
        range: CheckedRange { end: begin, next_offset: first.expected, rot: None },
        proven_to: begin,
        epoch: None,
    };
    let result = walk.run(wanted);
    BUFFER.set(walk.scan.into_buffer());
    result.map(|()| walk.range)
}

struct Walk<'a, D: Disk> {
    shared: &'a LogShared<D>,
    segment: &'a Arc<Segment<D>>,
    file: &'a D::File,
    is_sealed: bool,
    scan: CheckedScan<'a, D::File>,
    range: CheckedRange,
    /// Gaps before this position are believed.
    proven_to: u64,
    /// The epoch looked up last, and the offset at which it ends.
    epoch: Option<(LeaderEpoch, Offset)>,
}

impl<D: Disk> Walk<'_, D> {
    fn run(&mut self, wanted: Wanted) -> io::Result<()> {
        let (segment_end, segment_next) = wanted.segment_end;
        let begin = self.range.end;
        loop {
            let position = self.scan.position();
            let expected = self.range.next_offset;
            if position >= segment_end || (position >= wanted.limit && position > begin) {
                return Ok(());
            }
            let Some(header) = self.scan.peek()? else {
                self.blame(RotKind::Header, None);
                return Ok(());
            };
            let found = header.base_offset;
            if found.0 < expected || header.next_offset().0 > segment_next {
                self.blame(RotKind::BaseOffset { found }, None);
                return Ok(());
            }
            if let Some(kind) = self.wrong_epoch(&header) {
                self.blame(kind, Some(header.next_offset()));
                return Ok(());
            }
            let end = position + header.size() as u64;
            let fits = end <= wanted.limit || (wanted.at_least_one && position == begin);
            if !fits || header.next_offset().0 > wanted.upper {
                return Ok(());
            }
            let is_gap = found.0 > expected && position >= self.proven_to;
            if is_gap && !self.leads_on(position, wanted.segment_end)? {
                self.blame(RotKind::BaseOffset { found }, None);
                return Ok(());
            }
            if !self.scan.take(&header)? {
                // Of a wrong length, too, the CRC is wrong; then no batch begins behind it.
                self.blame(RotKind::Crc { stored: header.crc }, Some(header.next_offset()));
                return Ok(());
            }
            self.range.end = end;
            self.range.next_offset = header.next_offset().0;
        }
    }

    /// Whether the batches from a position on lead to the next one that the index knows, or to the
    /// end of the segment.
    fn leads_on(&mut self, position: u64, segment_end: (u64, i64)) -> io::Result<bool> {
        let known = match self.segment.indexed_from(position) {
            Ok(known) => known.filter(|(at, _)| *at < segment_end.0),
            Err(ScanError::Io(error)) => return Err(error),
            Err(ScanError::Damaged { .. }) => return Ok(false),
        };
        let (goal, offset) = known.unwrap_or(segment_end);
        let mut scan = HeaderScan::new(self.file, position, segment_end.0);
        let mut next_offset = self.range.next_offset;
        let leads = loop {
            match scan.next_batch() {
                Ok(Some(batch)) if batch.position >= goal => {
                    break batch.position == goal && batch.header.base_offset.0 == offset;
                }
                Ok(Some(batch)) if batch.header.base_offset.0 < next_offset => break false,
                Ok(Some(batch)) => next_offset = batch.header.next_offset().0,
                Ok(None) => break known.is_none() && (!self.is_sealed || next_offset == offset),
                Err(ScanError::Damaged { .. }) => break false,
                Err(ScanError::Io(error)) => return Err(error),
            }
        };
        if leads {
            self.proven_to = goal;
        }
        Ok(leads)
    }

    /// The range ends before a damaged batch.
    fn blame(&mut self, kind: RotKind, next_offset: Option<Offset>) {
        let log_start = self.shared.log_start.load(Ordering::Acquire);
        self.range.rot = Some(Rot {
            partition: self.segment.tip,
            file: self.segment.path.to_string(),
            segment: Offset(self.segment.base_offset),
            position: self.range.end,
            offset: Offset(self.range.next_offset.max(log_start)),
            next_offset,
            kind,
        });
    }

    fn wrong_epoch(&mut self, header: &BatchHeader) -> Option<RotKind> {
        let (base, found) = (header.base_offset, header.partition_leader_epoch);
        if self.epoch.is_none_or(|(_, end)| base >= end) {
            // Below the log's start epochs are not remembered.
            self.epoch = self.shared.epochs.read().span_at(base);
        }
        let (expected, _) = self.epoch?;
        (found != expected).then_some(RotKind::LeaderEpoch { expected, found })
    }
}

/// Damage that headers alone showed at `position`, on the way to `offset`: the first batch there that
/// is not as it was written, which may lie before.
pub(super) fn locate<D: Disk>(
    shared: &LogShared<D>,
    segment: &Arc<Segment<D>>,
    file: &D::File,
    (offset, position): (i64, u64),
) -> io::Result<Rot> {
    let here = |position, offset| Rot {
        partition: segment.tip,
        file: segment.path.to_string(),
        segment: Offset(segment.base_offset),
        position,
        offset: Offset(offset),
        next_offset: None,
        kind: RotKind::Header,
    };
    let Ok((start, expected)) = segment.nearest(offset) else { return Ok(here(position, offset)) };
    let mut head = [0; HEADER_BYTES];
    file.read_at(start, &mut head)?;
    let Ok(header) = BatchHeader::parse(&head) else {
        return Ok(here(start, expected.max(shared.log_start.load(Ordering::Acquire))));
    };
    let batch = ScannedBatch { position: start, header };
    let wanted =
        Wanted { limit: u64::MAX, at_least_one: true, upper: i64::MAX, segment_end: segment.end() };
    let range = check_range(shared, segment, file, FoundBatch { batch, expected }, wanted)?;
    Ok(range.rot.unwrap_or_else(|| here(position, offset)))
}
