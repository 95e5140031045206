//! One segment file: positions, published end, index, and the slot of its open file.
//!
//! A segment is shared by its log, which appends, and by readers on any thread. The only thing
//! that changes under a reader is the published end, and that only grows, except when the log is
//! truncated: then the segment is closed at a lower end for good, and a new file takes what comes
//! next. Bytes below an end that was ever published are never written again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use varve_protocol::vocabulary::TopicIdPartition;

use crate::file::{Disk, OpenMode, read_file};
use crate::index::{IndexEntry, IndexedBatch, Mark, SegmentIndex};
use crate::open_files::OpenFiles;
use crate::published::PublishedEnd;
use crate::scan::{HeaderScan, ScanError, ScannedBatch, headers_crc_append};
use crate::segment_header::{HEADER_PAGE_BYTES, Seal};

/// Where an index has to be built from headers of which one is harmed, those within so many bytes before it are not
/// believed either: a write that came to the wrong place may have begun before it shows. Most writes are shorter.
const HARM_BYTES: u64 = 1 << 20;

/// A segment of a log.
#[derive(Debug)]
pub(crate) struct Segment<D: Disk> {
    pub(crate) tip: TopicIdPartition,
    pub(crate) path: Box<str>,
    pub(crate) base_offset: i64,
    /// See [`crate::segment_header::SegmentHeader::generation`].
    pub(crate) generation: u32,
    /// See [`crate::segment_header::SegmentHeader::rewrite`].
    pub(crate) rewrite: u32,
    files: Arc<OpenFiles<D>>,
    /// Guards the open file; empty while it is closed.
    slot: Mutex<Option<Arc<D::File>>>,
    /// Used since the clock's hand last passed.
    is_touched: AtomicBool,
    is_sealed: AtomicBool,
    /// Where it ended when it was opened: what lies behind was appended by this process, checked.
    opened_end: u64,
    /// The file is gone or going; it is not opened again.
    is_retired: AtomicBool,
    published: PublishedEnd,
    /// Bytes below are on the disk.
    synced_position: AtomicU64,
    /// The file's name is on the disk.
    is_name_synced: AtomicBool,
    /// Guards the index; readers look up, the log appends.
    index: RwLock<IndexState>,
}

/// Of a closed segment whose index is not in memory the index is empty, and begins at the end.
#[derive(Debug)]
struct IndexState {
    index: SegmentIndex,
    /// Batches at lower positions are not in the index yet.
    begins_at: u64,
}

impl IndexState {
    fn empty((end_position, headers_crc): (u64, u32)) -> Self {
        let index = SegmentIndex::beginning_at(end_position, headers_crc);
        Self { index, begins_at: end_position }
    }

    fn is_complete(&self) -> bool {
        self.begins_at <= u64::from(HEADER_PAGE_BYTES)
    }
}

/// A batch that was looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundBatch {
    pub(crate) batch: ScannedBatch,
    /// Where the batch before it ends: its own offset is not lower.
    pub(crate) expected: i64,
}

/// What a segment is when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentStart {
    pub(crate) tip: TopicIdPartition,
    pub(crate) base_offset: i64,
    pub(crate) generation: u32,
    pub(crate) rewrite: u32,
    pub(crate) end_position: u64,
    pub(crate) next_offset: i64,
    pub(crate) max_timestamp: i64,
    /// See [`Seal::headers_crc`].
    pub(crate) headers_crc: u32,
}

impl SegmentStart {
    pub(crate) fn empty(tip: TopicIdPartition, base_offset: i64, generation: u32) -> Self {
        Self {
            tip,
            base_offset,
            generation,
            rewrite: 0,
            end_position: u64::from(HEADER_PAGE_BYTES),
            next_offset: base_offset,
            max_timestamp: i64::MIN,
            headers_crc: 0,
        }
    }
}

impl<D: Disk> Segment<D> {
    /// A segment that is open for appends. Batches below `start.end_position` are indexed when
    /// they are first asked for.
    pub(crate) fn active(
        files: &Arc<OpenFiles<D>>,
        path: String,
        start: SegmentStart,
    ) -> Arc<Self> {
        Self::make(files, path, start, false)
    }

    /// A closed segment, durable as it is.
    pub(crate) fn sealed(
        files: &Arc<OpenFiles<D>>,
        path: String,
        start: SegmentStart,
    ) -> Arc<Self> {
        let segment = Self::make(files, path, start, true);
        segment.note_synced(start.end_position);
        segment.note_name_synced();
        segment
    }

