//! Reading a log from any thread, without its shard.
//!
//! A reader sees three positions and the list of segments, all published by the log. It returns
//! ranges of files, not bytes: the server sends them with `sendfile`, or takes the mapped bytes. Every
//! batch of a range was checked when the read returns (for the exception see [`checked`]), and lies in the
//! page cache.

mod checked;
mod headers;
mod timestamps;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;
use varve_protocol::records::BatchError;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs, TopicIdPartition};

use crate::epochs::{EpochCache, EpochStart};
use crate::file::Disk;
use crate::rot::Rot;
use crate::scan::ScanError;
use crate::segment::Segment;
use crate::slice::FileSlice;
use checked::{CheckedRange, Wanted, check_range, locate};

/// What a log shares with its readers.
#[derive(Debug)]
pub(crate) struct LogShared<D: Disk> {
    pub(crate) tip: TopicIdPartition,
    pub(crate) hot_bytes: u32,
    pub(crate) log_start: AtomicI64,
    /// Invariant: `log_start <= durable_end <= log_end`.
    pub(crate) durable_end: AtomicI64,
    pub(crate) log_end: AtomicI64,
    /// Offsets from here on are damaged; `i64::MAX` if nothing is.
    pub(crate) damaged_from: AtomicI64,
    /// Guards the list of segments, by base offset; replaced as a whole.
    pub(crate) segments: RwLock<Arc<[Arc<Segment<D>>]>>,
    /// Guards the epochs; the log writes, readers ask.
    pub(crate) epochs: RwLock<EpochCache>,
}

impl<D: Disk> LogShared<D> {
    pub(crate) fn segments(&self) -> Arc<[Arc<Segment<D>>]> {
        Arc::clone(&self.segments.read())
    }
}

