//! What is known of the cluster: brokers, topics, leaders. A value; each answer makes the next one from it.
//!
//! Leader epochs never go back for a topic id: an answer from a broker that lags is ignored partition by partition
//! (KIP-320). A topic with a new id is a new topic, whatever its epochs.

use super::address::Address;
use crate::clock::Instant;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::{
    MetadataResponse,
    metadata::{MetadataResponsePartition, MetadataResponseTopic},
};
use varve_protocol::vocabulary::TopicId;

/// The picture of the cluster. Cheap to clone: topics are shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetadataCache {
    pub(crate) cluster_id: Option<String>,
    pub(crate) controller: Option<i32>,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    topics: HashMap<Arc<str>, Arc<TopicMetadata>>,
    names: HashMap<TopicId, Arc<str>>,
    /// Counts answers, so that a waiter can tell whether one came since.
    pub(crate) generation: u64,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) address: Address,
    pub(crate) rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicMetadata {
    pub(crate) name: Arc<str>,
    /// Zero from brokers without topic ids.
    pub(crate) id: TopicId,
    /// What the broker said about the topic as a whole.
    pub(crate) error: Option<ErrorCode>,
    /// By partition number, without gaps.
    pub(crate) partitions: Vec<PartitionMetadata>,
    /// When the answer came.
    pub(crate) asked_at: Instant,
    /// The [generation](MetadataCache::generation) of the answer.
    pub(crate) generation: u64,
    /// Whether a broker has said since that a leader is not where this says.
    pub(crate) is_stale: bool,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionMetadata {
    pub(crate) leader: Option<i32>,
    /// -1 if unknown. Invariant: never falls while the topic id stays.
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
}

/// Where a partition's leader is, from an answer about something else (KIP-951).
#[derive(Debug, Clone)]
pub(crate) struct LeaderHint {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    /// The leader's address, if the answer told it.
    pub(crate) endpoint: Option<(String, i32, Option<String>)>,
}

impl TopicMetadata {
    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&PartitionMetadata> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Whether every partition can be spoken to.
    pub(crate) fn is_ready(&self) -> bool {
        self.error.is_none() && !self.partitions.is_empty()
    }
}

impl MetadataCache {
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// One that knows a topic and no broker.
    #[cfg(test)]
    pub(crate) fn of(topic: TopicMetadata) -> Self {
        let topics = [(Arc::clone(&topic.name), Arc::new(topic))].into();
        Self { topics, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topic(topic)?.partition(partition)
    }

    /// The partition's leader, if it has one whose address is known.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let leader = self.partition(topic, partition)?.leader?;
        self.brokers.contains_key(&leader).then_some(leader)
    }

    /// Takes an answer in. `is_complete` says that all topics were asked for, so that others are gone.
    pub(crate) fn apply(&mut self, response: MetadataResponse, is_complete: bool, now: Instant) {
        self.generation += 1;
        self.cluster_id = response.cluster_id.or(self.cluster_id.take());
        self.controller = Some(response.controller_id).filter(|id| *id >= 0);
        // An answer without brokers comes from a broker that has only just started; it knows less than we do.
        if !response.brokers.is_empty() {
            self.brokers = response
                .brokers
                .into_iter()
                .filter_map(|b| {
                    let address = Address { host: b.host, port: u16::try_from(b.port).ok()? };
                    Some((b.node_id, Broker { address, rack: b.rack }))
                })
                .collect();
        }
        if is_complete {
            let named: std::collections::HashSet<&str> =
                response.topics.iter().filter_map(|topic| topic.name.as_deref()).collect();
            self.topics.retain(|name, _| named.contains(&**name));
        }
        for topic in response.topics {
            self.apply_topic(topic, now);
        }
        self.names = self
            .topics
            .values()
            .filter(|topic| topic.id != TopicId::ZERO)
            .map(|topic| (topic.id, Arc::clone(&topic.name)))
            .collect();
    }

    fn apply_topic(&mut self, topic: MetadataResponseTopic, now: Instant) {
        let Some(name) = topic.name else { return };
        let known = self.topics.get(name.as_str());
        let name = known.map_or_else(|| Arc::from(name.as_str()), |known| Arc::clone(&known.name));
        let error =
            Some(ErrorCode::from_code(topic.error_code)).filter(|code| *code != ErrorCode::None);
        let same =
            known.filter(|known| known.id == topic.topic_id || topic.topic_id == TopicId::ZERO);
        if let (Some(error), Some(known)) = (error, same)
            && error.is_retriable()
            && error != ErrorCode::UnknownTopicOrPartition
        {
            // A passing trouble: what is known of the leaders still is the best guess.
            let known = TopicMetadata {
                error: Some(error),
                asked_at: now,
                generation: self.generation,
                is_stale: false,
                ..(**known).clone()
            };
            self.topics.insert(name, Arc::new(known));
            return;
        }
        let partitions = in_order(topic.partitions)
            .into_iter()
            .enumerate()
            .map(|(index, partition)| {
                let fresh = PartitionMetadata {
                    leader: Some(partition.leader_id).filter(|leader| *leader >= 0),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes,
                };
                match same.and_then(|known| known.partitions.get(index)) {
                    Some(known)
                        if known.leader_epoch > fresh.leader_epoch && fresh.leader_epoch >= 0 =>
                    {
                        known.clone()
                    }
                    _ => fresh,
                }
            })
            .collect();
        let topic = TopicMetadata {
            name: Arc::clone(&name),
            id: topic.topic_id,
            error,
            partitions,
            asked_at: now,
            generation: self.generation,
            is_stale: false,
        };
        self.topics.insert(name, Arc::new(topic));
    }

    /// Notes that a leader of the topic is not where this says.
    pub(crate) fn mark_stale(&mut self, topic: &str) {
        if let Some(topic) = self.topics.get_mut(topic) {
            Arc::make_mut(topic).is_stale = true;
        }
    }

    /// Takes a hint in; answers whether it told something new.
    pub(crate) fn apply_hint(&mut self, hint: &LeaderHint) -> bool {
        if hint.leader < 0 {
            return false;
        }
        let Some(topic) = self.topics.get(&hint.topic) else { return false };
        let Ok(index) = usize::try_from(hint.partition) else { return false };
        let Some(known) = topic.partitions.get(index) else { return false };
        if hint.leader_epoch <= known.leader_epoch {
            return false;
        }
        if let Some((host, port, rack)) = &hint.endpoint
            && let Ok(port) = u16::try_from(*port)
        {
            let address = Address { host: host.clone(), port };
            self.brokers.insert(hint.leader, Broker { address, rack: rack.clone() });
        }
        if !self.brokers.contains_key(&hint.leader) {
            return false;
        }
        let mut topic = (**topic).clone();
        topic.partitions[index].leader = Some(hint.leader);
        topic.partitions[index].leader_epoch = hint.leader_epoch;
        self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        true
    }
}

/// Partitions by number; what lies behind a gap is left out.
fn in_order(mut partitions: Vec<MetadataResponsePartition>) -> Vec<MetadataResponsePartition> {
    partitions.sort_by_key(|partition| partition.partition_index);
    let whole = partitions
        .iter()
        .enumerate()
        .take_while(|(index, partition)| i32::try_from(*index) == Ok(partition.partition_index))
        .count();
    partitions.truncate(whole);
    partitions
}

/// A topic with these leaders, for the tests of cores.
#[cfg(test)]
pub(crate) fn test_topic(name: &str, leaders: &[Option<i32>]) -> TopicMetadata {
    let partition = |leader: &Option<i32>| PartitionMetadata {
        leader: *leader,
        leader_epoch: 0,
        replicas: Vec::new(),
    };
    TopicMetadata {
        name: name.into(),
        id: TopicId::ZERO,
        error: None,
        partitions: leaders.iter().map(partition).collect(),
        asked_at: crate::clock::now(),
        generation: 0,
        is_stale: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use varve_protocol::messages::metadata::MetadataResponseBroker;

    fn answer(id: u128, leaders: &[(i32, i32)]) -> MetadataResponse {
        let partitions = leaders
            .iter()
            .enumerate()
            .map(|(index, (leader_id, leader_epoch))| MetadataResponsePartition {
                partition_index: i32::try_from(index).unwrap(),
                leader_id: *leader_id,
                leader_epoch: *leader_epoch,
                ..Default::default()
            })
            .collect();
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "h".to_owned(),
            port: 9092,
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            topics: vec![MetadataResponseTopic {
                name: Some("t".to_owned()),
                topic_id: TopicId(id),
                partitions,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[track_caller]
    fn check(cache: &MetadataCache, expected: &[(i32, i32)]) {
        let found: Vec<_> = cache
            .topic("t")
            .unwrap()
            .partitions
            .iter()
            .map(|p| (p.leader.unwrap_or(-1), p.leader_epoch))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn epochs_do_not_go_back_for_the_same_topic() {
        let mut cache = MetadataCache::default();
        cache.apply(answer(7, &[(1, 5), (2, 3)]), false, clock::now());
        cache.apply(answer(7, &[(2, 4), (1, 4)]), false, clock::now());
        check(&cache, &[(1, 5), (1, 4)]);
        cache.apply(answer(8, &[(2, 0), (2, 0)]), false, clock::now());
        check(&cache, &[(2, 0), (2, 0)]);
        assert_eq!(cache.topic_name(TopicId(7)), None);
        assert_eq!(cache.topic_name(TopicId(8)).map(|n| &**n), Some("t"));
    }

    #[test]
    fn a_hint_moves_a_leader_forward_only() {
        let mut cache = MetadataCache::default();
        cache.apply(answer(7, &[(1, 5)]), false, clock::now());
        let mut hint = LeaderHint {
            topic: "t".into(),
            partition: 0,
            leader: 2,
            leader_epoch: 5,
            endpoint: None,
        };
        assert!(!cache.apply_hint(&hint));
        hint.leader_epoch = 6;
        assert!(cache.apply_hint(&hint));
        check(&cache, &[(2, 6)]);
        hint = LeaderHint { leader: 9, leader_epoch: 7, ..hint };
        assert!(!cache.apply_hint(&hint), "the broker is not known");
        hint.endpoint = Some(("n".to_owned(), 1, None));
        assert!(cache.apply_hint(&hint));
        check(&cache, &[(9, 7)]);
    }

    #[test]
    fn a_passing_error_keeps_the_leaders() {
        let mut cache = MetadataCache::default();
        cache.apply(answer(7, &[(1, 5)]), false, clock::now());
        let mut trouble = answer(7, &[]);
        trouble.topics[0].error_code = ErrorCode::LeaderNotAvailable.code();
        cache.apply(trouble, false, clock::now());
        check(&cache, &[(1, 5)]);
        assert!(!cache.topic("t").unwrap().is_ready());
    }
}
