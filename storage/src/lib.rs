//! Partitioned segment logs on memory-mapped files: what varve keeps on its disk.
//!
//! A data directory belongs to one process ([`DataDir`]). Its partitions are divided among log
//! shards ([`LogShard`]), each owned by one thread; a shard owns the logs of its partitions
//! ([`Log`]) and one journal, through which the small appends of all of them become durable with
//! one write and one sync. Readers ([`LogReader`]) work from any thread. FORMAT.md has every byte.
//!
//! The crate is synchronous and starts no lasting threads: what takes long is handed out as a job
//! ([`CommitJob`], [`MaintenanceJob`]). Everything goes through one seam ([`Disk`]), with a real
//! disk ([`RealDisk`]) and a simulated one that can lose power ([`SimDisk`]) behind it.
#![deny(unsafe_code)]

mod check;
mod checkpoint;
mod commit;
mod compaction;
pub mod config;
mod data_dir;
mod dump;
mod entry_log;
mod epochs;
mod fields;
mod file;
mod index;
mod journal;
mod layout;
mod log;
mod mem;
mod mmap;
mod open_files;
mod partition_state;
mod producer_state;
mod published;
mod reader;
mod recovery;
mod retention;
mod rot;
pub mod sabotage;
mod scan;
mod segment;
mod segment_header;
mod shard;
mod slice;
mod spawn;

use varve_protocol::vocabulary::TopicIdPartition;

pub use check::{CheckProgress, CheckReport, Problem, Remedy, Severity, check};
pub use commit::{CommitDone, CommitJob};
pub use config::{CleanupPolicy, LogConfig, ShardId, ShardOptions, TimestampType};
pub use data_dir::{DataDir, DataDirError, FORMAT_VERSION, inspect, is_in_use};
pub use dump::{DumpLine, dump};
pub use entry_log::{
    ENTRY_BYTES_MAX, Entry, EntryLog, EntryLogError, EntrySnapshot, RecoveredEntries,
};
pub use epochs::EpochStart;
pub use file::{DirEntry, DirectoryFailed, Disk, DiskFile, FailureLatch, OpenMode, SECTOR_BYTES};
pub use log::{
    AppendBatchesError, AppendError, AppendOrigin, Appended, AppendedBatches, Log, TruncateError,
};
pub use mem::{Harm, SimCounts, SimDisk, SimFile};
pub use mmap::{RealDisk, RealFile};
pub use producer_state::{BATCHES_REMEMBERED, ProducerSummary};
pub use reader::{LogReader, ReadError, ReadSlices, TimestampOffset};
pub use recovery::{DamagedLog, OpenError, RecoveryReport};
pub use rot::{Rot, RotKind};
pub use shard::{LogSetError, LogShard, MaintenanceDone, MaintenanceJob, MaintenanceTally};
pub use slice::FileSlice;

/// The shard that a partition's log belongs to. Partitions of one topic spread evenly.
#[must_use]
pub fn shard_of(partition: &TopicIdPartition, shard_count: u32) -> ShardId {
    layout::shard_of(partition, shard_count)
}
