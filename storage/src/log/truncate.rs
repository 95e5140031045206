//! Cutting the end of a log off, or everything.
//!
//! No byte below an end that was ever published is written again, because a reader may hold it: a
//! truncation closes the segment at a lower end and begins a new file, whose header carries a new
//! generation. That header, once durable, *is* the truncation: recovery treats everything of a
//! lower generation at or past its base offset as void, files and journal entries alike. So the
//! order is: make what stays durable, then the new segment, and only then change anything in
//! memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use varve_protocol::records::BatchHeader;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs};

use super::{Log, RolledSegment};
use crate::file::{DirectoryFailed, Disk, DiskFile, OpenMode, read_file, replace_file};
use crate::layout::{PARTITIONS_DIR, ROTTEN_SUFFIX, parse_offset_name, snapshot_name};
use crate::producer_state::ProducerStates;
use crate::rot::{Rot, RotKind};
use crate::scan::{HeaderScan, ScanError};
use crate::segment::Segment;
use crate::segment_header::{HEADER_PAGE_BYTES, Seal};

/// Damaged batches that are kept for each log.
const ROTTEN_FILES_MAX: usize = 8;
/// Of one of them.
const ROTTEN_BYTES_MAX: u64 = 1 << 20;

/// Why a log was not cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TruncateError {
    /// The offset lies outside the log.
    #[error("offset {offset} is not within {log_start}..={log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// Where the log begins.
        log_start: Offset,
        /// Where it ends.
        log_end: Offset,
    },
    /// Batches before the cut, or right behind it, are not what was written.
    #[error("the log is damaged at or before offset {offset}")]
    Damaged {
        /// The first that is not known to be right; else what was asked for.
        offset: Offset,
    },
    /// There is no room for the new segment. Nothing has changed.
    #[error("the disk is full")]
    DiskFull,
    /// A write or sync failed; see [`DirectoryFailed`].
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
}

/// A segment whose file was renamed away and goes when no slice is over it.
#[derive(Debug)]
pub(crate) struct Discarded<D: Disk> {
    pub(crate) path: String,
    pub(crate) segment: Arc<Segment<D>>,
}

/// Where the log is to be cut.
struct Cut {
    /// The segment that holds the new end.
    number: usize,
    /// The end of what stays of it.
    seal: Seal,
    end_offset: i64,
}

impl<D: Disk> Log<D> {
    /// Cuts off everything at and past `offset`; a batch that spans it goes whole. Durable on
    /// return. An offset past the end changes nothing. Returns the new end, where the last batch
    /// that stays ends: lower than `offset` if that lies within a batch or a gap.
    ///
    /// Epochs that begin at the new end go too, those without records at the log's present end
    /// among them: a leader that was deposed before it wrote anything would else refuse what its
    /// successor has of earlier epochs.
    ///
    /// A commit in flight reports nothing for this log any more; what it left counts as durable.
    ///
    /// It syncs files and directories, about a millisecond or two in all.
    ///
    /// # Errors
    /// [`TruncateError::OutOfRange`] below the log's start; see [`Self::reset_to`] for that.
    /// [`TruncateError::Damaged`], also where segments are missing before the offset;
    /// [`TruncateError::DiskFull`], [`TruncateError::DirectoryFailed`].
    pub fn truncate_to(
        &mut self,
        offset: Offset,
        now: TimestampMs,
    ) -> Result<Offset, TruncateError> {
        self.context.disk.latch().check()?;
        let (log_start, log_end) = (self.log_start(), self.log_end());
        let is_past = offset >= log_end && self.damaged_from().is_none();
        let latest = self.shared.epochs.read().latest();
        if is_past && latest.is_none_or(|latest| latest.start_offset < log_end) {
            return Ok(log_end);
        }
        let offset = if is_past { log_end } else { offset };
        if offset < log_start || offset > log_end {
            return Err(TruncateError::OutOfRange { offset, log_start, log_end });
        }
        if self.segments().first().is_some_and(|first| offset.0 < first.base_offset) {
            // What lies before it is lost; a cut would leave a hole that nobody knows of.
            return Err(TruncateError::Damaged { offset });
        }
        let cut = self.find_cut(offset)?;
        self.cut(&cut, offset, now)
    }

