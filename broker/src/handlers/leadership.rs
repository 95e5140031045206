//! Who leads a partition, for requests that only its leader answers, and hints for clients that came
//! to the wrong broker (KIP-951).

use std::collections::BTreeSet;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, TopicIdPartition};

use crate::fetch::read::check_leader_epoch;
use crate::metadata::{Endpoint, MetadataImage};
use crate::shard::{PartitionHandle, Partitions};

/// The partition, if a replica of it lies here.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION where it does not exist, NOT_LEADER_OR_FOLLOWER where it lies on other
/// brokers.
pub(super) fn hosted(
    image: &MetadataImage,
    partitions: &Partitions,
    partition: &TopicIdPartition,
) -> Result<PartitionHandle, ErrorCode> {
    if let Some(handle) = partitions.get(partition) {
        return Ok(handle);
    }
    match image.partition(partition) {
        Some(_) => Err(ErrorCode::NotLeaderOrFollower),
        None => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// The partition, if this broker leads it in the epoch that the client names; −1 is any epoch.
///
/// # Errors
/// As [`hosted`]; FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH (KIP-320).
pub(super) fn led(
    image: &MetadataImage,
    partitions: &Partitions,
    partition: &TopicIdPartition,
    current_leader_epoch: i32,
) -> Result<PartitionHandle, ErrorCode> {
    let handle = hosted(image, partitions, partition)?;
    check_leader_epoch(&handle, current_leader_epoch)?;
    if !handle.is_leader() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    Ok(handle)
}

/// The leaders that an answer names, so that its endpoints can be told with it.
#[derive(Debug, Default)]
pub(super) struct LeaderHints {
    leaders: BTreeSet<BrokerId>,
}

impl LeaderHints {
    /// Whether an error of this code is told with the leader.
    pub(super) fn is_due(code: i16) -> bool {
        code == ErrorCode::NotLeaderOrFollower.code() || code == ErrorCode::FencedLeaderEpoch.code()
    }

    /// The leader of a partition as far as it is known here: the newer one of what its replica here
    /// and the metadata say. The client is told where it is reached, too.
    pub(super) fn note(
        &mut self,
        image: &MetadataImage,
        partitions: &Partitions,
        partition: &TopicIdPartition,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        let of_image = image.partition(partition).map(|found| (found.leader_epoch, found.leader));
        let role = partitions.get(partition).map(|handle| handle.role());
        let of_replica = role.map(|role| (role.leader_epoch, role.leader));
        let (epoch, leader) = of_image.into_iter().chain(of_replica).max_by_key(|found| found.0)?;
        let leader = leader?;
        self.leaders.insert(leader);
        Some((leader, epoch))
    }

    /// Where the leaders are reached by clients of a listener.
    pub(super) fn endpoints<'a>(
        &'a self,
        image: &'a MetadataImage,
        listener: &'a str,
    ) -> impl Iterator<Item = (BrokerId, &'a Endpoint, Option<String>)> {
        let brokers = self.leaders.iter().filter_map(|id| image.broker(*id));
        brokers.filter_map(move |broker| {
            Some((broker.id, broker.endpoint(listener)?, broker.rack.clone()))
        })
    }
}
