//! DescribeLogDirs (API 35): how much the partitions of this broker's data directory hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use varve_protocol::vocabulary::TopicIdPartition;

use super::RequestContext;
use crate::broker::Broker;
use crate::metadata::MetadataImage;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let size = |partition: &TopicIdPartition| {
        let handle = broker.partitions.get(partition)?;
        Some(handle.reader().size_bytes())
    };
    let topics = describe_topics(&broker.metadata.load(), request.topics.as_deref(), size);
    let directory = &broker.config.data_dir;
    let log_dir = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
    let (error_code, total_bytes, usable_bytes) = match volume(directory) {
        Ok((total, usable)) => (ErrorCode::None.code(), total, usable),
        Err(error) => {
            tracing::warn!(%error, "cannot tell the space of the data directory's volume");
            (ErrorCode::None.code(), -1, -1)
        }
    };
    let result = DescribeLogDirsResult {
        error_code,
        log_dir: log_dir.display().to_string(),
        topics,
        total_bytes,
        usable_bytes,
        ..DescribeLogDirsResult::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

/// The wanted partitions that have a log here; all of them if nothing is wanted in particular.
fn describe_topics(
    image: &MetadataImage,
    wanted: Option<&[DescribableLogDirTopic]>,
    size: impl Fn(&TopicIdPartition) -> Option<u64>,
) -> Vec<DescribeLogDirsTopic> {
    let wanted = wanted.map(|topics| {
        let mut partitions: HashMap<&str, HashSet<i32>> = HashMap::new();
        for topic in topics {
            partitions.entry(&topic.topic).or_default().extend(&topic.partitions);
        }
        partitions
    });
    let is_wanted = |name: &str, partition: i32| match &wanted {
        None => true,
        Some(wanted) => wanted.get(name).is_some_and(|numbers| numbers.contains(&partition)),
    };
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for topic in image.topics() {
        for name in topic.topic_id_partitions() {
            if !is_wanted(&topic.name, name.partition.0) {
                continue;
            }
            if let Some(bytes) = size(&name) {
                topics.entry(&topic.name).or_default().push(DescribeLogDirsPartition {
                    partition_index: name.partition.0,
                    partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
                    ..DescribeLogDirsPartition::default()
                });
            }
        }
    }
    let topic = |(name, partitions): (&str, Vec<DescribeLogDirsPartition>)| DescribeLogDirsTopic {
        name: name.to_owned(),
        partitions,
    };
    topics.into_iter().map(topic).collect()
}

/// The bytes of the volume, and those that can still be written.
fn volume(directory: &Path) -> rustix::io::Result<(i64, i64)> {
    let found = rustix::fs::statvfs(directory)?;
    let bytes =
        |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
    Ok((bytes(found.f_blocks), bytes(found.f_bavail)))
}