    /// Cuts off a damaged batch and everything behind it, so that it can be fetched anew, and what lies
    /// before it as far as its headers are not what was written; as [`Self::truncate_to`] else. Not for a
    /// replica that counts as in sync: the log ends below what it had promised then.
    ///
    /// # Errors
    /// [`TruncateError::Damaged`] if segments before it are damaged, too: see [`Self::reset_to`].
    /// [`TruncateError::OutOfRange`] if its segment is not in the log any more.
    /// [`TruncateError::DiskFull`], [`TruncateError::DirectoryFailed`].
    pub fn cut_rot(&mut self, rot: &Rot, now: TimestampMs) -> Result<Offset, TruncateError> {
        self.context.disk.latch().check()?;
        let segments = self.segments();
        let number = segments.iter().position(|one| one.base_offset == rot.segment.0);
        let is_there = |number: &usize| rot.position < segments[*number].end_position();
        let Some(number) = number.filter(is_there) else {
            let (log_start, log_end) = (self.log_start(), self.log_end());
            return Err(TruncateError::OutOfRange { offset: rot.offset, log_start, log_end });
        };
        let segment = &segments[number];
        let explain = |error| self.explain_scan(rot.offset, error);
        let file = segment.file().map_err(|error| explain(error.into()))?;
        self.keep_evidence(rot, &*file, segment.end_position());
        let seal = segment.seal_before(&file, rot.position).map_err(explain)?;
        let end_offset = seal.next_offset.max(self.log_start().0);
        self.cut(&Cut { number, seal, end_offset }, rot.offset, now)
    }

    /// Puts the damaged bytes aside, for whoever wants to know what happened to them. A few of them, and
    /// none where that does not work: they serve nothing else.
    fn keep_evidence(&self, rot: &Rot, file: &D::File, segment_end: u64) {
        let disk = &self.context.disk;
        let Ok(entries) = disk.list(&self.dir) else { return };
        let kept = entries.iter().filter(|entry| entry.name.ends_with(ROTTEN_SUFFIX)).count();
        if kept >= ROTTEN_FILES_MAX {
            return;
        }
        let rest = segment_end.saturating_sub(rot.position).min(ROTTEN_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(rest).expect("bounded")];
        if file.read_at(rot.position, &mut bytes).is_err() {
            return;
        }
        if let RotKind::Headers { end } = rot.kind {
            bytes.truncate(usize::try_from(end - rot.position).unwrap_or(usize::MAX));
        } else if let Ok(header) = BatchHeader::parse(&bytes) {
            bytes.truncate(header.size());
        }
        let path = format!("{}/{:020}{ROTTEN_SUFFIX}", self.dir, rot.offset.0);
        let written = disk.open(&path, OpenMode::Replace).and_then(|file| {
            file.allocate(bytes.len() as u64)?;
            file.write_at(0, &[&bytes])
        });
        if written.is_err() {
            // As above.
            let _ = disk.remove(&path);
        }
    }

    fn explain_scan(&self, offset: Offset, error: ScanError) -> TruncateError {
        match error {
            ScanError::Damaged { .. } => TruncateError::Damaged { offset },
            ScanError::Io(error) => self.failed("read", &error).into(),
        }
    }

    fn cut(&mut self, cut: &Cut, asked: Offset, now: TimestampMs) -> Result<Offset, TruncateError> {
        let log_start = self.log_start();
        let explain = |error| self.explain_scan(asked, error);
        let producers = self.producers_at(cut.end_offset, now.0).map_err(explain)?;
        let generation = self.context.take_generation();
        let snapshot = producers.encode_snapshot(cut.end_offset, generation);
        // Nothing readable is left below the log's start.
        let is_emptied = cut.end_offset <= log_start.0;
        let synced = self.sync_below(cut.end_offset);
        synced.map_err(|error| self.refused("truncation", &error))?;
        let guard = self.guard.clone();
        let mut guarded = guard.lock();
        let path = format!("{}/{}", self.dir, snapshot_name(cut.end_offset));
        let written = replace_file(&self.context.disk, &path, &[&snapshot]);
        written.map_err(|error| self.refused("truncation", &error))?;
        let file = self.replace_from(generation, cut.end_offset, is_emptied, now.0)?;
        *guarded = generation;
        drop(guarded);
        self.apply_cut(cut, generation, is_emptied, snapshot);
        self.producers = producers;
        self.begin_segment(file, cut.end_offset, now.0);
        self.active.note_synced(u64::from(HEADER_PAGE_BYTES));
        self.active.note_name_synced();
        self.drop_synced();
        Ok(Offset(cut.end_offset))
    }