/// Reads one log. Cheap to clone; may be used from any thread.
#[derive(Debug)]
pub struct LogReader<D: Disk> {
    pub(crate) shared: Arc<LogShared<D>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Whole batches, as ranges of files, in the order of their offsets.
#[derive(Debug)]
pub struct ReadSlices<D: Disk> {
    /// The ranges; empty when there is nothing to read below the bound.
    pub slices: Vec<FileSlice<D>>,
    /// Base offset of the first batch, which may be lower than the offset asked for.
    pub first_batch: Option<Offset>,
    /// Offset behind the last record; where to read on.
    pub next_offset: Offset,
    /// Bytes of all ranges together.
    pub len: usize,
}

/// Why a read is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} is not within {log_start}..={log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// Where the log begins.
        log_start: Offset,
        /// Where it ends.
        log_end: Offset,
    },
    /// The bytes on the disk are not what was written. They are kept, and not served.
    #[error("the log of {partition} is damaged from offset {damaged_from} on")]
    Damaged {
        /// Whose log.
        partition: TopicIdPartition,
        /// The first offset that cannot be served.
        damaged_from: Offset,
    },
    /// A batch is not what was written, which nobody knew so far. Nothing was changed.
    #[error("{0}")]
    Rotten(Box<Rot>),
    /// The records of a batch could not be decoded.
    #[error("the batch at offset {offset} cannot be decoded: {source}")]
    Batch {
        /// Its base offset.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// The disk did not give the bytes.
    #[error("reading the log of {partition}: {source}")]
    Io {
        /// Whose log.
        partition: TopicIdPartition,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp.
    pub timestamp: TimestampMs,
    /// The record's offset.
    pub offset: Offset,
    /// The epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl<D: Disk> LogReader<D> {
    /// Whose log this is.
    #[must_use]
    pub fn partition(&self) -> TopicIdPartition {
        self.shared.tip
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        Offset(self.shared.log_start.load(Ordering::Acquire))
    }

    /// Everything below is on the disk (or was acknowledged from the page cache, where
    /// `write.caching` says so).
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        Offset(self.shared.durable_end.load(Ordering::Acquire))
    }

    /// The offset that the next record will get.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        Offset(self.shared.log_end.load(Ordering::Acquire))
    }

    /// The first offset that is damaged, if any is.
    #[must_use]
    pub fn damaged_from(&self) -> Option<Offset> {
        let damaged_from = self.shared.damaged_from.load(Ordering::Acquire);
        (damaged_from != i64::MAX).then_some(Offset(damaged_from))
    }

    /// Bytes of batches in all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.size_bytes()).sum()
    }

    /// How many segments the log has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments.read().len()
    }

    /// Whole batches from the one that holds `from` on, all of whose records lie below `upper`,
    /// at most `max_bytes` of them; with `at_least_one` the first batch comes even if it is larger.
    ///
    /// An offset between the log's start and end for which there is no batch (compaction took it)
    /// is answered with the next one. A range ends before a batch that is damaged; a read that would
    /// begin with it is refused. May wait for the disk, unless [`Self::is_hot`].
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] below the log's start and above its end, [`ReadError::Damaged`],
    /// [`ReadError::Rotten`], [`ReadError::Io`].
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        upper: Offset,
        at_least_one: bool,
    ) -> Result<ReadSlices<D>, ReadError> {
        self.read_settled(from, Ask { max_bytes, upper, at_least_one, trusts_fresh: false })
    }

    /// As [`Self::read`], for a follower that checks what it appends: what this process appended a moment
    /// ago, and had checked, is not checked once more. It is in the page cache since.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_for_follower(
        &self,
        from: Offset,
        max_bytes: usize,
        upper: Offset,
        at_least_one: bool,
    ) -> Result<ReadSlices<D>, ReadError> {
        self.read_settled(from, Ask { max_bytes, upper, at_least_one, trusts_fresh: true })
    }

    fn read_settled(&self, from: Offset, ask: Ask) -> Result<ReadSlices<D>, ReadError> {
        // A segment that was retired under a read (compaction, retention) is in the next list no
        // more; the list changes under a lock, so the second look finds it settled.
        const ATTEMPTS_MAX: usize = 8;
        let mut attempt = 1;
        loop {
            match self.read_once(from, ask) {
                Err(ReadAttempt::Retired) if attempt < ATTEMPTS_MAX => attempt += 1,
                Err(ReadAttempt::Retired) => {
                    let source = io::Error::from(io::ErrorKind::NotFound);
                    return Err(ReadError::Io { partition: self.shared.tip, source });
                }
                Err(ReadAttempt::Failed(error)) => return Err(error),
                Ok(read) => return Ok(read),
            }
        }
    }

    /// Reads batches from the one that holds `from` on, about `bytes_max` of them, for nothing but to find
    /// damage; of closed segments nothing is left in the page cache. Where to go on, and how many
    /// bytes that was; none at the end. Waits for the disk.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn scrub(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Option<(Offset, usize)>, ReadError> {
        let log_end = self.log_end();
        let from = from.max(self.log_start());
        if from >= log_end {
            return Ok(None);
        }
        let read = self.read(from, bytes_max, log_end, true)?;
        for slice in &read.slices {
            let partition = self.shared.tip;
            slice.let_go().map_err(|source| ReadError::Io { partition, source })?;
        }
        Ok((read.len > 0).then_some((read.next_offset, read.len)))
    }

    fn read_once(&self, from: Offset, ask: Ask) -> Result<ReadSlices<D>, ReadAttempt> {
        let Ask { max_bytes, upper, at_least_one, .. } = ask;
        let log_end = self.log_end();
        self.check_range(from, log_end)?;
        let upper = self.clip_to_damage(from, upper.0.min(log_end.0))?;
        let mut read =
            ReadSlices { slices: Vec::new(), first_batch: None, next_offset: from, len: 0 };
        let segments = self.shared.segments();
        let mut number = segments.partition_point(|segment| segment.base_offset <= from.0);
        number = number.saturating_sub(1);
        while read.next_offset.0 < upper && number < segments.len() {
            let segment = &segments[number];
            if segment.base_offset >= upper {
                break;
            }
            let room = max_bytes.saturating_sub(read.len);
            let is_first = read.slices.is_empty();
            if room == 0 && !(is_first && at_least_one) {
                break;
            }
            match self.read_segment(segment, &read, (room, upper, at_least_one && is_first), ask) {
                Ok(SegmentRead::Range { slice, first_batch, next_offset, is_segment_end }) => {
                    read.first_batch.get_or_insert(first_batch);
                    read.next_offset = next_offset;
                    read.len += slice.len_bytes();
                    read.slices.push(slice);
                    if !is_segment_end {
                        break;
                    }
                }
                Ok(SegmentRead::Nothing { is_segment_end: true }) => {}
                Ok(SegmentRead::Nothing { is_segment_end: false }) => break,
                Err(_) if segment.is_retired() => return Err(ReadAttempt::Retired),
                // What lies before it is told first.
                Err(SegmentFault::Rotten(_)) if !is_first => break,
                Err(SegmentFault::Rotten(rot)) => return Err(ReadError::Rotten(rot).into()),
                Err(SegmentFault::Scan(error)) => {
                    return Err(self.explain(segment, from, error).into());
                }
            }
            number += 1;
        }
        Ok(read)
    }

    fn read_segment(
        &self,
        segment: &Arc<Segment<D>>,
        read: &ReadSlices<D>,
        (room, upper, at_least_one): (usize, i64, bool),
        ask: Ask,
    ) -> Result<SegmentRead<D>, SegmentFault> {
        let segment_end = segment.end();
        let (end_position, _) = segment_end;
        let file = segment.file()?;
        let from = read.next_offset.0;
        let first = match segment.find_offset(&file, from, end_position) {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(SegmentRead::Nothing { is_segment_end: true }),
            Err(ScanError::Damaged { position }) => {
                let rot = locate(&self.shared, segment, &file, (from, position))?;
                return Err(SegmentFault::Rotten(Box::new(rot)));
            }
            Err(error) => return Err(error.into()),
        };
        let begin = first.batch.position;
        let limit = begin.saturating_add(room as u64);
        let wanted = Wanted { limit, at_least_one, upper, segment_end };
        let is_trusted = ask.trusts_fresh && segment.is_fresh(begin, self.shared.hot_bytes);
        // Whatever is wrong there is told by the check.
        let trusted = is_trusted.then(|| segment.find_end(&file, begin, limit, upper));
        let range = match trusted {
            Some(Ok(Some((end, next_offset)))) => CheckedRange { end, next_offset, rot: None },
            _ => check_range(&self.shared, segment, &file, first, wanted)?,
        };
        if range.end == begin {
            return match range.rot {
                Some(rot) => Err(SegmentFault::Rotten(Box::new(rot))),
                None => Ok(SegmentRead::Nothing { is_segment_end: false }),
            };
        }
        let len = usize::try_from(range.end - begin).expect("a segment fits into memory");
        let is_hot =
            !segment.is_sealed() && begin + u64::from(self.shared.hot_bytes) >= end_position;
        Ok(SegmentRead::Range {
            slice: FileSlice::new(Arc::clone(segment), file, begin, len, is_hot),
            first_batch: first.batch.header.base_offset,
            next_offset: Offset(range.next_offset),
            is_segment_end: range.end >= end_position,
        })
    }

    fn check_range(&self, from: Offset, log_end: Offset) -> Result<(), ReadError> {
        let log_start = self.log_start();
        if from < log_start || from > log_end {
            return Err(ReadError::OutOfRange { offset: from, log_start, log_end });
        }
        Ok(())
    }

    fn clip_to_damage(&self, from: Offset, upper: i64) -> Result<i64, ReadError> {
        let damaged_from = self.shared.damaged_from.load(Ordering::Acquire);
        if from.0 >= damaged_from && from.0 < upper {
            return Err(self.damaged(damaged_from));
        }
        Ok(upper.min(damaged_from))
    }

    fn damaged(&self, from: i64) -> ReadError {
        ReadError::Damaged { partition: self.shared.tip, damaged_from: Offset(from) }
    }

    fn explain(&self, segment: &Arc<Segment<D>>, from: Offset, error: ScanError) -> ReadError {
        match error {
            // Retention or deletion took the segment while this read was under way.
            _ if segment.is_retired() => ReadError::OutOfRange {
                offset: from,
                log_start: self.log_start().max(Offset(from.0.saturating_add(1))),
                log_end: self.log_end(),
            },
            ScanError::Damaged { .. } => self.damaged(from.0),
            ScanError::Io(source) => ReadError::Io { partition: self.shared.tip, source },
        }
    }

    /// Whether a read from this offset touches only what was written recently: it is in the page
    /// cache, and the position is known without reading the disk. Anything else belongs on a
    /// thread that may wait for the disk.
    #[must_use]
    pub fn is_hot(&self, from: Offset) -> bool {
        let segments = self.shared.segments.read();
        let Some(active) = segments.last() else { return true };
        if from.0 >= active.next_offset() {
            return true;
        }
        if from.0 < active.base_offset {
            return false;
        }
        let position = active.estimate_position(from.0);
        position.is_some_and(|position| {
            position + u64::from(self.shared.hot_bytes) >= active.end_position()
        })
    }

    /// The largest epoch that is at most `epoch`, and the offset at which it ends (KIP-101,
    /// KIP-279). `None` if no such epoch is known, or if `epoch` is newer than all.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.shared.epochs.read().end_offset_for(epoch, self.log_end())
    }

    /// The newest epoch and where it begins.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<EpochStart> {
        self.shared.epochs.read().latest()
    }

    /// The epoch that an offset belongs to.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.epochs.read().epoch_at(offset)
    }

    /// All epochs, oldest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.shared.epochs.read().starts().to_vec()
    }
}

enum ReadAttempt {
    /// A segment was taken out of the log meanwhile.
    Retired,
    Failed(ReadError),
}

impl From<ReadError> for ReadAttempt {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

/// Why nothing can be read of a segment.
#[derive(Debug, thiserror::Error)]
enum SegmentFault {
    #[error("{0}")]
    Rotten(Box<Rot>),
    #[error(transparent)]
    Scan(#[from] ScanError),
}

impl From<io::Error> for SegmentFault {
    fn from(error: io::Error) -> Self {
        Self::Scan(error.into())
    }
}

/// What a reader asks for.
#[derive(Clone, Copy)]
struct Ask {
    max_bytes: usize,
    upper: Offset,
    at_least_one: bool,
    /// What is fresh in the page cache needs no check.
    trusts_fresh: bool,
}

enum SegmentRead<D: Disk> {
    Range { slice: FileSlice<D>, first_batch: Offset, next_offset: Offset, is_segment_end: bool },
    Nothing { is_segment_end: bool },
}
