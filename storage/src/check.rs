//! Reading a data directory whole, to find what is damaged. Changes nothing.
//!
//! Every file is read and judged by the rules by which a start judges it: segments batch by batch,
//! with their seals and indexes; producer snapshots and partition states; the shards' journals and
//! checkpoints; entry logs such as the metadata's. What a record says is its reader's business.
//!
//! Meant for a stopped broker. On a running one, the end of an open file may look torn.

mod log;
mod replayed;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use varve_protocol::vocabulary::TopicIdPartition;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::ShardId;
use crate::entry_log::{EntryLogError, inspect_entries};
use crate::file::{DirEntry, Disk};
use crate::journal::{EntryKind, inspect_journal};
use crate::layout::{
    PARTITIONS_DIR, checkpoint_file, journal_file, parse_partition_dir, shard_dir, shard_of,
};
use crate::recovery::{LogEvidence, parse_deleted_dir};
use crate::shard::decode_marks;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the data directory.
    pub path: String,
    /// Where in the file, if that can be said.
    pub position: Option<u64>,
    /// What was found, and what was expected.
    pub what: String,
    /// What comes of it, and what to do.
    pub remedy: Remedy,
}

impl Problem {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.remedy {
            Remedy::None => Severity::Note,
            Remedy::NextStart => Severity::Mended,
            Remedy::RestoreLog | Remedy::RestoreShard | Remedy::RestoreEntries => Severity::Damage,
        }
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It harms nothing.
    Note,
    /// The next start mends it: a torn tail, a derived file.
    Mended,
    /// What was durable cannot be read.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Mended => "mended",
            Self::Damage => "damage",
        })
    }
}

/// What comes of a problem, and what a person can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing has to be done.
    None,
    /// The next start does it.
    NextStart,
    /// One log is served up to the damage and takes no appends.
    RestoreLog,
    /// No log of the shard opens.
    RestoreShard,
    /// The broker does not start.
    RestoreEntries,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "nothing has to be done",
            Self::NextStart => "the next start of the broker mends this",
            Self::RestoreLog => {
                "the partition is served up to the damage and takes no records; restore the file \
                 from a copy, or, where the partition has other replicas, remove the partition's \
                 directory while the broker is stopped, to have it copied from them"
            }
            Self::RestoreShard => {
                "no partition of this shard opens; restore the file from a copy, or, where all \
                 partitions have other replicas, start this broker on an empty directory, to have \
                 them copied"
            }
            Self::RestoreEntries => {
                "the broker does not start; restore the directory from a copy, or, in a cluster, \
                 remove it while the broker is stopped, to have it filled by the other brokers"
            }
        })
    }
}

/// What a check has read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Logs.
    pub logs: u64,
    /// Segments.
    pub segments: u64,
    /// Batches whose CRC fits.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Entries of the journals that the next start applies again.
    pub journal_entries: u64,
    /// Entries of entry logs, the metadata's among them.
    pub entries: u64,
    /// Everything that is not as it should be.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether everything that was durable can be read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity() < Severity::Damage)
    }

    fn note(&mut self, path: &str, position: Option<u64>, remedy: Remedy, what: impl ToString) {
        let (path, what) = (path.to_owned(), what.to_string());
        self.problems.push(Problem { path, position, what, remedy });
    }
}

/// Where a check is; for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// Segments that are done.
    pub segments_done: u64,
    /// Segments in all.
    pub segments: u64,
    /// Bytes of batches read so far.
    pub bytes: u64,
}

/// Reads every byte of a data directory.
///
/// # Errors
/// When a directory or file cannot be read at all; damage is no error but a [`Problem`].
pub fn check<D: Disk>(
    disk: &D,
    shard_count: u32,
    mut on_progress: impl FnMut(CheckProgress),
) -> io::Result<CheckReport> {
    let mut report = CheckReport::default();
    let mut evidence = BTreeMap::new();
    for shard in (0..shard_count).map(ShardId) {
        report.check_shard(disk, shard, shard_count, &mut evidence)?;
    }
    for entry in names(disk, "")?.into_iter().filter(|entry| entry.is_dir) {
        let holds_entries = |entry: &DirEntry| entry.name.starts_with("entries-");
        if names(disk, &entry.name)?.iter().any(holds_entries) {
            report.check_entries(disk, &entry.name)?;
        }
    }
    let mut logs = Vec::new();
    let mut segments = 0;
    for entry in names(disk, PARTITIONS_DIR)? {
        let path = format!("{PARTITIONS_DIR}/{}", entry.name);
        match parse_partition_dir(&entry.name) {
            Some(tip) if entry.is_dir => {
                let files = names(disk, &path)?;
                let is_segment = |file: &&DirEntry| file.name.ends_with(".log");
                segments += files.iter().filter(is_segment).count() as u64;
                logs.push((path, tip, files));
            }
            _ => match parse_deleted_dir(&entry.name) {
                Some((tip, generation)) => {
                    let evidence = evidence.entry(tip).or_default();
                    let deleted = &mut evidence.deleted_generation;
                    *deleted = (*deleted).max(Some(generation));
                    let what = "a deleted partition whose files are not all removed yet";
                    report.note(&path, None, Remedy::NextStart, what);
                }
                None => report.note(&path, None, Remedy::None, "no partition's directory"),
            },
        }
    }
    for (dir, tip, files) in logs {
        let mut evidence = evidence.remove(&tip).unwrap_or_default();
        evidence.drop_deleted();
        report.check_log(disk, &dir, tip, (&files, evidence), &mut |report| {
            let (segments_done, bytes) = (report.segments, report.bytes);
            on_progress(CheckProgress { segments_done, segments, bytes });
        })?;
        report.logs += 1;
    }
    Ok(report)
}