    /// Drops everything and begins again at `offset`, whatever the log held (a follower whose log
    /// ends before its leader's begins). Durable on return.
    ///
    /// # Errors
    /// [`TruncateError::DiskFull`], [`TruncateError::DirectoryFailed`].
    pub fn reset_to(&mut self, offset: Offset, now: TimestampMs) -> Result<(), TruncateError> {
        self.context.disk.latch().check()?;
        let generation = self.context.take_generation();
        let guard = self.guard.clone();
        let mut guarded = guard.lock();
        let file = self.replace_from(generation, offset.0, true, now.0)?;
        // Durable or not, they do not count: a later generation has made them void.
        self.remove_snapshots(|_| true).map_err(|error| self.failed("reset", &error))?;
        *guarded = generation;
        drop(guarded);
        let old = self.segments().to_vec();
        self.generation = generation;
        self.is_reset = true;
        self.shared.log_start.store(offset.0, Ordering::Release);
        self.shared.durable_end.store(offset.0, Ordering::Release);
        self.shared.log_end.store(offset.0, Ordering::Release);
        self.shared.damaged_from.store(i64::MAX, Ordering::Release);
        self.damaged_record = None;
        self.high_watermark = -1;
        self.shared.epochs.write().clear();
        self.state_writer.cut_epochs(LeaderEpoch(-1));
        self.producers = ProducerStates::default();
        self.drop_pending_from(i64::MIN);
        self.set_segments(Vec::new());
        self.forget(&old);
        self.discard(old, offset.0);
        self.begin_segment(file, offset.0, now.0);
        self.active.note_synced(u64::from(HEADER_PAGE_BYTES));
        self.active.note_name_synced();
        self.drop_synced();
        self.is_changed = true;
        Ok(())
    }

    fn refused(&self, what: &str, error: &io::Error) -> TruncateError {
        if super::append::is_full(error) {
            return TruncateError::DiskFull;
        }
        self.failed(what, error).into()
    }

    fn find_cut(&self, offset: Offset) -> Result<Cut, TruncateError> {
        let explain = |error| self.explain_scan(offset, error);
        let segments = self.segments();
        let number = segments.partition_point(|segment| segment.base_offset <= offset.0);
        let number = number.saturating_sub(1);
        let segment = &segments[number];
        let file = segment.file().map_err(|error| explain(error.into()))?;
        let end_position = segment.end_position();
        let found = segment.find_offset(&file, offset.0, end_position).map_err(explain)?;
        let position = found.map_or(end_position, |found| found.batch.position);
        let seal = segment.seal_before(&file, position).map_err(explain)?;
        if seal.end_position < position {
            return Err(TruncateError::Damaged { offset: Offset(seal.next_offset) });
        }
        Ok(Cut { number, seal, end_offset: seal.next_offset.max(self.log_start().0) })
    }

    /// The producers as they were at an offset: the newest snapshot before it, and the batches
    /// after that.
    fn producers_at(&self, end_offset: i64, now_ms: i64) -> Result<ProducerStates, ScanError> {
        let disk = &self.context.disk;
        let (mut producers, from) = newest_snapshot(disk, &self.dir, end_offset, |_| i64::MAX);
        for segment in self.segments().iter() {
            if segment.next_offset() <= from || segment.base_offset >= end_offset {
                continue;
            }
            let file = segment.file()?;
            let first = u64::from(HEADER_PAGE_BYTES);
            let mut scan = HeaderScan::new(&*file, first, segment.end_position());
            while let Some(batch) = scan.next_batch()? {
                if batch.header.next_offset().0 > end_offset {
                    break;
                }
                if batch.header.next_offset().0 > from {
                    producers.apply(&batch.header, now_ms);
                }
            }
        }
        Ok(producers)
    }

    /// Makes the batches below an offset durable in their segments.
    fn sync_below(&self, end_offset: i64) -> io::Result<()> {
        let disk = &self.context.disk;
        for segment in self.unsynced.iter().filter(|segment| segment.base_offset < end_offset) {
            let written = segment.end_position();
            segment.file()?.sync()?;
            segment.note_synced(written);
            if !segment.is_name_synced() {
                disk.sync_dir(&self.dir)?;
                disk.sync_dir(PARTITIONS_DIR)?;
                segment.note_name_synced();
            }
        }
        Ok(())
    }

