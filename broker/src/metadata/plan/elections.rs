//! Elections that somebody asks for: a client, or the controller when all is well again.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::super::image::MetadataImage;
use super::super::record::MetadataRecord;
use super::super::topic_image::PartitionImage;
use super::shape::{Shaper, Standing, Standings, change, lead};
use crate::topic_config::StaticConfig;

/// Partitions whose preferred leaders are restored by one entry of the metadata log.
const BALANCED_PARTITIONS_MAX: usize = 1_000;

/// What is to be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Anybody who is alive, if nobody who is alive holds all that is committed: records may be lost.
    Unclean,
}

/// Why the leader stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElectionRefused {
    /// There is no such partition.
    #[error("No such topic as {topic}-{partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// It has the leader that it should have.
    #[error("Leader election not needed for the partition.")]
    NotNeeded,
    /// The first replica is dead, in maintenance or not in sync.
    #[error("The preferred leader, broker {0}, is not in sync or not alive.")]
    PreferredNotAvailable(BrokerId),
    /// No replica is alive.
    #[error("No replica of the partition is alive.")]
    NobodyAlive,
}

impl ElectionRefused {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::NotNeeded => ErrorCode::ElectionNotNeeded,
            Self::PreferredNotAvailable(_) => ErrorCode::PreferredLeaderNotAvailable,
            Self::NobodyAlive => ErrorCode::EligibleLeadersNotAvailable,
        }
    }
}

/// Plans an election.
///
/// # Errors
/// [`ElectionRefused`].
pub fn plan_election(
    image: &MetadataImage,
    fixed: &StaticConfig,
    election: Election,
    name: TopicIdPartition,
) -> Result<Vec<MetadataRecord>, ElectionRefused> {
    let unknown = || ElectionRefused::UnknownPartition {
        topic: image.topic_by_id(name.topic_id).map_or(String::new(), |t| t.name.to_string()),
        partition: name.partition.0,
    };
    let old = image.partition(&name).ok_or_else(unknown)?;
    let mut next = old.clone();
    match election {
        Election::Preferred => {
            let preferred = *old.replicas.first().ok_or(ElectionRefused::NobodyAlive)?;
            if old.leader == Some(preferred) {
                return Err(ElectionRefused::NotNeeded);
            }
            if !is_preferred_possible(old, &Standings::of(image)) {
                return Err(ElectionRefused::PreferredNotAvailable(preferred));
            }
            lead(&mut next, Some(preferred));
        }
        Election::Unclean => {
            if old.leader.is_some() {
                return Err(ElectionRefused::NotNeeded);
            }
            Shaper::new(image, fixed).elect_unclean(&mut next);
            if next.leader.is_none() {
                return Err(ElectionRefused::NobodyAlive);
            }
        }
    }
    Ok(change(name, old, &next, false).into_iter().collect())
}

/// Plans that partitions are led by their preferred replicas, where those are alive and in sync: as many
/// as go into one entry of the log.
#[must_use]
pub fn plan_preferred_leaders(image: &MetadataImage, fixed: &StaticConfig) -> Vec<MetadataRecord> {
    let names = unbalanced(image, BALANCED_PARTITIONS_MAX);
    let plan = |name| plan_election(image, fixed, Election::Preferred, name);
    names.into_iter().filter_map(|name| plan(name).ok()).flatten().collect()
}

/// The partitions that another broker than the first replica leads, though that one could; at most
/// `count_max`.
#[must_use]
pub fn unbalanced(image: &MetadataImage, count_max: usize) -> Vec<TopicIdPartition> {
    let standings = Standings::of(image);
    let mut found = Vec::new();
    for topic in image.topics() {
        for (name, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
            let is_led_by_another = partition.leader.is_some()
                && partition.leader != partition.replicas.first().copied();
            if is_led_by_another && is_preferred_possible(partition, &standings) {
                found.push(name);
                if found.len() == count_max {
                    return found;
                }
            }
        }
    }
    found
}

fn is_preferred_possible(partition: &PartitionImage, standings: &Standings) -> bool {
    let is_possible = |preferred: &BrokerId| {
        partition.isr.contains(preferred) && standings.get(*preferred) == Standing::Ready
    };
    partition.replicas.first().is_some_and(is_possible)
}
