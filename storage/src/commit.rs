//! Group commit: what is to be written and synced, as a job for another thread.
//!
//! The shard's thread takes a [`CommitJob`], goes on appending, and gives the [`CommitDone`] back
//! to the shard. At most one job is in flight. One journal write and one fdatasync serve all small
//! appends; large ones pay for the sync of their own segment.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use varve_protocol::vocabulary::TopicIdPartition;

use crate::file::{DirectoryFailed, Disk, DiskFile, parent};
use crate::journal::JournalWrite;
use crate::layout::PARTITIONS_DIR;
use crate::segment::Segment;
use crate::spawn::in_parallel;

/// Segments, and how far each was written when the job was made.
pub(crate) type WrittenSegments<D> = Vec<(Arc<Segment<D>>, u64)>;

/// A log in a commit: durable up to `end_offset` once the job has run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommittedLog {
    pub(crate) tip: TopicIdPartition,
    pub(crate) generation: u32,
    pub(crate) end_offset: i64,
    /// It was made durable by the sync of its segments.
    pub(crate) is_direct: bool,
}

/// What a group commit writes and syncs. Run it on any thread, then give the result to
/// `LogShard::finish_commit`.
#[derive(Debug)]
#[must_use = "nothing becomes durable until the job has run"]
pub struct CommitJob<D: Disk> {
    pub(crate) disk: D,
    pub(crate) journal: Option<JournalWrite<D>>,
    pub(crate) segments: WrittenSegments<D>,
    pub(crate) logs: Vec<CommittedLog>,
}

/// A commit that has run, well or not.
#[derive(Debug)]
#[must_use = "the shard has to be told"]
pub struct CommitDone {
    pub(crate) result: Result<(), DirectoryFailed>,
    pub(crate) was_journal_synced: bool,
    pub(crate) logs: Vec<CommittedLog>,
}

impl<D: Disk> CommitJob<D> {
    /// How many logs the commit is for.
    #[must_use]
    pub fn log_count(&self) -> usize {
        self.logs.len()
    }

    /// How many segments it syncs one by one.
    #[must_use]
    pub fn synced_segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Writes and syncs. What it was taken for is durable if the result says so.
    pub fn run(self) -> CommitDone {
        let was_journal_synced = self.journal.as_ref().is_some_and(|write| write.must_sync);
        let ran = self.write();
        let result = ran.map_err(|error| {
            let latch = self.disk.latch();
            latch.close("group commit", &error);
            latch.failure().expect("the latch was just closed")
        });
        CommitDone { result, was_journal_synced, logs: self.logs }
    }

    fn write(&self) -> io::Result<()> {
        if let Some(journal) = &self.journal {
            journal.run()?;
        }
        sync_segments(&self.disk, &self.segments, 1)
    }
}

impl CommitDone {
    /// Whether everything is durable.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }
}

/// Syncs segments, and the directories of those whose name is not on the disk yet.
pub(crate) fn sync_segments<D: Disk>(
    disk: &D,
    segments: &WrittenSegments<D>,
    threads: usize,
) -> io::Result<()> {
    let synced = in_parallel(threads, segments.iter().collect(), |(segment, written)| {
        match segment.file() {
            Ok(file) => file.sync()?,
            // Deleted or cut off meanwhile: nobody waits for it any more.
            Err(_) if segment.is_retired() => return Ok(()),
            Err(error) => return Err(error),
        }
        segment.note_synced(*written);
        Ok(())
    });
    synced.into_iter().collect::<io::Result<Vec<()>>>()?;
    let unnamed: Vec<&Arc<Segment<D>>> = segments
        .iter()
        .map(|(segment, _)| segment)
        .filter(|segment| !segment.is_name_synced() && !segment.is_retired())
        .collect();
    if unnamed.is_empty() {
        return Ok(());
    }
    let dirs: BTreeSet<&str> = unnamed.iter().map(|segment| parent(&segment.path)).collect();
    for dir in dirs {
        match disk.sync_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    disk.sync_dir(PARTITIONS_DIR)?;
    for segment in unnamed {
        segment.note_name_synced();
    }
    Ok(())
}
