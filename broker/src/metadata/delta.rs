//! What a batch of metadata records changed, for those who follow the image.

use std::collections::BTreeSet;
use std::sync::Arc;

use varve_protocol::vocabulary::{BrokerId, TopicId, TopicIdPartition};

use super::topic_image::TopicImage;

/// The differences between two images. What was created and removed within one batch is in
/// neither list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Brokers that registered, for the first time or again, whose state changed, or that are gone.
    pub brokers: BTreeSet<BrokerId>,
    /// Those of them that were registered and stand in another rack now.
    pub racks_changed: BTreeSet<BrokerId>,
    /// Topics that exist now and did not before.
    pub topics_created: BTreeSet<TopicId>,
    /// Topics that are gone, as they were at last.
    pub topics_removed: Vec<Arc<TopicImage>>,
    /// Partitions that exist now and did not before, those of new topics too.
    pub partitions_created: BTreeSet<TopicIdPartition>,
    /// Partitions that existed and have another leader, other replicas or other in-sync replicas.
    pub partitions_changed: BTreeSet<TopicIdPartition>,
    /// Topics that existed and have other configuration values.
    pub topic_configs_changed: BTreeSet<TopicId>,
    /// Whether a broker's or the cluster's dynamic values changed, which are defaults of topics.
    pub broker_configs_changed: bool,
}

impl Delta {
    /// Whether nothing changed that a follower of the image could see.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
