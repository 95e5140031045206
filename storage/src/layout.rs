//! Names of files and directories. FORMAT.md lists them.

use varve_protocol::vocabulary::{PartitionIndex, TopicIdPartition};

use crate::config::ShardId;
use crate::fields::{topic_bytes, topic_from};

/// Holds the partitions of all shards.
pub(crate) const PARTITIONS_DIR: &str = "p";
/// Names the version of everything in the data directory.
pub(crate) const FORMAT_FILE: &str = "varve.format";
/// Locked as long as a process uses the data directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// What a partition's directory is renamed to before its files go.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
/// Log start and leader epochs of a partition.
pub(crate) const STATE_FILE: &str = "partition.state";

/// Of the bytes of a damaged batch that were put aside.
pub(crate) const ROTTEN_SUFFIX: &str = ".rotten";

/// Space for the next segment of a partition.
pub(crate) const PREPARED_FILE: &str = "segment.prepared";

pub(crate) fn shard_dir(shard: ShardId) -> String {
    format!("shard-{shard}")
}

pub(crate) fn journal_file(shard: ShardId, number: usize) -> String {
    format!("shard-{shard}/journal-{number}")
}

pub(crate) fn checkpoint_file(shard: ShardId) -> String {
    format!("shard-{shard}/checkpoint")
}

pub(crate) fn partition_dir(tip: &TopicIdPartition) -> String {
    use std::fmt::Write;
    let mut name = String::with_capacity(48);
    name.push_str(PARTITIONS_DIR);
    name.push('/');
    for byte in topic_bytes(tip.topic_id) {
        write!(name, "{byte:02x}").expect("writing to a string cannot fail");
    }
    write!(name, "-{}", tip.partition.0).expect("writing to a string cannot fail");
    name
}

/// The partition that a directory's name (without `p/`) speaks of.
pub(crate) fn parse_partition_dir(name: &str) -> Option<TopicIdPartition> {
    let (topic, partition) = name.split_once('-')?;
    if topic.len() != 32 || !topic.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let topic = u128::from_str_radix(topic, 16).ok()?;
    let partition: i32 = partition.parse().ok()?;
    let tip = TopicIdPartition {
        topic_id: topic_from(topic.to_be_bytes()),
        partition: PartitionIndex(partition),
    };
    (partition_dir(&tip).strip_prefix("p/") == Some(name)).then_some(tip)
}

pub(crate) fn segment_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

pub(crate) fn snapshot_name(offset: i64) -> String {
    format!("{offset:020}.snapshot")
}

/// The offset in a name like `00000000000000000042.log`.
pub(crate) fn parse_offset_name(name: &str, extension: &str) -> Option<i64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The shard that a partition's log belongs to. Partitions of one topic spread evenly.
pub(crate) fn shard_of(tip: &TopicIdPartition, shard_count: u32) -> ShardId {
    // FNV-1a over the topic id: stable for ever, because it says which journal to replay.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in topic_bytes(tip.topic_id) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let partition = u64::from(tip.partition.0.unsigned_abs());
    let shard = (hash >> 32).wrapping_add(partition) % u64::from(shard_count.max(1));
    ShardId(u32::try_from(shard).expect("smaller than a 32-bit count"))
}
