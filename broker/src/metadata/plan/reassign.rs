//! Moving replicas to other brokers (KIP-455).
//!
//! ```text
//! asked ─► replicas = target + those to be removed; adding, removing ─► (the added ones catch up)
//!       ─► all of them in sync: replicas = target
//!   cancelled before that: replicas = those of before
//! ```

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{BrokerId, PartitionIndex, TopicIdPartition};

use super::super::image::MetadataImage;
use super::super::record::MetadataRecord;
use super::super::topic_image::PartitionImage;
use super::shape::{Shaper, change, drop_replicas, finish_reassignment, set_replicas};
use crate::topic_config::StaticConfig;

/// A wish for other replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The new replicas, preferred leader first; none to cancel what is under way.
    pub replicas: Option<Vec<i32>>,
    /// Whether there may be more or fewer of them than before (KIP-860).
    pub may_change_factor: bool,
}

/// Why replicas stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReassignmentRefused {
    /// There is no such topic.
    #[error("Unable to find a topic named {0}.")]
    UnknownTopic(String),
    /// There is no such partition.
    #[error("Unable to find partition {topic}:{partition}.")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The list is empty.
    #[error("The manual partition assignment includes an empty replica list.")]
    Empty,
    /// A broker that is not registered.
    #[error(
        "The manual partition assignment includes broker {0}, but no such broker is registered."
    )]
    UnknownBroker(i32),
    /// A broker twice.
    #[error("The manual partition assignment includes the broker {0} more than once.")]
    BrokerTwice(i32),
    /// More or fewer replicas than before, though that was not allowed.
    #[error(
        "The replication factor is {current} and would become {wanted}, though the request does not \
         allow that it changes."
    )]
    FactorChange {
        /// How many there are.
        current: usize,
        /// How many there would be.
        wanted: usize,
    },
    /// There is nothing to cancel.
    #[error("No partition reassignment is in progress.")]
    NotInProgress,
    /// Only the added replicas are in sync.
    #[error("The reassignment cannot be cancelled: only brokers that it adds are in sync.")]
    OnlyAddedInSync,
}

impl ReassignmentRefused {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::Empty | Self::UnknownBroker(_) | Self::BrokerTwice(_) | Self::OnlyAddedInSync => {
                ErrorCode::InvalidReplicaAssignment
            }
            Self::FactorChange { .. } => ErrorCode::InvalidReplicationFactor,
            Self::NotInProgress => ErrorCode::NoReassignmentInProgress,
        }
    }
}

/// Plans a move of replicas, or the end of one.
///
/// # Errors
/// [`ReassignmentRefused`].
pub fn plan_reassignment(
    image: &MetadataImage,
    fixed: &StaticConfig,
    wish: &Reassignment,
) -> Result<Vec<MetadataRecord>, ReassignmentRefused> {
    let Reassignment { topic: name, partition, replicas, may_change_factor } = wish;
    let unknown = || ReassignmentRefused::UnknownTopic(name.clone());
    let topic = image.topic(name).ok_or_else(unknown)?;
    let partition = PartitionIndex(*partition);
    let old = topic.partition(partition).ok_or_else(|| ReassignmentRefused::UnknownPartition {
        topic: name.clone(),
        partition: partition.0,
    })?;
    let shaper = Shaper::new(image, fixed);
    let rule = shaper.rule(topic);
    let mut next = old.clone();
    match replicas {
        None => cancel(&mut next)?,
        Some(target) => {
            let current = old.replicas.iter().filter(|id| !old.adding.contains(id)).count();
            let wanted = target.len();
            if !may_change_factor && current != wanted {
                return Err(ReassignmentRefused::FactorChange { current, wanted });
            }
            begin(image, &mut next, target)?;
        }
    }
    finish_reassignment(&mut next, &shaper, rule);
    if next.leader.is_none_or(|leader| !next.replicas.contains(&leader)) {
        next.leader = None;
        shaper.elect(&mut next, rule);
    }
    shaper.void_where_enough(&mut next, rule);
    let name = TopicIdPartition { topic_id: topic.id, partition };
    Ok(change(name, old, &next, false).into_iter().collect())
}

fn begin(
    image: &MetadataImage,
    next: &mut PartitionImage,
    target: &[i32],
) -> Result<(), ReassignmentRefused> {
    if target.is_empty() {
        return Err(ReassignmentRefused::Empty);
    }
    for (index, broker) in target.iter().enumerate() {
        if image.broker(BrokerId(*broker)).is_none() {
            return Err(ReassignmentRefused::UnknownBroker(*broker));
        }
        if target[..index].contains(broker) {
            return Err(ReassignmentRefused::BrokerTwice(*broker));
        }
    }
    let target: Vec<BrokerId> = target.iter().copied().map(BrokerId).collect();
    // What a move under way has added and this one does not want is removed again; who was there
    // before it and has not caught up since is still being added.
    let is_new = |id: &BrokerId| !next.replicas.contains(id) || next.adding.contains(id);
    let adding: Vec<_> = target.iter().copied().filter(is_new).collect();
    let removing: Vec<_> =
        next.replicas.iter().copied().filter(|id| !target.contains(id)).collect();
    let all = target.iter().chain(&removing).copied().collect();
    set_replicas(next, all);
    next.adding = adding;
    next.removing = removing;
    Ok(())
}

fn cancel(next: &mut PartitionImage) -> Result<(), ReassignmentRefused> {
    if !next.is_reassigning() {
        return Err(ReassignmentRefused::NotInProgress);
    }
    let added = std::mem::take(&mut next.adding);
    next.removing.clear();
    let isr: Vec<_> = next.isr.iter().copied().filter(|id| !added.contains(id)).collect();
    if isr.is_empty() {
        return Err(ReassignmentRefused::OnlyAddedInSync);
    }
    drop_replicas(next, &added);
    next.isr = isr;
    next.elr.retain(|id| !added.contains(id));
    Ok(())
}
