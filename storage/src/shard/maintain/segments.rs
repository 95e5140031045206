//! Segments that are prepared, and segments that go.

use std::io;
use std::sync::Arc;

use varve_protocol::vocabulary::TopicIdPartition;

use super::checkpoint_job::{ignore_deleted, write_derived};
use super::{Outcome, Work};
use crate::compaction::InstalledSegment;
use crate::file::{Disk, DiskFile, OpenMode};
use crate::layout::{parse_offset_name, snapshot_name};
use crate::log::{Discarded, Log, PreparationStep, TruncationGuard};
use crate::retention::{RetentionInput, SegmentSummary, choose_retention};
use crate::segment::Segment;
use crate::segment_header::{HEADER_PAGE_BYTES, SegmentHeader};

/// Allocates ahead of a fast log and makes its next segment, so that its append path never waits
/// for the file system.
pub(super) fn prepare<D: Disk>(log: &mut Log<D>, fast_bytes: u64, work: &mut Vec<Work<D>>) {
    let appended = std::mem::take(&mut log.appended_bytes);
    let is_fast = appended >= fast_bytes;
    match log.choose_preparation(if is_fast { appended } else { 0 }) {
        Some(PreparationStep::Prepare { allocated }) => {
            let (path, tip) = (log.prepared_path(), log.partition());
            work.push(Work::Prepare { path, tip, allocated });
        }
        Some(PreparationStep::GiveBack) => {
            work.push(Work::Remove { paths: vec![log.prepared_path()] });
        }
        None => {}
    }
    if !is_fast {
        return;
    }
    let limit = u64::from(log.segment_bytes()) + u64::from(HEADER_PAGE_BYTES);
    let end = log.active().end_position();
    if log.allocated() >= limit || log.allocated() > end + 2 * appended {
        return;
    }
    let len = (end + 8 * appended).min(limit).next_multiple_of(4096);
    let segment = Arc::clone(log.active());
    work.push(Work::Allocate { segment, tip: log.partition(), len });
}

/// Drops what the settings and the log's start have outlived.
pub(super) fn retain<D: Disk>(log: &mut Log<D>, now_ms: i64, work: &mut Vec<Work<D>>) {
    let Some((generation, active_base)) = log.checkpointed else { return };
    if generation != log.generation() || log.damaged_from().is_some() {
        return;
    }
    let segments = log.segments();
    let summaries: Vec<SegmentSummary> = segments.iter().map(SegmentSummary::of).collect();
    let choice = choose_retention(&RetentionInput {
        segments: &summaries,
        log_start: log.log_start().0,
        limit: log.cleanup_limit(),
        config: log.config(),
        now_ms,
    });
    let config = log.config();
    let is_late = config.cleanup.compact
        && log.active().size_bytes() > 0
        && now_ms.saturating_sub(log.first_append_ms()) > config.max_compaction_lag_ms;
    if choice.rolls_active || is_late {
        // A full disk only puts it off.
        let _ = log.roll(now_ms);
    }
    let behind = segments.iter().take_while(|segment| segment.base_offset < active_base).count();
    let count = choice.segments.min(behind);
    if count == 0 {
        return;
    }
    let log_start = segments[count].base_offset.max(log.log_start().0);
    let dropped = log.drop_oldest(count);
    let state = log.move_log_start(log_start);
    let (dir, guard) = (log.dir().to_owned(), log.guard().clone());
    work.push(Work::Retain { state, dir, guard, log_start, segments: dropped });
}

/// Makes compacted segments' names durable, and takes away the files that they cover.
#[derive(Debug)]
pub(in crate::shard) struct SettleJob<D: Disk> {
    pub(super) dir: String,
    pub(super) guard: TruncationGuard,
    pub(super) installed: Vec<InstalledSegment<D>>,
}

impl<D: Disk> SettleJob<D> {
    pub(super) fn run(self, disk: &D) -> io::Result<Outcome<D>> {
        ignore_deleted(disk.sync_dir(&self.dir))?;
        let mut discarded = Vec::new();
        for installed in self.installed {
            if let Ok(index) = installed.segment.encode_index() {
                write_derived(disk, &installed.segment.index_path(), &index, false)?;
            }
            let covered = installed.covered.into_iter();
            discarded.extend(covered.filter_map(|old| void_file(disk, &self.guard, old)));
        }
        Ok(Outcome::Discarded(discarded))
    }
}

/// Renames the file of a segment that the log does not have any more. The file is looked at first:
/// another segment may have taken the name.
pub(super) fn void_file<D: Disk>(
    disk: &D,
    guard: &TruncationGuard,
    segment: Arc<Segment<D>>,
) -> Option<Discarded<D>> {
    segment.retire();
    let _guarded = guard.lock();
    let mut page = [0; 512];
    disk.open(&segment.path, OpenMode::Read).ok()?.read_at(0, &mut page).ok()?;
    let header = SegmentHeader::decode(&page)?;
    if (header.generation, header.rewrite) != (segment.generation, segment.rewrite) {
        return None;
    }
    let _ = disk.remove(&segment.index_path());
    let path = format!("{}.{}.void", segment.path, segment.generation);
    disk.rename(&segment.path, &path).ok()?;
    Some(Discarded { path, segment })
}

pub(super) fn allocate<D: Disk>(
    segment: &Arc<Segment<D>>,
    tip: TopicIdPartition,
    len: u64,
) -> io::Result<Outcome<D>> {
    // No room ahead is no failure: the append path finds out for itself, in smaller steps.
    let allocated = segment.file().and_then(|file| file.allocate(len));
    if allocated.is_err() || segment.is_retired() {
        return Ok(Outcome::Nothing);
    }
    let (base_offset, generation) = (segment.base_offset, segment.generation);
    Ok(Outcome::Allocated { tip, base_offset, generation, len })
}

/// Renames the files of dropped segments away and takes what was derived from them.
pub(super) fn discard<D: Disk>(
    disk: &D,
    (dir, guard): (&str, &TruncationGuard),
    log_start: i64,
    segments: Vec<Arc<Segment<D>>>,
) -> Outcome<D> {
    let discarded = segments.into_iter().filter_map(|old| void_file(disk, guard, old)).collect();
    let entries = disk.list(dir).unwrap_or_default();
    let mut snapshots: Vec<i64> =
        entries.iter().filter_map(|entry| parse_offset_name(&entry.name, "snapshot")).collect();
    snapshots.sort_unstable();
    // The newest one at or below the start is where a rebuild begins.
    let keep = snapshots.partition_point(|offset| *offset <= log_start).saturating_sub(1);
    for offset in &snapshots[..keep] {
        let _ = disk.remove(&format!("{dir}/{}", snapshot_name(*offset)));
    }
    Outcome::Discarded(discarded)
}
