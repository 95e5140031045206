//! The committed offsets of one group.
//!
//! Only durable commits stand here: the map is at every moment what a replay of the partition's
//! durable records gives.

use std::collections::BTreeMap;

use varve_protocol::vocabulary::{TimestampMs, TopicId};

/// Topics and partitions, without what was committed for them.
pub(super) type Positions = Vec<(String, i32)>;

/// One committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or −1.
    pub leader_epoch: i32,
    /// The consumer's own text, returned as it came.
    pub metadata: String,
    /// When it was committed, by the broker's wall clock.
    pub committed_at: TimestampMs,
    /// When it expires, if the request said so (OffsetCommit v2 to v4).
    pub expires_at: Option<TimestampMs>,
    /// The topic that it belongs to; `ZERO` in records that do not say.
    pub topic_id: TopicId,
}

/// Committed positions by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Committed>>,
}

impl Offsets {
    /// The position of a partition.
    #[must_use]
    pub fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)
    }

    /// All positions, ordered by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, &Committed)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, committed)| (topic.as_str(), *partition, committed))
        })
    }

    /// How many positions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn insert(&mut self, topic: &str, partition: i32, committed: Committed) {
        match self.topics.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, committed);
            }
            None => {
                self.topics.insert(topic.to_owned(), BTreeMap::from([(partition, committed)]));
            }
        }
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}
