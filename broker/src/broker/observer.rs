//! What the HTTP port shows of a broker: health, and gauges that are read when somebody asks.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use varve_protocol::vocabulary::TopicIdPartition;

use super::Broker;
use crate::clock;
use crate::groups::RebalanceCause;
use crate::http::{
    self, CommittedGauge, Detail, FollowerGauge, Gauges, GroupGauges, Health, Observed,
    PartitionGauges,
};
use crate::metrics::{Exposition, Metrics};
use crate::shard::FollowerLag;
use crate::survey::Survey;

/// How long a scrape waits for the shards' word on followers.
const LAGS_MAX: Duration = Duration::from_secs(1);

/// What the HTTP port sees; the broker itself once it is there.
pub(super) struct Observer {
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) broker: OnceLock<Arc<Broker>>,
}

impl Observed for Observer {
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(clock::monotonic_ms()).unwrap_or(0)
    }

    fn survey(&self) -> Option<Survey> {
        let metadata = &self.broker.get()?.metadata;
        let status = metadata.quorum_status();
        let voters = status.membership.voters.iter().map(|voter| voter.0).collect();
        let controller = metadata.controller().map(|controller| controller.0);
        Some(Survey::of(&metadata.image(), metadata.fixed(), controller, voters))
    }

    fn gauges(&self, detail: Detail) -> http::GaugesFuture<'_> {
        Box::pin(async move {
            let mut out = Exposition::default();
            let Some(broker) = self.broker.get() else { return out };
            let lags = match detail {
                Detail::Topics => Vec::new(),
                Detail::Partitions => {
                    let lags = broker.partitions.follower_lags();
                    // A shard that is busy for so long is not waited for: its series are missing.
                    tokio::time::timeout(LAGS_MAX, lags).await.unwrap_or_default()
                }
            };
            broker.gauges(lags).write(detail, &mut out);
            if detail == Detail::Topics {
                broker.metadata.write_quorum(&mut out);
                if let Some(survey) = self.survey() {
                    http::write_cluster(&survey, &mut out);
                }
                http::write_disk(&broker.config.data_dir, &mut out);
            }
            out
        })
    }
}

impl Broker {
    fn gauges(&self, lags: Vec<FollowerLag>) -> Gauges {
        let image = self.metadata.image();
        let mut followers: HashMap<TopicIdPartition, Vec<FollowerGauge>> = HashMap::new();
        for FollowerLag { partition, follower, records } in lags {
            let gauge = FollowerGauge { broker: follower.0, lag: records };
            followers.entry(partition).or_default().push(gauge);
        }
        let mut partitions = Vec::new();
        for topic in image.topics() {
            for (name, partition) in topic.topic_id_partitions().zip(&topic.partitions) {
                let Some(handle) = self.partitions.get(&name) else { continue };
                partitions.push(PartitionGauges {
                    topic: topic.name.to_string(),
                    partition: name.partition.0,
                    log_start: handle.log_start().0,
                    high_watermark: handle.high_watermark().0,
                    log_end: handle.reader().log_end().0,
                    size_bytes: handle.reader().size_bytes(),
                    segments: handle.reader().segment_count() as u64,
                    leader_epoch: partition.leader_epoch.0,
                    replicas: partition.replicas.len() as u64,
                    in_sync: partition.isr.len() as u64,
                    is_leader: handle.is_leader(),
                    followers: followers.remove(&name).unwrap_or_default(),
                });
            }
        }
        let groups = self.groups.snapshot().into_iter().map(|group| GroupGauges {
            group: group.group_id,
            state: group.state.as_str().to_owned(),
            members: group.members as u64,
            rebalances: RebalanceCause::ALL
                .iter()
                .map(|cause| (cause.as_str(), group.rebalances.get(cause).copied().unwrap_or(0)))
                .collect(),
            committed: group
                .offsets
                .into_iter()
                .map(|committed| CommittedGauge {
                    topic: committed.topic,
                    partition: committed.partition,
                    offset: committed.offset,
                    behind_ms: committed.behind_ms,
                })
                .collect(),
        });
        Gauges { partitions, groups: groups.collect() }
    }
}
