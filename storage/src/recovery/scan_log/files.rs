//! What is there of a log, and what of it counts.

use std::io;
use std::sync::Arc;

use super::{LiveFile, Recovery};
use crate::file::{Disk, DiskFile, OpenMode};
use crate::journal::ReplayEntry;
use crate::layout::parse_offset_name;
use crate::partition_state::PartitionState;
use crate::recovery::LogEvidence;
use crate::recovery::generations::{SegmentIdentity, is_void, void_from};
use crate::segment_header::{Seal, SegmentHeader};

use super::replay::payload_end;

impl<D: Disk> Recovery<'_, D> {
    pub(super) fn list_files(&mut self, entries: &[ReplayEntry]) -> io::Result<()> {
        for entry in self.disk().list(&self.dir)? {
            let path = format!("{}/{}", self.dir, entry.name);
            if let Some(base_offset) = parse_offset_name(&entry.name, "log") {
                self.open_segment(path, base_offset)?;
            } else if [".new", ".void", ".prepared"].iter().any(|end| entry.name.ends_with(end)) {
                self.disk().remove(&path)?;
            }
        }
        self.identities = self.live.iter().map(|live| live.identity).collect();
        for entry in entries {
            self.identities.push(SegmentIdentity {
                base_offset: entry.target.base_offset,
                generation: entry.target.generation,
                rewrite: 0,
                covers_end: entry.target.base_offset,
                resets: entry.target.resets,
            });
        }
        match PartitionState::load(self.disk(), &self.dir) {
            Ok(state) => self.state = state,
            Err(error) => {
                let reason = format!("{}/partition.state: {error}", self.dir);
                self.note_damage(i64::MIN, reason);
            }
        }
        Ok(())
    }

    pub(super) fn open_segment(&mut self, path: String, base_offset: i64) -> io::Result<()> {
        let file = self.disk().open(&path, OpenMode::Write)?;
        let len = file.len()?;
        let is_proven = self.record.as_ref().is_some_and(|record| {
            record.end_offset != i64::MIN && base_offset <= record.active_base
        });
        if !is_proven {
            file.uncache(0, 1024)?;
        }
        let mut page = vec![0; 1024];
        if len >= page.len() as u64 {
            file.read_at(0, &mut page)?;
        }
        let header = SegmentHeader::decode(&page[..512]);
        let problem = match &header {
            None => Some("has no intact header".to_owned()),
            Some(header) if header.tip != self.tip || header.base_offset != base_offset => {
                Some("belongs to another partition or offset".to_owned())
            }
            Some(header) if self.is_foreign(header) => {
                Some("belongs to another cluster".to_owned())
            }
            Some(_) => None,
        };
        match (header, problem) {
            (Some(header), None) => self.live.push(LiveFile {
                identity: SegmentIdentity {
                    base_offset,
                    generation: header.generation,
                    rewrite: header.rewrite,
                    covers_end: header.covers_end,
                    resets: header.resets,
                },
                is_rolled: header.is_rolled,
                path,
                uncached_from: u64::MAX,
                seal: Seal::decode(&page[512..]),
                file: Arc::new(file),
                len,
                needs_sync: false,
            }),
            (_, problem) => {
                self.headless
                    .push((base_offset, format!("{path} {}", problem.unwrap_or_default())));
            }
        }
        Ok(())
    }

    pub(super) fn is_foreign(&self, header: &SegmentHeader) -> bool {
        let ours = self.context.cluster_id;
        ours != [0; 16] && header.cluster_id != [0; 16] && header.cluster_id != ours
    }

    /// Drops what a truncation or reset after the checkpoint made void, and finds the durable end.
    pub(super) fn judge_evidence(&mut self, evidence: &LogEvidence) {
        let void = |generation| void_from(&self.identities, generation);
        let mut durable_end = i64::MIN;
        if let Some(state) = &mut self.state {
            let void = void(state.generation);
            state.epochs.retain(|start| start.start_offset.0 < void);
            if void == i64::MIN {
                self.state = None;
            }
        }
        if let Some(record) = &evidence.record {
            let void = void(record.generation);
            durable_end = durable_end.max(record.durable_end.min(void));
            let mut record = record.clone();
            record.epochs.retain(|start| start.start_offset.0 < void);
            if void > record.end_offset {
                self.record = Some(record);
            } else if void != i64::MIN {
                // Truncated since: only what is older than the cut still holds.
                record.end_offset = i64::MIN;
                self.record = Some(record);
            }
        }
        // A mark is written once the segments themselves were synced.
        let marks = evidence.marks.iter();
        let marked = marks.map(|mark| mark.end_offset.min(void(mark.generation))).max();
        let synced_end = marked.unwrap_or(i64::MIN);
        durable_end = durable_end.max(synced_end);
        for entry in &evidence.entries {
            let void = void(entry.target.generation);
            durable_end = durable_end.max(payload_end(&entry.payload).min(void));
        }
        self.durable_end = durable_end;
        self.synced_end = synced_end;
    }

    pub(super) fn drop_void(&mut self) -> io::Result<()> {
        let files = std::mem::take(&mut self.live);
        for live in files {
            if is_void(&self.identities, &live.identity) {
                self.disk().remove(&live.path)?;
                self.names_changed = true;
            } else {
                self.live.push(live);
            }
        }
        self.live.sort_by_key(|live| live.identity.base_offset);
        for pair in self.live.windows(2) {
            // A truncation makes durable what it leaves.
            if pair[1].identity.generation > pair[0].identity.generation {
                self.durable_end = self.durable_end.max(pair[1].identity.base_offset);
            }
        }
        Ok(())
    }
}
