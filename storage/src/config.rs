//! What a log and a shard can be told: plain values, checked by whoever parses them.

use std::fmt;

use varve_protocol::records::Compression;

pub use varve_protocol::records::TimestampType;

/// Settings of one log. The names and defaults are Kafka's.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it would grow past this many bytes.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when its first record is older than this.
    pub segment_ms: i64,
    /// `segment.index.bytes`: a segment is closed when its index would grow past this.
    pub segment_index_bytes: u32,
    /// `retention.ms`: segments whose newest record is older are deleted; −1 keeps for ever.
    pub retention_ms: i64,
    /// `retention.bytes`: the oldest segments beyond this size are deleted; −1 keeps all.
    pub retention_bytes: i64,
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `delete.retention.ms`: how long a tombstone outlives its compaction.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`: the largest batch, in its size on disk.
    pub max_message_bytes: u32,
    /// `index.interval.bytes`: about so many bytes of log for each entry of the index.
    pub index_interval_bytes: u32,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `compression.type`: batches are stored with this codec; none keeps each as its producer
    /// compressed it. Whoever hands a client's batch to the log sees to it.
    pub compression: Option<Compression>,
    /// `compression.*.level` of that codec; none for the codec's default.
    pub compression_level: Option<i32>,
    /// `write.caching`: acknowledge from the page cache instead of from the disk.
    pub write_caching: bool,
    /// How long a producer that writes nothing is remembered (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
    /// How many producers one log remembers; the least recently used go first.
    pub producers_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_index_bytes: 10 << 20,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            cleanup: CleanupPolicy::DELETE,
            min_cleanable_dirty_ratio: 0.5,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            index_interval_bytes: 4096,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 60 * 60 * 1000,
            file_delete_delay_ms: 60_000,
            compression: None,
            compression_level: None,
            write_caching: false,
            producer_expiration_ms: DAY_MS,
            producers_max: 10_000,
        }
    }
}

/// `cleanup.policy`: what happens to old records. Both may hold; neither keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// Only the newest record of each key is kept.
    pub compact: bool,
}

impl CleanupPolicy {
    /// `delete`, the default.
    pub const DELETE: Self = Self { delete: true, compact: false };
    /// `compact`.
    pub const COMPACT: Self = Self { delete: false, compact: true };
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        Self::DELETE
    }
}

/// The number of a log shard within its data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Settings of a log shard. The defaults are those of a broker; tests make everything tiny.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardOptions {
    /// How many shards the data directory has; says which logs are this one's.
    pub shard_count: u32,
    /// The cluster that the data directory belongs to, written into new segments; zero if unknown.
    pub cluster_id: [u8; 16],
    /// The settings of logs that are found on the disk, until `set_config` gives them their own.
    pub log_config: LogConfig,
    /// Size of each of the journal's two files.
    pub journal_file_bytes: u64,
    /// Appends of one partition in one commit up to this size go through the journal; larger ones
    /// pay for a sync of their own segment. 0 turns the journal off.
    pub journal_append_bytes_max: usize,
    /// Journal bytes of one commit; whatever comes after that goes straight to its segment.
    pub journal_commit_bytes_max: usize,
    /// A checkpoint is due after so many bytes went straight to segments: bounds what a restart
    /// has to read again.
    pub checkpoint_bytes_max: u64,
    /// A checkpoint is due when anything is unchecked for so long.
    pub checkpoint_interval_ms: i64,
    /// Segment files kept open (and mapped) by this shard.
    pub open_files_max: usize,
    /// How much of the end of a log counts as hot: in the page cache for sure.
    pub hot_bytes: u32,
    /// The largest step in which the append path itself grows a segment.
    pub allocation_step_bytes_max: u32,
    /// A log that appended this much since the last maintenance gets space ahead, and its next
    /// segment before the active one is full.
    pub fast_append_bytes: u64,
    /// A round of compaction pauses after so many bytes until the next maintenance, about a second
    /// later: it takes a share of the disk and of a processor, never all of it.
    pub compaction_slice_bytes_max: u64,
    /// Start although bytes of the journal that were synced are damaged. Acknowledged records may
    /// be missing then.
    pub accept_journal_damage: bool,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            shard_count: 1,
            cluster_id: [0; 16],
            log_config: LogConfig::default(),
            journal_file_bytes: 32 << 20,
            journal_append_bytes_max: 64 << 10,
            journal_commit_bytes_max: 8 << 20,
            checkpoint_bytes_max: 256 << 20,
            checkpoint_interval_ms: 10_000,
            open_files_max: 4_000,
            hot_bytes: 16 << 20,
            allocation_step_bytes_max: 16 << 20,
            fast_append_bytes: 4 << 20,
            compaction_slice_bytes_max: 32 << 20,
            accept_journal_damage: false,
        }
    }
}
