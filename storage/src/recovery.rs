//! Opening a shard: from whatever a crash left to logs that hold everything acknowledged.
//!
//! 1. The checkpoint says, for each log, up to where its segments are on the disk.
//! 2. The journal after it is applied again, to the segments where they differ.
//! 3. Each log is scanned from the checkpointed position on, every byte checked: whole batches,
//!    CRC, offsets that continue, epochs that do not fall. The scan ends at the first bytes that
//!    are not that. Above what is known to be durable they are a torn tail, which is cut; below it
//!    they are damage, which is kept and not served, and the log takes no more appends.
//! 4. What was read but is not known to be on the disk is synced, and a new checkpoint is written.
//!
//! The cost is bounded by what was appended since the last checkpoint. Logs are recovered by
//! several threads.

mod generations;
mod scan_log;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use varve_protocol::vocabulary::{Offset, TimestampMs, TopicIdPartition};

use crate::checkpoint::{Checkpoint, CheckpointError, LogRecord};
use crate::config::{ShardId, ShardOptions};
use crate::fields::GENERATION_MAX;
use crate::file::{DirectoryFailed, Disk};
use crate::journal::{EntryKind, ReplayEntry, open_journal};
use crate::layout::{
    DELETED_SUFFIX, PARTITIONS_DIR, checkpoint_file, parse_partition_dir, shard_dir, shard_of,
};
use crate::log::{Log, ShardContext};
use crate::shard::{LogShard, Mark, decode_marks};
use crate::spawn::in_parallel;

pub(crate) use generations::{SegmentIdentity, is_void, void_from};
use scan_log::{RecoverError, RecoveredLog, recover_log};
pub(crate) use scan_log::{payload_below, payload_end};

/// Why a shard did not open. Nothing was taken away.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The checkpoint cannot be read.
    #[error(
        "{path}: {reason}. Acknowledged records are still in the segments; restore the file from a copy, or remove it to have every log read from its beginning"
    )]
    CheckpointDamaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes of the journal that were synced are not what was written.
    #[error(
        "{path}: the journal is damaged at byte {position}, below what was acknowledged. Restore the file from a copy, or start with the damage accepted, which may lose acknowledged records"
    )]
    JournalDamaged {
        /// The file.
        path: String,
        /// Where.
        position: u64,
    },
    /// The data directory was written with another number of shards.
    #[error("the data directory has {found} log shards, this process was told {expected}")]
    ShardCount {
        /// What the checkpoint says.
        found: u32,
        /// What the options say.
        expected: u32,
    },
    /// The disk did not answer.
    #[error("opening {what}: {source}")]
    Io {
        /// The file or directory.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A write or sync failed.
    #[error(transparent)]
    DirectoryFailed(#[from] DirectoryFailed),
}

/// A log that is damaged below its durable end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedLog {
    /// Whose log.
    pub partition: TopicIdPartition,
    /// The first offset that cannot be served.
    pub damaged_from: Offset,
    /// The file, the position, and what was found.
    pub reason: String,
}

/// What opening a shard found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Logs that the shard has now.
    pub logs: usize,
    /// Entries of the journal after the checkpoint.
    pub journal_entries: usize,
    /// Bytes of batches that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes that the journal put into segments that lacked them.
    pub replayed_bytes: u64,
    /// Logs whose torn tail was cut.
    pub torn_tails: usize,
    /// Logs with damage below their durable end.
    pub damaged: Vec<DamagedLog>,
    /// The journal was damaged, and the options accepted that.
    pub journal_damage_accepted: bool,
}

/// Everything that speaks of one log.
#[derive(Debug, Default)]
pub(crate) struct LogEvidence {
    pub(crate) record: Option<LogRecord>,
    pub(crate) entries: Vec<ReplayEntry>,
    pub(crate) marks: Vec<Mark>,
    /// Generations up to here belong to a log that was deleted.
    pub(crate) deleted_generation: Option<u32>,
    pub(crate) has_dir: bool,
}

