//! What a reader is given was checked just now: every batch of it, each time.
//!
//! The rule is that simple on purpose. A position up to which a segment counts as checked would spare
//! work and could not be proven: pages leave the page cache and come back from the disk as it has
//! become meanwhile. Only to a follower, which checks what it appends, goes unchecked what this process
//! appended a moment ago ([`super::LogReader::read_for_follower`]).
//!
//! A batch's CRC leaves out its base offset, length and leader epoch. A wrong length makes the CRC
//! wrong; the epoch is held against the log's epochs; the base offset is not lower than where the batch
//! before ends. And a batch may be another one than was written there, whole or but for its first
//! bytes: a write that came to the wrong place. So all headers between two marks of the index are held
//! against the checksum that they had when they were appended, also those before and behind what is
//! asked for. Where they are not the same, nothing between the two marks is given to anybody.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use varve_protocol::records::{BatchHeader, HEADER_BYTES};
use varve_protocol::vocabulary::{LeaderEpoch, Offset};

use super::LogShared;
use super::headers::HeaderCheck;
use crate::file::{Disk, DiskFile};
use crate::index::Mark;
use crate::rot::{Rot, RotKind};
use crate::scan::{CheckedScan, ScannedBatch};
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
    let begin = first.batch.position;
    let marks = segment.marks(begin, wanted.limit.max(first.batch.end_position()))?;
    let headers = HeaderCheck::new(marks);
    let (mut segment_end, _) = wanted.segment_end;
    if let Some(end) = headers.segment_end() {
        // It may have been cut a moment ago.
        segment_end = segment_end.min(end);
    }
    let range = CheckedRange { end: begin, next_offset: first.expected, rot: None };
    if begin >= segment_end {
        return Ok(range);
    }
    // The header behind the last wanted batch says that it is.
    let ahead_end = wanted.limit.saturating_add(HEADER_BYTES as u64);
    let scan = CheckedScan::within(file, (begin, segment_end), ahead_end, BUFFER.take());
    let proven = (begin, first.expected);
    let mut walk = Walk { shared, segment, scan, range, headers, proven, epoch: None };
    let result = walk.run(file, wanted);
    BUFFER.set(walk.scan.into_buffer());
    result.map(|()| walk.range)
}

struct Walk<'a, D: Disk> {
    shared: &'a LogShared<D>,
    segment: &'a Arc<Segment<D>>,
    scan: CheckedScan<'a, D::File>,
    range: CheckedRange,
    headers: HeaderCheck,
    /// The end of the range, and the offset there, up to which all headers are known to be right.
    proven: (u64, i64),
    /// The epoch looked up last, and the offset at which it ends.
    epoch: Option<(LeaderEpoch, Offset)>,
}

impl<D: Disk> Walk<'_, D> {
    fn run(&mut self, file: &D::File, wanted: Wanted) -> io::Result<()> {
        let fits = self.headers.hop_to(file, self.range.end)?
            && self.take_wanted(wanted)?
            && self.headers.hop_to_mark(file)?;
        if !fits {
            self.blame_headers();
        }
        Ok(())
    }

    /// Takes what is wanted, as far as it is as it was written. False if the headers are not.
    fn take_wanted(&mut self, wanted: Wanted) -> io::Result<bool> {
        let (_, segment_next) = wanted.segment_end;
        let begin = self.range.end;
        loop {
            let position = self.scan.position();
            let expected = self.range.next_offset;
            if position >= self.scan.end() || (position >= wanted.limit && position > begin) {
                return Ok(true);
            }
            let Some(header) = self.scan.peek()? else {
                self.blame(RotKind::Header, None);
                return Ok(true);
            };
            let found = header.base_offset;
            if found.0 < expected || header.next_offset().0 > segment_next {
                self.blame(RotKind::BaseOffset { found }, None);
                return Ok(true);
            }
            if let Some(kind) = self.wrong_epoch(&header) {
                self.blame(kind, Some(header.next_offset()));
                return Ok(true);
            }
            let end = position + header.size() as u64;
            let fits = end <= wanted.limit || (wanted.at_least_one && position == begin);
            if !fits || header.next_offset().0 > wanted.upper {
                return Ok(true);
            }
            if !self.scan.take(&header)? {
                // Of a wrong length, too, the CRC is wrong; then no batch begins behind it.
                self.blame(RotKind::Crc { stored: header.crc }, Some(header.next_offset()));
                return Ok(true);
            }
            self.range.end = end;
            self.range.next_offset = header.next_offset().0;
            if !self.headers.take(&ScannedBatch { position, header }) {
                return Ok(false);
            }
            if self.headers.is_at_mark() {
                self.proven = (end, self.range.next_offset);
            }
        }
    }

    /// The range ends before a damaged batch.
    fn blame(&mut self, kind: RotKind, next_offset: Option<Offset>) {
        let place = (self.range.end, self.range.next_offset);
        self.range.rot = Some(self.rot_at(place, kind, next_offset));
    }

    /// The range ends at the last mark up to which all is right, or is empty: nobody knows which of the
    /// headers from there on are right.
    fn blame_headers(&mut self) {
        let (mark, next) = self.headers.around();
        let offset = |mark: Mark| Some(self.segment.base_offset + i64::from(mark.relative_offset?));
        let from = offset(mark).unwrap_or(self.range.next_offset);
        let segment_next = || self.segment.is_sealed().then(|| self.segment.next_offset());
        let next_offset = next.and_then(offset).or_else(segment_next).map(Offset);
        let kind = RotKind::Headers { end: next.unwrap_or(mark).position };
        let rot = self.rot_at((mark.position, from), kind, next_offset);
        let (end, next_offset) = self.proven;
        self.range = CheckedRange { end, next_offset, rot: Some(rot) };
    }

    fn rot_at(
        &self,
        (position, offset): (u64, i64),
        kind: RotKind,
        next_offset: Option<Offset>,
    ) -> Rot {
        let log_start = self.shared.log_start.load(Ordering::Acquire);
        Rot {
            partition: self.segment.tip,
            file: self.segment.path.to_string(),
            segment: Offset(self.segment.base_offset),
            position,
            offset: Offset(offset.max(log_start)),
            next_offset,
            kind,
        }
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
