//! Applying the journal to a log's segments.

use std::io;
use std::sync::Arc;

use varve_protocol::records::BatchHeader;

use super::{FIRST, LiveFile, Recovery};
use crate::file::{Disk, DiskFile, OpenMode};
use crate::journal::ReplayEntry;
use crate::layout::segment_name;
use crate::log::create_segment_file;
use crate::recovery::generations::{SegmentIdentity, void_from};
use crate::segment_header::SegmentHeader;

impl<D: Disk> Recovery<'_, D> {
    pub(super) fn replay(&mut self, entries: &[ReplayEntry]) -> io::Result<()> {
        for entry in entries {
            let void = void_from(&self.identities, entry.target.generation);
            let (len, _) = payload_below(&entry.payload, void);
            if len == 0 {
                continue;
            }
            let Some(number) = self.replay_target(entry)? else { continue };
            self.apply(number, entry.target.position, &entry.payload[..len])?;
        }
        self.live.sort_by_key(|live| live.identity.base_offset);
        Ok(())
    }

    /// The segment that an entry belongs to; made if a power cut took it.
    pub(super) fn replay_target(&mut self, entry: &ReplayEntry) -> io::Result<Option<usize>> {
        let target = &entry.target;
        let same = |live: &LiveFile<D::File>| live.identity.base_offset == target.base_offset;
        if let Some(number) = self.live.iter().position(same) {
            let identity = &self.live[number].identity;
            let is_it = identity.generation == target.generation && identity.rewrite == 0;
            return Ok(is_it.then_some(number));
        }
        let is_older = self.record.as_ref().is_some_and(|record| {
            record.end_offset != i64::MIN && target.base_offset < record.active_base
        });
        if is_older {
            // Everything of a segment older than the checkpoint's is on the disk, or was
            // rewritten or deleted since.
            return Ok(None);
        }
        let header = SegmentHeader {
            cluster_id: self.context.cluster_id,
            tip: self.tip,
            base_offset: target.base_offset,
            generation: target.generation,
            rewrite: 0,
            covers_end: target.base_offset,
            created_ms: self.now_ms,
            resets: target.resets,
            is_rolled: false,
        };
        let path = format!("{}/{}", self.dir, segment_name(target.base_offset));
        let headless =
            self.headless.iter().position(|(base_offset, _)| *base_offset == target.base_offset);
        let file = if let Some(number) = headless {
            // The header was never synced, or it rotted; the scan judges what is behind it.
            self.headless.remove(number);
            let file = self.disk().open(&path, OpenMode::Write)?;
            file.allocate(FIRST)?;
            file.write_at(0, &[&header.encode()])?;
            file
        } else {
            create_segment_file(self.disk(), &path, &header)?
        };
        self.names_changed = true;
        let len = file.len()?;
        self.live.push(LiveFile {
            identity: SegmentIdentity {
                base_offset: target.base_offset,
                generation: target.generation,
                rewrite: 0,
                covers_end: target.base_offset,
                resets: target.resets,
            },
            is_rolled: false,
            path,
            seal: None,
            file: Arc::new(file),
            len,
            needs_sync: true,
            uncached_from: u64::MAX,
        });
        Ok(Some(self.live.len() - 1))
    }

    pub(super) fn apply(&mut self, number: usize, position: u64, bytes: &[u8]) -> io::Result<()> {
        let live = &mut self.live[number];
        live.uncache(position)?;
        let end = position + bytes.len() as u64;
        if end > live.len {
            live.file.allocate(end.next_multiple_of(4096))?;
            live.len = live.file.len()?;
        }
        let mut found = vec![0; bytes.len()];
        live.file.read_at(position, &mut found)?;
        if found != bytes {
            live.file.write_at(position, &[bytes])?;
            self.replayed_bytes += bytes.len() as u64;
        }
        live.needs_sync = true;
        Ok(())
    }
}

/// How much of an entry's payload is whole batches below an offset, and the offset behind them.
pub(crate) fn payload_below(payload: &[u8], void: i64) -> (usize, i64) {
    let mut len = 0;
    let mut end_offset = i64::MIN;
    while let Ok(header) = BatchHeader::parse(&payload[len..]) {
        if header.size() > payload.len() - len || header.next_offset().0 > void {
            break;
        }
        len += header.size();
        end_offset = header.next_offset().0;
    }
    (len, end_offset)
}

/// The offset behind the last batch of an entry.
pub(crate) fn payload_end(payload: &[u8]) -> i64 {
    payload_below(payload, i64::MAX).1
}