impl LogEvidence {
    /// Forgets what speaks of a log that was deleted before this one was made.
    pub(crate) fn drop_deleted(&mut self) {
        let Some(deleted) = self.deleted_generation else { return };
        self.record = self.record.take().filter(|record| record.generation > deleted);
        self.entries.retain(|entry| entry.target.generation > deleted);
        self.marks.retain(|mark| mark.generation > deleted);
    }
}

/// The log and the generation that the name of a deleted log's directory speaks of.
pub(crate) fn parse_deleted_dir(name: &str) -> Option<(TopicIdPartition, u32)> {
    let (log, rest) = name.split_at(name.find('.')?);
    let generation = rest.strip_prefix(DELETED_SUFFIX)?;
    let generation = generation.trim_start_matches('-').parse().unwrap_or(0);
    let generation = if generation > GENERATION_MAX { 0 } else { generation };
    Some((parse_partition_dir(log)?, generation))
}

impl<D: Disk> LogShard<D> {
    /// Opens the shard and recovers all of its logs.
    ///
    /// Everything that was durable before is there; `durable_end` equals `log_end` for every log
    /// that is not damaged.
    ///
    /// # Errors
    /// [`OpenError`]. A damaged log is no error: see [`RecoveryReport::damaged`].
    pub fn open(
        disk: D,
        id: ShardId,
        options: ShardOptions,
        now: TimestampMs,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let checkpoint = load_checkpoint(&disk, id, &options)?;
        make_dirs(&disk, id)?;
        let sequence = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence);
        let opened = open_journal(&disk, id, options.journal_file_bytes, sequence)
            .map_err(|source| OpenError::Io { what: shard_dir(id), source })?;
        let mut report = RecoveryReport::default();
        if let Some(damage) = opened.damage {
            if !options.accept_journal_damage {
                let (path, position) = (damage.path, damage.position);
                return Err(OpenError::JournalDamaged { path, position });
            }
            report.journal_damage_accepted = true;
        }
        report.journal_entries = opened.entries.len();
        let has_entries = !opened.entries.is_empty();
        let mut next_generation = checkpoint.as_ref().map_or(1, |found| found.next_generation);
        let (evidence, dead_dirs) = gather(&disk, id, &options, checkpoint, opened.entries)?;
        next_generation = next_generation.max(highest_generation(&evidence) + 1);
        let context = ShardContext::new(&disk, &options, next_generation);
        let recovered = in_parallel(disk.parallelism(), evidence, |(tip, evidence)| {
            recover_log(&context, tip, evidence, now.0)
        });
        let mut logs = BTreeMap::new();
        let mut is_changed = has_entries || !dead_dirs.is_empty();
        let mut highest = next_generation;
        let config = Arc::new(options.log_config.clone());
        for recovered in recovered {
            let Some(log) = recovered.map_err(|error| explain(&disk, error))? else {
                is_changed = true;
                continue;
            };
            is_changed |= log.is_changed;
            highest = highest.max(log.parts.generation + 1);
            note(&mut report, &log);
            let tip = log.parts.tip;
            logs.insert(tip, Log::from_parts(&context, Arc::clone(&config), log.parts, now.0));
        }
        context.next_generation.fetch_max(highest, std::sync::atomic::Ordering::Relaxed);
        report.logs = logs.len();
        let mut shard = Self::from_parts(id, options, context, logs, opened.journal, now);
        if is_changed {
            shard.close()?;
        }
        // Until the new checkpoint, the renamed directories are what says that the journal's entries
        // for them are void. From now on they may go, and maintenance removes them: nobody waits
        // for the file system to free what was deleted.
        shard.bury_dirs(dead_dirs);
        Ok((shard, report))
    }
}

fn load_checkpoint<D: Disk>(
    disk: &D,
    id: ShardId,
    options: &ShardOptions,
) -> Result<Option<Checkpoint>, OpenError> {
    let path = checkpoint_file(id);
    let checkpoint = match Checkpoint::load(disk, id) {
        Ok(checkpoint) => checkpoint,
        Err(CheckpointError::Io(source)) if source.kind() != io::ErrorKind::InvalidData => {
            return Err(OpenError::Io { what: path, source });
        }
        Err(error) => {
            return Err(OpenError::CheckpointDamaged { path, reason: error.to_string() });
        }
    };
    if let Some(found) = checkpoint.as_ref().map(|checkpoint| checkpoint.shard_count)
        && found != options.shard_count
    {
        return Err(OpenError::ShardCount { found, expected: options.shard_count });
    }
    Ok(checkpoint)
}