/// The names in a directory; none if it does not exist.
fn names<D: Disk>(disk: &D, dir: &str) -> io::Result<Vec<DirEntry>> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

impl CheckReport {
    /// Reads the checkpoint and the journal of one shard; notes what they say of logs.
    fn check_shard<D: Disk>(
        &mut self,
        disk: &D,
        shard: ShardId,
        shard_count: u32,
        evidence: &mut BTreeMap<TopicIdPartition, LogEvidence>,
    ) -> io::Result<()> {
        self.check_names(disk, &shard_dir(shard), |name| {
            matches!(name, "checkpoint" | "journal-0" | "journal-1")
        })?;
        let path = checkpoint_file(shard);
        let checkpoint = match Checkpoint::load(disk, shard) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(error);
            }
            Err(error) => {
                self.note(&path, None, Remedy::RestoreShard, error);
                None
            }
        };
        let sequence = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence);
        if let Some(checkpoint) = checkpoint {
            if checkpoint.shard_count != shard_count {
                let found = checkpoint.shard_count;
                let what = format!("it speaks of {found} shards, the directory has {shard_count}");
                self.note(&path, None, Remedy::RestoreShard, what);
            }
            for log in checkpoint.logs {
                if shard_of(&log.tip, shard_count) != shard {
                    let what = format!("it speaks of {}, which is another shard's", log.tip);
                    self.note(&path, None, Remedy::RestoreShard, what);
                }
                let tip = log.tip;
                evidence.entry(tip).or_default().record = Some(log);
            }
        }
        let journal = inspect_journal(disk, shard, sequence)?;
        self.journal_entries += journal.entries.len() as u64;
        for entry in journal.entries {
            match entry.target.kind {
                EntryKind::Append => {
                    evidence.entry(entry.target.tip).or_default().entries.push(entry);
                }
                EntryKind::Marks => {
                    for mark in decode_marks(&entry.payload) {
                        evidence.entry(mark.tip).or_default().marks.push(mark);
                    }
                }
            }
        }
        for number in journal.strange_headers {
            let what = "its header is damaged; the file is made anew";
            self.note(&journal_file(shard, number), Some(0), Remedy::NextStart, what);
        }
        if let Some(damage) = journal.damage {
            let what = "the entry here was synced and is not what was written";
            self.note(&damage.path, Some(damage.position), Remedy::RestoreShard, what);
        }
        Ok(())
    }

    /// Reads one entry log.
    fn check_entries<D: Disk>(&mut self, disk: &D, dir: &str) -> io::Result<()> {
        match inspect_entries(disk, dir) {
            Ok(inspected) => {
                let snapshot = inspected.recovered.snapshot.map_or(0, |_| 1);
                self.entries += inspected.recovered.entries.len() as u64 + snapshot;
                if inspected.is_torn {
                    let (path, end) = (&inspected.path, Some(inspected.end));
                    self.note(path, end, Remedy::NextStart, "a torn tail, which is cut");
                }
                for path in inspected.remains {
                    let what = "what an unfinished snapshot left, which is removed";
                    self.note(&path, None, Remedy::NextStart, what);
                }
                Ok(())
            }
            Err(EntryLogError::Corrupt { path, reason, .. }) => {
                self.note(&path, None, Remedy::RestoreEntries, reason);
                Ok(())
            }
            Err(EntryLogError::Io { source, .. }) => Err(source),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Tells the names in a directory that no rule of FORMAT.md explains.
    fn check_names<D: Disk>(
        &mut self,
        disk: &D,
        dir: &str,
        is_known: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        for entry in names(disk, dir)? {
            if !is_known(&entry.name) {
                self.note_stranger(dir, &entry.name);
            }
        }
        Ok(())
    }

    fn note_stranger(&mut self, dir: &str, name: &str) {
        let path = format!("{dir}/{name}");
        if [".new", ".void", ".prepared"].iter().any(|end| name.ends_with(end)) {
            self.note(&path, None, Remedy::NextStart, "an unfinished file, which is removed");
        } else {
            self.note(&path, None, Remedy::None, "no file of varve's; it is passed over");
        }
    }
}