    fn make(
        files: &Arc<OpenFiles<D>>,
        path: String,
        start: SegmentStart,
        is_sealed: bool,
    ) -> Arc<Self> {
        let index = IndexState::empty((start.end_position, start.headers_crc));
        Arc::new(Self {
            tip: start.tip,
            path: path.into(),
            base_offset: start.base_offset,
            generation: start.generation,
            rewrite: start.rewrite,
            files: Arc::clone(files),
            slot: Mutex::new(None),
            is_touched: AtomicBool::new(false),
            is_sealed: AtomicBool::new(is_sealed),
            opened_end: start.end_position,
            is_retired: AtomicBool::new(false),
            published: PublishedEnd::new(
                start.end_position,
                start.next_offset,
                start.max_timestamp,
            ),
            synced_position: AtomicU64::new(0),
            is_name_synced: AtomicBool::new(false),
            index: RwLock::new(index),
        })
    }

    /// Puts a file that is open already into the slot.
    pub(crate) fn adopt_file(self: &Arc<Self>, file: D::File) -> Arc<D::File> {
        let file = Arc::new(file);
        *self.slot.lock() = Some(Arc::clone(&file));
        self.is_touched.store(true, Ordering::Relaxed);
        self.files.opened(self);
        file
    }

    /// The open file; opens it if need be.
    ///
    /// # Errors
    /// `NotFound` once the segment is retired; else as the disk says.
    pub(crate) fn file(self: &Arc<Self>) -> io::Result<Arc<D::File>> {
        self.is_touched.store(true, Ordering::Relaxed);
        let file = {
            let mut slot = self.slot.lock();
            if let Some(file) = slot.as_ref() {
                return Ok(Arc::clone(file));
            }
            if self.is_retired.load(Ordering::Acquire) {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            let file = Arc::new(self.files.disk.open(&self.path, OpenMode::Write)?);
            *slot = Some(Arc::clone(&file));
            file
        };
        self.files.opened(self);
        Ok(file)
    }

    pub(crate) fn take_touched(&self) -> bool {
        self.is_touched.swap(false, Ordering::Relaxed)
    }

    /// Gives back the file and, of a closed segment, the memory of the index.
    pub(crate) fn close_file(&self) {
        *self.slot.lock() = None;
        if self.is_sealed() {
            let mut state = self.index.write();
            *state = IndexState::empty(state.index.end());
        }
    }

    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        *self.slot.lock() = None;
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Acquire)
    }

    /// Whether what begins at `position` was appended by this process, and at most `hot_bytes` ago.
    pub(crate) fn is_fresh(&self, position: u64, hot_bytes: u32) -> bool {
        !self.is_sealed()
            && position >= self.opened_end
            && position + u64::from(hot_bytes) >= self.end_position()
    }

    /// See [`PublishedEnd::end`].
    pub(crate) fn end(&self) -> (u64, i64) {
        self.published.end()
    }

    pub(crate) fn end_position(&self) -> u64 {
        self.published.position()
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.published.next_offset()
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.published.max_timestamp()
    }

    /// Bytes of batches.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.end_position() - u64::from(HEADER_PAGE_BYTES)
    }

    /// Makes a batch that was just written visible to readers; `headers_crc` is that of the segment's
    /// headers up to this one.
    pub(crate) fn publish(
        &self,
        batch: &ScannedBatch,
        headers_crc: u32,
        index_interval_bytes: u32,
    ) {
        let header = &batch.header;
        assert!(batch.position == self.end_position());
        assert!(header.base_offset.0 >= self.next_offset());
        let indexed = self.indexed(batch, headers_crc);
        self.index.write().index.push(indexed, index_interval_bytes);
        let next_offset = header.next_offset().0;
        self.published.publish(batch.end_position(), next_offset, header.max_timestamp.0);
    }

    fn indexed(&self, batch: &ScannedBatch, headers_crc: u32) -> IndexedBatch {
        let relative = batch.header.base_offset.0 - self.base_offset;
        IndexedBatch {
            relative_offset: u32::try_from(relative)
                .expect("a segment spans less than 2^31 offsets"),
            position: u32::try_from(batch.position).expect("a segment has less than 2^32 bytes"),
            len: u32::try_from(batch.header.size()).expect("a batch has less than 2^31 bytes"),
            max_timestamp: batch.header.max_timestamp.0,
            headers_crc,
        }
    }

    /// See [`Seal::headers_crc`]; of all batches as they were appended, whatever the disk has now.
    pub(crate) fn headers_crc(&self) -> u32 {
        self.index.read().index.end().1
    }

    /// Closes the segment to appends.
    pub(crate) fn seal(&self) {
        self.is_sealed.store(true, Ordering::Release);
        self.index.write().index.shrink();
    }

    /// Closes the segment at a lower end; what lies behind it is void.
    pub(crate) fn cut(&self, seal: &Seal) {
        let Seal { end_position, next_offset, max_timestamp, headers_crc, .. } = *seal;
        assert!(end_position <= self.end_position());
        {
            let mut state = self.index.write();
            state.index.cut(end_position, headers_crc, max_timestamp);
            state.begins_at = state.begins_at.min(end_position);
        }
        self.is_sealed.store(true, Ordering::Release);
        self.published.cut(end_position, next_offset, max_timestamp);
    }

    pub(crate) fn synced_position(&self) -> u64 {
        self.synced_position.load(Ordering::Acquire)
    }

    pub(crate) fn note_synced(&self, position: u64) {
        self.synced_position.fetch_max(position, Ordering::AcqRel);
    }

    pub(crate) fn is_name_synced(&self) -> bool {
        self.is_name_synced.load(Ordering::Acquire)
    }

    pub(crate) fn note_name_synced(&self) {
        self.is_name_synced.store(true, Ordering::Release);
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.is_name_synced() && self.synced_position() >= self.end_position()
    }

    /// Bytes that the index takes; 0 while it is not in memory.
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.read().index.size_bytes()
    }

    fn with_index<T>(self: &Arc<Self>, lookup: impl FnOnce(&SegmentIndex) -> T) -> io::Result<T> {
        loop {
            let state = self.index.read();
            if state.is_complete() {
                return Ok(lookup(&state.index));
            }
            drop(state);
            self.complete_index()?;
        }
    }

    /// Loads the index of a closed segment, or builds what is missing of it from the batches.
    fn complete_index(self: &Arc<Self>) -> io::Result<()> {
        const INDEX_FILE_BYTES_MAX: u64 = 256 << 20;
        let first = u64::from(HEADER_PAGE_BYTES);
        if self.is_sealed()
            && let Ok(file) = read_file(&self.files.disk, &self.index_path(), INDEX_FILE_BYTES_MAX)
            && let Ok(index) = SegmentIndex::decode(&file, self.end_position())
        {
            let mut state = self.index.write();
            if state.index.end() == index.end() {
                *state = IndexState { index, begins_at: first };
                return Ok(());
            }
        }
        let (begins_at, headers_crc) = {
            let state = self.index.read();
            (state.begins_at, state.index.headers_crc_before())
        };
        let built = self.build_index(begins_at, headers_crc)?;
        let mut state = self.index.write();
        // It was completed, closed or cut meanwhile.
        if state.begins_at == begins_at {
            state.index.prepend(built);
            state.begins_at = first;
        }
        Ok(())
    }

    /// The index up to a position, before which the headers had that checksum when they were written.
    fn build_index(self: &Arc<Self>, end: u64, headers_crc: u32) -> io::Result<SegmentIndex> {
        let first = u64::from(HEADER_PAGE_BYTES);
        let file = self.file()?;
        let mut scan = HeaderScan::new(&*file, first, end);
        let mut index = SegmentIndex::beginning_at(first, 0);
        let mut expected = self.base_offset;
        let harmed_from = loop {
            // What lies behind damage cannot be found without an index; what is before it can.
            let batch = match scan.next_batch() {
                Ok(Some(batch)) if self.may_hold(&batch) => batch,
                Ok(None) if index.end().1 == headers_crc => return Ok(index),
                // The batches are all there, and nobody knows which of them is another.
                Ok(None) => break first,
                Ok(Some(ScannedBatch { position, .. })) | Err(ScanError::Damaged { position }) => {
                    break position.saturating_sub(HARM_BYTES);
                }
                Err(ScanError::Io(error)) => return Err(error),
            };
            if batch.header.base_offset.0 < expected {
                break batch.position.saturating_sub(HARM_BYTES);
            }
            expected = batch.header.next_offset().0;
            let headers_crc = headers_crc_append(index.end().1, &batch.header.encode());
            index.push(self.indexed(&batch, headers_crc), crate::index::REBUILD_INTERVAL_BYTES);
        };
        // Readers find no headers behind it that fit.
        index.forget_behind(harmed_from);
        Ok(index)
    }

    pub(crate) fn may_hold(&self, batch: &ScannedBatch) -> bool {
        let relative = batch.header.base_offset.0.checked_sub(self.base_offset);
        relative.is_some_and(|relative| (0..=i64::from(i32::MAX)).contains(&relative))
    }

    pub(crate) fn index_path(&self) -> String {
        format!("{}.index", self.path.strip_suffix(".log").unwrap_or(&self.path))
    }

    /// The index as a file, once the segment is closed.
    pub(crate) fn encode_index(self: &Arc<Self>) -> io::Result<Vec<u8>> {
        self.with_index(SegmentIndex::encode)
    }

    /// The first batch that ends behind `offset`, found by headers alone from the nearest one that
    /// the index knows.
    ///
    /// # Errors
    /// [`ScanError::Damaged`] where no batch begins, or one that cannot lie there.
    pub(crate) fn find_offset(
        self: &Arc<Self>,
        file: &D::File,
        offset: i64,
        end: u64,
    ) -> Result<Option<FoundBatch>, ScanError> {
        let (start, mut expected) = self.nearest(offset)?;
        let mut scan = HeaderScan::new(file, start, end);
        while let Some(batch) = scan.next_batch()? {
            // The index has its own checksum, and says what the batch is that it points at.
            let is_other = batch.position == start
                && start > u64::from(HEADER_PAGE_BYTES)
                && batch.header.base_offset.0 != expected;
            if !self.may_hold(&batch) || batch.header.base_offset.0 < expected || is_other {
                return Err(ScanError::Damaged { position: batch.position });
            }
            if batch.header.last_offset().0 >= offset {
                return Ok(Some(FoundBatch { batch, expected }));
            }
            expected = batch.header.next_offset().0;
        }
        Ok(None)
    }

    /// The end of the last batch from `begin` on that ends at or before `limit` and whose records all lie
    /// below `upper`, and the offset there, by headers alone; none if the first one does not.
    pub(crate) fn find_end(
        self: &Arc<Self>,
        file: &D::File,
        begin: u64,
        limit: u64,
        upper: i64,
    ) -> Result<Option<(u64, i64)>, ScanError> {
        let (segment_end, segment_next) = self.end();
        if limit >= segment_end && upper >= segment_next {
            return Ok(Some((segment_end, segment_next)));
        }
        let known = self.with_index(|index| {
            let behind = |entry: &IndexEntry| {
                u64::from(entry.position) <= limit
                    && self.base_offset + i64::from(entry.relative_offset) <= upper
            };
            let count = index.entries().partition_point(behind);
            let last = count.checked_sub(1).map(|last| index.entries()[last])?;
            let offset = self.base_offset + i64::from(last.relative_offset);
            (u64::from(last.position) > begin).then_some((u64::from(last.position), offset))
        })?;
        let mut found = known;
        let mut scan =
            HeaderScan::new(file, known.map_or(begin, |(position, _)| position), segment_end);
        while let Some(batch) = scan.next_batch()? {
            if batch.end_position() > limit || batch.header.next_offset().0 > upper {
                break;
            }
            found = Some((batch.end_position(), batch.header.next_offset().0));
        }
        Ok(found)
    }

    /// A position at or before the batch that holds `offset`, and the least offset that a batch there
    /// can have.
    pub(crate) fn nearest(self: &Arc<Self>, offset: i64) -> io::Result<(u64, i64)> {
        let relative = u32::try_from((offset - self.base_offset).max(0)).unwrap_or(u32::MAX);
        let entry = self.with_index(|index| index.entry_for_offset(relative))?;
        let first = (u64::from(HEADER_PAGE_BYTES), self.base_offset);
        Ok(entry.map_or(first, |entry| {
            (u64::from(entry.position), self.base_offset + i64::from(entry.relative_offset))
        }))
    }

    /// See [`SegmentIndex::marks`].
    pub(crate) fn marks(self: &Arc<Self>, from: u64, to: u64) -> io::Result<Vec<Mark>> {
        self.with_index(|index| index.marks(from, to))
    }

    /// The seal of the batches that end at a position; or of those before the first headers, up to
    /// there, that are not as they were written.
    pub(crate) fn seal_before(
        self: &Arc<Self>,
        file: &D::File,
        position: u64,
    ) -> Result<Seal, ScanError> {
        let marks = self.marks(0, position)?;
        let end = marks.last().map_or(position, |mark| mark.position);
        let mut seal = Seal::empty(self.base_offset);
        let (mut asked, mut proven) = (seal, seal);
        let mut scan = HeaderScan::new(file, seal.end_position, end);
        for mark in &marks {
            while seal.end_position < mark.position {
                match scan.next_batch() {
                    Ok(Some(batch)) => seal.extend(&batch),
                    Ok(None) | Err(ScanError::Damaged { .. }) => return Ok(proven),
                    Err(error) => return Err(error),
                }
                if seal.end_position <= position {
                    asked = seal;
                }
            }
            if (seal.end_position, seal.headers_crc) != (mark.position, mark.headers_crc) {
                return Ok(proven);
            }
            proven = asked;
        }
        Ok(proven)
    }

    /// Where to begin to look for a timestamp.
    pub(crate) fn position_for_timestamp(self: &Arc<Self>, timestamp: i64) -> io::Result<u64> {
        Ok(u64::from(self.with_index(|index| index.position_for_timestamp(timestamp))?))
    }

    /// About where a batch lies, without reading anything; `None` while the index is not ready.
    pub(crate) fn estimate_position(&self, offset: i64) -> Option<u64> {
        let relative = u32::try_from((offset - self.base_offset).max(0)).unwrap_or(u32::MAX);
        let state = self.index.read();
        state.is_complete().then(|| u64::from(state.index.position_for_offset(relative)))
    }
}
