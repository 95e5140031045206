//! The segments of a log: how they come, and how they go.

use std::io;
use std::sync::Arc;

use super::{Log, PreparedSegment, RolledSegment};
use crate::compaction::{InstalledSegment, Rewritten};
use crate::file::{Disk, DiskFile, OpenMode};
use crate::layout::segment_name;
use crate::segment::{Segment, SegmentStart};
use crate::segment_header::{HEADER_PAGE_BYTES, SegmentHeader};

impl<D: Disk> Log<D> {
    /// A seal that was not written; the segment may be gone or cut meanwhile.
    pub(crate) fn give_back_rolled(&mut self, rolled: RolledSegment<D>, generation: u32) {
        if generation == self.generation && !rolled.segment.is_retired() {
            self.rolled.push(rolled);
            self.is_changed = true;
        }
    }

    pub(crate) fn take_rolled(&mut self) -> Vec<RolledSegment<D>> {
        std::mem::take(&mut self.rolled)
    }

    /// Takes the oldest segments out of the log; readers do not find them any more.
    pub(crate) fn drop_oldest(&mut self, count: usize) -> Vec<Arc<Segment<D>>> {
        let segments = self.segments();
        assert!(count < segments.len());
        self.set_segments(segments[count..].to_vec());
        let dropped = segments[..count].to_vec();
        self.forget(&dropped);
        dropped
    }

    /// Puts a rewritten segment in the place of the ones that it was made from. Its name is not
    /// synced: until it is, a crash brings the old files back, which say the same.
    pub(crate) fn install_rewritten(
        &mut self,
        first: usize,
        rewritten: Rewritten<D>,
    ) -> io::Result<InstalledSegment<D>> {
        let path = self.segment_path(rewritten.start.base_offset);
        let count = rewritten.sources.len();
        // Readers that meet a retired segment wait for this lock and find the new list.
        let mut list = self.shared.segments.write();
        for source in &rewritten.sources {
            source.retire();
        }
        let _ = self.context.disk.remove(&rewritten.sources[0].index_path());
        self.context.disk.rename(&rewritten.scratch, &path)?;
        let segment = Segment::sealed(&self.context.files, path, rewritten.start);
        let mut segments = list.to_vec();
        segments.splice(first..first + count, [Arc::clone(&segment)]);
        *list = segments.into();
        drop(list);
        segment.adopt_file(rewritten.file);
        self.forget(&rewritten.sources);
        self.is_changed = true;
        Ok(InstalledSegment { segment, covered: rewritten.sources[1..].to_vec() })
    }

    pub(super) fn forget(&mut self, gone: &[Arc<Segment<D>>]) {
        let is_gone = |segment: &Arc<Segment<D>>| gone.iter().any(|old| Arc::ptr_eq(old, segment));
        self.unsynced.retain(|segment| !is_gone(segment));
        self.rolled.retain(|rolled| !is_gone(&rolled.segment));
    }

    /// Makes the file of a new segment, with its header, open and not synced. Returns how much
    /// space it has.
    pub(super) fn create_segment(
        &mut self,
        base_offset: i64,
        now_ms: i64,
        path: &str,
        resets: bool,
    ) -> io::Result<(D::File, u64)> {
        let header = SegmentHeader {
            cluster_id: self.context.cluster_id,
            tip: self.shared.tip,
            base_offset,
            generation: self.generation,
            rewrite: 0,
            covers_end: base_offset,
            created_ms: now_ms,
            resets,
            is_rolled: true,
        };
        let disk = &self.context.disk;
        if let Some(PreparedSegment { file, allocated }) = self.preparation.take() {
            let path_now = format!("{}/{}", self.dir, crate::layout::PREPARED_FILE);
            file.write_at(0, &[&header.encode()])?;
            match disk.rename(&path_now, path) {
                Ok(()) => return Ok((file, allocated)),
                // Given back by a job that came late.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let file = create_segment_file(disk, path, &header)?;
        Ok((file, u64::from(HEADER_PAGE_BYTES)))
    }

    pub(super) fn segment_path(&self, base_offset: i64) -> String {
        format!("{}/{}", self.dir, segment_name(base_offset))
    }

    /// Makes a new segment the active one.
    pub(super) fn begin_segment(&mut self, file: D::File, base_offset: i64, now_ms: i64) {
        let path = self.segment_path(base_offset);
        let start = SegmentStart::empty(self.shared.tip, base_offset, self.generation);
        let segment = Segment::active(&self.context.files, path, start);
        segment.adopt_file(file);
        let mut segments = self.segments().to_vec();
        segments.push(Arc::clone(&segment));
        self.set_segments(segments);
        self.unsynced.push(Arc::clone(&segment));
        self.active = segment;
        self.allocated = u64::from(HEADER_PAGE_BYTES);
        self.headers_crc = 0;
        self.first_timestamp = i64::MIN;
        self.first_append_ms = now_ms;
    }
}

/// Makes (or empties) a segment file and writes its header. Not synced.
pub(crate) fn create_segment_file<D: Disk>(
    disk: &D,
    path: &str,
    header: &SegmentHeader,
) -> io::Result<D::File> {
    let file = disk.open(path, OpenMode::Replace)?;
    let created = file
        .allocate(u64::from(HEADER_PAGE_BYTES))
        .and_then(|()| file.write_at(0, &[&header.encode()]));
    if let Err(error) = created {
        // Nothing refers to the file yet. If it stays, recovery finds it empty and takes it away.
        drop(file);
        let _ = disk.remove(path);
        return Err(error);
    }
    Ok(file)
}
