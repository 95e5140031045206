//! Throttled replication (KIP-73): replicas that are being moved leave room for the others.
//!
//! Throttled are replicas out of sync that their topic names: `leader.replication.throttled.replicas` with
//! the leader's number, `follower.replication.throttled.replicas` with the follower's. Both bounds act
//! where records are read, at the leader: the follower's own rate (`follower.replication.throttled.rate`) is
//! kept by each leader for itself, so that a follower of three leaders may take three times as much.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use crate::metadata::MetadataImage;
use crate::topic_config::{FOLLOWER_THROTTLE, LEADER_THROTTLE};

const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// What was sent to throttled replicas of late, by one broker.
#[derive(Debug, Default)]
pub(crate) struct ReplicationThrottle {
    /// Guards the bytes that may be sent; held to look or to take some.
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    leader: Bucket,
    /// Bounded by the registered brokers.
    followers: BTreeMap<BrokerId, Bucket>,
}

/// Bytes that may be sent now: a second's worth at most, and less than none after a large batch.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    bytes: i64,
    filled_ms: i64,
}

impl Bucket {
    fn fill(&mut self, rate: i64, now_ms: i64) -> i64 {
        let passed_ms = (now_ms - self.filled_ms).clamp(0, 60_000);
        let gained = rate.saturating_mul(passed_ms) / 1_000;
        // Less than a byte is kept for the next look.
        if gained > 0 || passed_ms == 60_000 {
            self.filled_ms = now_ms;
            self.bytes = self.bytes.saturating_add(gained).min(rate);
        }
        self.bytes
    }
}

/// The bounds of one fetch.
#[derive(Debug)]
pub(crate) struct FetchLimits {
    throttle: Arc<ReplicationThrottle>,
    image: Arc<MetadataImage>,
    leader: BrokerId,
    follower: BrokerId,
    leader_rate: Option<i64>,
    follower_rate: Option<i64>,
}

impl FetchLimits {
    /// The bounds of `follower`'s fetches from `leader`; none where no rate is set.
    pub(crate) fn of(
        throttle: &Arc<ReplicationThrottle>,
        image: Arc<MetadataImage>,
        leader: BrokerId,
        follower: BrokerId,
    ) -> Option<Self> {
        let rate = |broker: BrokerId, name: &str| {
            let own = image.broker_configs(broker).and_then(|configs| configs.get(name));
            let text = own.or_else(|| image.cluster_configs().get(name))?;
            text.parse::<i64>().ok().filter(|rate| *rate < i64::MAX)
        };
        let leader_rate = rate(leader, LEADER_THROTTLE);
        let follower_rate = rate(follower, FOLLOWER_THROTTLE);
        if leader_rate.is_none() && follower_rate.is_none() {
            return None;
        }
        let throttle = Arc::clone(throttle);
        Some(Self { throttle, image, leader, follower, leader_rate, follower_rate })
    }

    /// How many bytes of a partition may be sent now; none if it is not throttled.
    pub(crate) fn room(&self, tip: &TopicIdPartition, now_ms: i64) -> Option<usize> {
        let (by_leader, by_follower) = self.rates(tip);
        let mut buckets = self.throttle.buckets.lock();
        let of_leader = by_leader.map(|rate| buckets.leader.fill(rate, now_ms));
        let of_follower = by_follower
            .map(|rate| buckets.followers.entry(self.follower).or_default().fill(rate, now_ms));
        let least = of_leader.into_iter().chain(of_follower).min()?;
        Some(usize::try_from(least).unwrap_or(0))
    }

    /// So many bytes of a partition are sent.
    pub(crate) fn spend(&self, tip: &TopicIdPartition, bytes: usize) {
        let (by_leader, by_follower) = self.rates(tip);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut buckets = self.throttle.buckets.lock();
        if by_leader.is_some() {
            buckets.leader.bytes = buckets.leader.bytes.saturating_sub(bytes);
        }
        if by_follower.is_some() {
            let bucket = buckets.followers.entry(self.follower).or_default();
            bucket.bytes = bucket.bytes.saturating_sub(bytes);
        }
    }

    /// The rates that a partition's replica has to keep to.
    fn rates(&self, tip: &TopicIdPartition) -> (Option<i64>, Option<i64>) {
        let Some(topic) = self.image.topic_by_id(tip.topic_id) else { return (None, None) };
        let partition = topic.partition(tip.partition);
        if partition.is_none_or(|partition| partition.isr.contains(&self.follower)) {
            return (None, None);
        }
        let names = |list: &str, broker: BrokerId| {
            let item = format!("{}:{}", tip.partition.0, broker.0);
            let text = topic.configs.get(list).map_or("", String::as_str);
            text.split(',').any(|named| named == "*" || named == item)
        };
        let by_leader = self.leader_rate.filter(|_| names(LEADER_REPLICAS, self.leader));
        let by_follower = self.follower_rate.filter(|_| names(FOLLOWER_REPLICAS, self.follower));
        (by_leader, by_follower)
    }
}