fn make_dirs<D: Disk>(disk: &D, id: ShardId) -> Result<(), OpenError> {
    let explain = |what: &str, source| OpenError::Io { what: what.to_owned(), source };
    for dir in [shard_dir(id), PARTITIONS_DIR.to_owned()] {
        disk.create_dir(&dir).map_err(|source| explain(&dir, source))?;
    }
    disk.sync_dir("").map_err(|source| explain("the data directory", source))
}

/// Sorts what checkpoint, journal and directories say by log.
#[expect(clippy::type_complexity, reason = "a list of pairs, used once")]
fn gather<D: Disk>(
    disk: &D,
    id: ShardId,
    options: &ShardOptions,
    checkpoint: Option<Checkpoint>,
    entries: Vec<ReplayEntry>,
) -> Result<(Vec<(TopicIdPartition, LogEvidence)>, Vec<String>), OpenError> {
    let mut evidence: BTreeMap<TopicIdPartition, LogEvidence> = BTreeMap::new();
    let mut dead_dirs = Vec::new();
    let listed = disk
        .list(PARTITIONS_DIR)
        .map_err(|source| OpenError::Io { what: PARTITIONS_DIR.to_owned(), source })?;
    let mut deleted = BTreeSet::new();
    for entry in listed {
        let is_ours =
            |tip: &TopicIdPartition| shard_of(tip, options.shard_count) == id && entry.is_dir;
        if let Some(tip) = parse_partition_dir(&entry.name).filter(is_ours) {
            evidence.entry(tip).or_default().has_dir = true;
        } else if let Some(dead) = parse_deleted_dir(&entry.name).filter(|(tip, _)| is_ours(tip)) {
            deleted.insert(dead);
            dead_dirs.push(format!("{PARTITIONS_DIR}/{}", entry.name));
        }
    }
    for record in checkpoint.map(|checkpoint| checkpoint.logs).unwrap_or_default() {
        let tip = record.tip;
        evidence.entry(tip).or_default().record = Some(record);
    }
    for entry in entries {
        match entry.target.kind {
            EntryKind::Append => {
                let tip = entry.target.tip;
                evidence.entry(tip).or_default().entries.push(entry);
            }
            EntryKind::Marks => {
                for mark in decode_marks(&entry.payload) {
                    evidence.entry(mark.tip).or_default().marks.push(mark);
                }
            }
        }
    }
    for (tip, generation) in deleted {
        let log = evidence.entry(tip).or_default();
        log.deleted_generation = log.deleted_generation.max(Some(generation));
    }
    Ok((evidence.into_iter().collect(), dead_dirs))
}

fn highest_generation(evidence: &[(TopicIdPartition, LogEvidence)]) -> u32 {
    let of_log = |log: &LogEvidence| {
        let entries = log.entries.iter().map(|entry| entry.target.generation).max();
        entries.max(log.deleted_generation).max(log.record.as_ref().map(|record| record.generation))
    };
    evidence.iter().filter_map(|(_, log)| of_log(log)).max().unwrap_or(0)
}

fn note<D: Disk>(report: &mut RecoveryReport, log: &RecoveredLog<D>) {
    report.scanned_bytes += log.scanned_bytes;
    report.replayed_bytes += log.replayed_bytes;
    report.torn_tails += usize::from(log.is_torn);
    if let Some(damaged_from) = log.parts.damaged_from {
        report.damaged.push(DamagedLog {
            partition: log.parts.tip,
            damaged_from: Offset(damaged_from),
            reason: log.damage.clone().unwrap_or_default(),
        });
    }
}

fn explain<D: Disk>(disk: &D, error: RecoverError) -> OpenError {
    match disk.latch().failure() {
        Some(failed) => OpenError::DirectoryFailed(failed),
        None => OpenError::Io { what: error.what, source: error.source },
    }
}
