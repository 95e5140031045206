//! Writing a checkpoint: seals of closed segments, syncs, states, and the file itself.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::Arc;

use varve_protocol::vocabulary::TopicIdPartition;

use crate::checkpoint::Checkpoint;
use crate::commit::{WrittenSegments, sync_segments};
use crate::config::ShardId;
use crate::file::{Disk, DiskFile, OpenMode, replace_file};
use crate::layout::snapshot_name;
use crate::log::{RolledSegment, TruncationGuard, is_full};
use crate::partition_state::StateWrite;
use crate::segment_header::SEAL_POSITION;

/// A closed segment to be sealed, in a log of that generation.
#[derive(Debug)]
pub(super) struct SealWork<D: Disk> {
    pub(super) rolled: RolledSegment<D>,
    pub(super) guard: TruncationGuard,
    pub(super) generation: u32,
}

/// Producers at an offset of a log of that generation.
#[derive(Debug)]
pub(super) struct SnapshotWrite {
    pub(super) path: String,
    pub(super) content: Vec<u8>,
    pub(super) guard: TruncationGuard,
    pub(super) generation: u32,
}

#[derive(Debug)]
pub(super) struct CheckpointJob<D: Disk> {
    pub(super) shard: ShardId,
    pub(super) number: u64,
    pub(super) sequence: u64,
    pub(super) seals: Vec<SealWork<D>>,
    pub(super) segments: WrittenSegments<D>,
    pub(super) states: Vec<StateWrite>,
    /// Producer snapshots that the checkpoint refers to.
    pub(super) snapshots: Vec<SnapshotWrite>,
    pub(super) encoded: Vec<u8>,
    pub(super) logs: Vec<(TopicIdPartition, u32, i64)>,
}

impl<D: Disk> CheckpointJob<D> {
    pub(super) fn run(&self, disk: &D) -> io::Result<()> {
        for work in &self.seals {
            work.run(disk)?;
        }
        // A cut segment is synced already, but its seal is not.
        let sealed = self.seals.iter().map(|work| &work.rolled);
        let sealed = sealed.map(|rolled| (Arc::clone(&rolled.segment), rolled.seal.end_position));
        let segments = each_once(self.segments.iter().cloned().chain(sealed));
        sync_segments(disk, &segments, disk.parallelism())?;
        for state in &self.states {
            ignore_deleted(state.run(disk))?;
        }
        for snapshot in &self.snapshots {
            let guarded = snapshot.guard.lock();
            if *guarded == snapshot.generation {
                ignore_deleted(replace_file(disk, &snapshot.path, &[&snapshot.content]))?;
            }
        }
        Checkpoint::store(disk, self.shard, &self.encoded)
    }
}

impl<D: Disk> SealWork<D> {
    /// Writes the seal of a closed segment, its index, the producers at its end, and gives back the
    /// space behind it. All of it is derived: what a power cut takes is made again.
    pub(super) fn run(&self, disk: &D) -> io::Result<()> {
        let rolled = &self.rolled;
        let segment = &rolled.segment;
        let file = match segment.file() {
            Ok(file) => file,
            Err(_) if segment.is_retired() => return Ok(()),
            Err(error) => return Err(error),
        };
        file.write_at(SEAL_POSITION, &[&rolled.seal.encode()])?;
        let len = file.len()?;
        let page_end = rolled.seal.end_position.next_multiple_of(4096);
        if page_end < len && !rolled.is_cut && rolled.seal.end_position == segment.end_position() {
            file.erase(page_end, len, true)?;
        }
        match segment.encode_index() {
            Ok(index) => write_derived(disk, &segment.index_path(), &index, false)?,
            Err(error) if !segment.is_retired() => return Err(error),
            Err(_) => {}
        }
        let dir = crate::file::parent(&segment.path);
        let path = format!("{dir}/{}", snapshot_name(rolled.seal.next_offset));
        let guarded = self.guard.lock();
        if *guarded != self.generation {
            return Ok(());
        }
        // Older batches may be gone by the time that the snapshot is needed, so it must not be torn.
        write_derived(disk, &path, &rolled.snapshot, true)
    }
}

/// Each segment once, as far as any says that it is written; in the order in which they are named, so that the
/// same run syncs in the same order, wherever they lie in memory.
fn each_once<T>(named: impl IntoIterator<Item = (Arc<T>, u64)>) -> Vec<(Arc<T>, u64)> {
    let mut places = BTreeMap::new();
    let mut once: Vec<(Arc<T>, u64)> = Vec::new();
    for (segment, end) in named {
        match places.entry(Arc::as_ptr(&segment).addr()) {
            Entry::Vacant(place) => {
                place.insert(once.len());
                once.push((segment, end));
            }
            Entry::Occupied(place) => {
                let (_, known) = &mut once[*place.get()];
                *known = (*known).max(end);
            }
        }
    }
    once
}

/// A log that was deleted while the job ran has no directory any more.
pub(super) fn ignore_deleted(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn write_derived<D: Disk>(
    disk: &D,
    path: &str,
    content: &[u8],
    syncs: bool,
) -> io::Result<()> {
    let scratch = format!("{path}.new");
    let written = disk.open(&scratch, OpenMode::Replace).and_then(|file| {
        file.write_at(0, &[content])?;
        if syncs {
            file.sync()?;
        }
        disk.rename(&scratch, path)
    });
    match written {
        // Derived files may be missing; a full disk must not fail the directory.
        Err(error) if is_full(&error) => Ok(()),
        other => ignore_deleted(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A power cut between two syncs would else leave other files behind in each run of a seed.
    #[test]
    fn segments_are_synced_in_the_order_in_which_they_are_named() {
        let segments: Vec<Arc<u8>> = (0..8).map(Arc::new).collect();
        let forth = segments.iter().map(|segment| (Arc::clone(segment), 1));
        let back = segments.iter().rev().map(|segment| (Arc::clone(segment), 2));
        let numbers = |once: Vec<(Arc<u8>, u64)>| -> Vec<(u8, u64)> {
            once.into_iter().map(|(segment, end)| (*segment, end)).collect()
        };
        let twos = |order: [u8; 8]| order.map(|number| (number, 2));
        assert_eq!(
            numbers(each_once(forth.clone().chain(back.clone()))),
            twos([0, 1, 2, 3, 4, 5, 6, 7])
        );
        assert_eq!(numbers(each_once(back.chain(forth))), twos([7, 6, 5, 4, 3, 2, 1, 0]));
    }
}