#[cfg(test)]
mod tests {
    use varve_protocol::vocabulary::{PartitionIndex, TopicId};

    use super::*;
    use crate::metadata::record::{
        ConfigRecord, ConfigTarget, MetadataRecord, PartitionChangeRecord,
    };
    use crate::metadata::tests::{apply, image_with};

    const TIP: TopicIdPartition =
        TopicIdPartition { topic_id: TopicId(1), partition: PartitionIndex(0) };

    fn config(target: ConfigTarget, name: &str, value: &str) -> MetadataRecord {
        let (name, value) = (name.to_owned(), Some(value.to_owned()));
        MetadataRecord::Config(ConfigRecord { target, name, value })
    }

    /// Broker 2 is a replica out of sync of what broker 1 leads.
    fn image(configs: &[MetadataRecord]) -> MetadataImage {
        let mut image = image_with(2, &[("t", 1)]);
        let mut record = PartitionChangeRecord::new(TIP.topic_id, TIP.partition);
        record.replicas = Some(vec![(BrokerId(1), 0), (BrokerId(2), 0)]);
        record.isr = Some(vec![BrokerId(1)]);
        apply(&mut image, &[MetadataRecord::PartitionChange(record)]);
        apply(&mut image, configs);
        image
    }

    fn limits(image: &MetadataImage) -> Option<FetchLimits> {
        let throttle = Arc::new(ReplicationThrottle::default());
        FetchLimits::of(&throttle, Arc::new(image.clone()), BrokerId(1), BrokerId(2))
    }

    #[test]
    fn without_a_rate_or_a_name_nothing_is_throttled() {
        let topic = ConfigTarget::Topic(TIP.topic_id);
        assert!(limits(&image(&[config(topic, LEADER_REPLICAS, "*")])).is_none());
        let rated = image(&[config(ConfigTarget::Broker(BrokerId(1)), LEADER_THROTTLE, "1000")]);
        assert_eq!(limits(&rated).unwrap().room(&TIP, 100_000), None);
        // The other list, and another partition.
        for (list, named) in [(FOLLOWER_REPLICAS, "*"), (LEADER_REPLICAS, "1:1,0:2")] {
            let mut named_too = rated.clone();
            apply(&mut named_too, &[config(topic, list, named)]);
            assert_eq!(limits(&named_too).unwrap().room(&TIP, 100_000), None, "{named}");
        }
    }

    #[test]
    fn a_throttled_replica_gets_so_many_bytes_a_second() {
        let topic = ConfigTarget::Topic(TIP.topic_id);
        for (rate, list, item) in [
            (LEADER_THROTTLE, LEADER_REPLICAS, "0:1"),
            (FOLLOWER_THROTTLE, FOLLOWER_REPLICAS, "0:2"),
        ] {
            let configs = [config(ConfigTarget::Cluster, rate, "1000"), config(topic, list, item)];
            let limits = limits(&image(&configs)).unwrap();
            assert_eq!(limits.room(&TIP, 100_000), Some(1_000));
            limits.spend(&TIP, 1_600);
            assert_eq!(limits.room(&TIP, 100_000), Some(0));
            assert_eq!(limits.room(&TIP, 100_500), Some(0));
            assert_eq!(limits.room(&TIP, 101_000), Some(400));
            assert_eq!(limits.room(&TIP, 190_000), Some(1_000));
        }
    }

    #[test]
    fn who_is_in_sync_is_never_throttled() {
        let topic = ConfigTarget::Topic(TIP.topic_id);
        let mut image = image(&[
            config(ConfigTarget::Cluster, LEADER_THROTTLE, "10"),
            config(topic, LEADER_REPLICAS, "*"),
        ]);
        assert_eq!(limits(&image).unwrap().room(&TIP, 100_000), Some(10));
        let mut record = PartitionChangeRecord::new(TIP.topic_id, TIP.partition);
        record.isr = Some(vec![BrokerId(1), BrokerId(2)]);
        apply(&mut image, &[MetadataRecord::PartitionChange(record)]);
        assert_eq!(limits(&image).unwrap().room(&TIP, 100_000), None);
    }
}