    /// Makes the durable file of the segment that begins the new generation.
    fn replace_from(
        &self,
        generation: u32,
        base_offset: i64,
        resets: bool,
        now_ms: i64,
    ) -> Result<D::File, TruncateError> {
        let disk = &self.context.disk;
        let path = self.segment_path(base_offset);
        let scratch = format!("{path}.new");
        let header = crate::segment_header::SegmentHeader {
            cluster_id: self.context.cluster_id,
            tip: self.shared.tip,
            base_offset,
            generation,
            rewrite: 0,
            covers_end: base_offset,
            created_ms: now_ms,
            resets,
            is_rolled: false,
        };
        let file = super::create_segment_file(disk, &scratch, &header)
            .map_err(|error| self.refused("new segment", &error))?;
        let made = file.sync().and_then(|()| {
            self.remove_snapshots(|offset| offset > base_offset)?;
            disk.remove(&format!("{}.index", path.trim_end_matches(".log")))?;
            disk.rename(&scratch, &path)?;
            disk.sync_dir(&self.dir)?;
            disk.sync_dir(PARTITIONS_DIR)
        });
        made.map_err(|error| self.failed("truncation", &error))?;
        Ok(file)
    }

    fn remove_snapshots(&self, is_stale: impl Fn(i64) -> bool) -> io::Result<()> {
        let disk = &self.context.disk;
        for entry in disk.list(&self.dir)? {
            if parse_offset_name(&entry.name, "snapshot").is_some_and(&is_stale) {
                disk.remove(&format!("{}/{}", self.dir, entry.name))?;
            }
        }
        Ok(())
    }

    fn apply_cut(&mut self, cut: &Cut, generation: u32, is_reset: bool, snapshot: Vec<u8>) {
        let end_offset = cut.end_offset;
        let segments = self.segments();
        let holder = &segments[cut.number];
        let keeps_holder = holder.base_offset < end_offset && !is_reset;
        let keep = match (is_reset, keeps_holder) {
            (true, _) => 0,
            (false, true) => cut.number + 1,
            (false, false) => cut.number,
        };
        let gone = segments[keep..].to_vec();
        self.shared.log_end.store(end_offset, Ordering::Release);
        self.shared.durable_end.store(end_offset, Ordering::Release);
        self.shared.damaged_from.store(i64::MAX, Ordering::Release);
        self.damaged_record = None;
        self.set_segments(segments[..keep].to_vec());
        self.forget(&gone);
        self.discard(gone, end_offset);
        if keeps_holder {
            let seal = cut.seal;
            holder.cut(&seal);
            self.rolled.retain(|rolled| !Arc::ptr_eq(&rolled.segment, holder));
            let segment = Arc::clone(holder);
            self.rolled.push(RolledSegment { segment, seal, snapshot, is_cut: true });
        }
        let mut epochs = self.shared.epochs.write();
        epochs.truncate_from_end(Offset(end_offset));
        let latest = epochs.latest().map_or(LeaderEpoch(-1), |latest| latest.epoch);
        drop(epochs);
        self.state_writer.cut_epochs(latest);
        self.generation = generation;
        self.is_reset = is_reset;
        self.drop_pending_from(end_offset);
        self.is_changed = true;
    }

    /// Renames the files of void segments away, except the one whose name the new segment took.
    fn discard(&mut self, segments: Vec<Arc<Segment<D>>>, replaced_base: i64) {
        for segment in segments {
            segment.retire();
            if segment.base_offset == replaced_base {
                continue;
            }
            let path = format!("{}.{}.void", segment.path, segment.generation);
            // If the rename does not happen, recovery finds the segment void by its generation.
            let disk = &self.context.disk;
            let _ = disk.remove(&segment.index_path());
            if disk.rename(&segment.path, &path).is_ok() {
                self.discarded.push(Discarded { path, segment });
            }
        }
    }

    pub(crate) fn take_discarded(&mut self) -> Vec<Discarded<D>> {
        std::mem::take(&mut self.discarded)
    }
}

/// The newest intact snapshot at or before an offset that counts, and the offset that it speaks of;
/// no producers and the lowest offset if there is none. `void_from` says from where on what a
/// generation wrote is void.
pub(crate) fn newest_snapshot<D: Disk>(
    disk: &D,
    dir: &str,
    end_offset: i64,
    void_from: impl Fn(u32) -> i64,
) -> (ProducerStates, i64) {
    const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
    let entries = disk.list(dir).unwrap_or_default();
    let mut offsets: Vec<i64> =
        entries.iter().filter_map(|entry| parse_offset_name(&entry.name, "snapshot")).collect();
    offsets.retain(|offset| *offset <= end_offset);
    offsets.sort_unstable();
    for offset in offsets.into_iter().rev() {
        let path = format!("{dir}/{}", snapshot_name(offset));
        let decoded = read_file(disk, &path, SNAPSHOT_BYTES_MAX)
            .ok()
            .and_then(|file| ProducerStates::decode_snapshot(&file, offset).ok());
        if let Some((producers, generation)) = decoded
            && offset <= void_from(generation)
        {
            return (producers, offset);
        }
    }
    (ProducerStates::default(), i64::MIN)
}
