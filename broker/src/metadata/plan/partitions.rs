//! Adding partitions to a topic.

use varve_replication::choose_replicas;

use super::super::image::MetadataImage;
use super::super::placement::{candidates, registered};
use super::super::record::MetadataRecord;
use super::error::TopicError;
use super::topics::{check_assignment, check_limits};
use super::{PlanSettings, partition_record};

/// A wish for more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub name: String,
    /// How many partitions it is to have in all.
    pub count: i32,
    /// The replicas of each new partition, chosen by the client; none to let the broker choose.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Plans more partitions for a topic.
///
/// # Errors
/// [`TopicError`] when the wish contradicts the image or the limits.
pub fn plan_create_partitions(
    image: &MetadataImage,
    settings: &PlanSettings,
    wish: &NewPartitions,
) -> Result<Vec<MetadataRecord>, TopicError> {
    let topic = image.topic(&wish.name).ok_or(TopicError::UnknownTopic)?;
    let current = topic.partitions.len();
    let wanted = usize::try_from(wish.count).unwrap_or(0);
    if wanted == current {
        return Err(TopicError::SamePartitionCount(current));
    }
    if wanted < current {
        let (name, wanted) = (wish.name.clone(), wish.count);
        return Err(TopicError::FewerPartitions { name, current, wanted });
    }
    let added = wanted - current;
    check_limits(image, settings, current, added)?;
    // The new partitions have as many replicas as the old ones, which may be about to get others.
    let replication_factor = topic
        .partitions
        .first()
        .map_or(1, |first| first.replicas.iter().filter(|id| !first.removing.contains(id)).count());
    let candidates = candidates(image, replication_factor);
    let replicas = match &wish.assignments {
        Some(assignments) if assignments.len() != added => {
            let assigned = assignments.len();
            return Err(TopicError::AssignmentCount { added, assigned });
        }
        Some(assignments) => assignments
            .iter()
            .map(|brokers| check_assignment(brokers, &registered(image), Some(replication_factor)))
            .collect::<Result<Vec<_>, _>>()?,
        None if replication_factor > candidates.len() => {
            let broker_count = candidates.len();
            return Err(TopicError::TooFewBrokers { replication_factor, broker_count });
        }
        None => choose_replicas(&candidates, added, replication_factor, current),
    };
    let record = |(index, replicas)| {
        MetadataRecord::Partition(partition_record(image, topic.id, current + index, replicas))
    };
    Ok(replicas.into_iter().enumerate().map(record).collect())
}
