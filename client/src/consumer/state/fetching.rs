//! What to ask brokers for, and what came.

use super::super::chunk::{Chunk, ChunkEnd};
use super::super::partition::Phase;
use super::super::session::{SessionKey, Wanted};
use super::State;
use crate::clock::Instant;
use crate::net::MetadataCache;
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use varve_protocol::vocabulary::TopicId;

/// What to ask one broker for.
#[derive(Debug, Default)]
pub(in crate::consumer) struct FetchPlan {
    pub(in crate::consumer) wanted: BTreeMap<SessionKey, Wanted>,
    pub(in crate::consumer) asked: BTreeMap<SessionKey, Asked>,
    /// Some of the broker's partitions are left out because enough of them is buffered.
    pub(in crate::consumer) is_held_back: bool,
    /// When a partition may be tried again.
    pub(in crate::consumer) next_at: Option<Instant>,
}

/// A partition within a request, as it was then.
#[derive(Debug, Clone)]
pub(in crate::consumer) struct Asked {
    pub(in crate::consumer) at: TopicPartition,
    pub(in crate::consumer) token: u64,
    pub(in crate::consumer) offset: i64,
}

impl State {
    /// What to ask a broker for. Positions under a new leader epoch are sent to be confirmed first (KIP-320).
    pub(in crate::consumer) fn plan_fetch(
        &mut self,
        broker: i32,
        metadata: &MetadataCache,
        by_id: bool,
        now: Instant,
    ) -> FetchPlan {
        let mut plan = FetchPlan::default();
        let is_full = self.buffered_bytes >= self.limits.prefetch_bytes_max;
        for (at, partition) in &mut self.partitions {
            if partition.phase != Phase::Fetching || !partition.is_returnable() || self.is_stopped {
                continue;
            }
            let Some(topic) = metadata.topic(&at.topic) else { continue };
            let Some(known) = topic.partition(at.partition) else { continue };
            let Some(leader) = known.leader else { continue };
            if known.leader_epoch != partition.validated_under {
                // What failed at the old leader need not wait before it is asked of the new one.
                partition.retry_at = None;
                if partition.fetch_epoch >= 0 && known.leader_epoch > partition.validated_under {
                    if leader == broker {
                        partition.phase = Phase::Validating;
                    }
                    continue;
                }
                partition.validated_under = known.leader_epoch;
            }
            let near = partition
                .preferred_replica
                .filter(|(replica, until)| *until > now && metadata.brokers.contains_key(replica));
            if near.map_or(leader, |(replica, _)| replica) != broker {
                continue;
            }
            if let Some(retry_at) = partition.retry_at.filter(|at| *at > now) {
                plan.next_at = Some(plan.next_at.map_or(retry_at, |other| other.min(retry_at)));
                continue;
            }
            let partition_bytes_max =
                usize::try_from(self.limits.partition_bytes_max).unwrap_or(usize::MAX);
            if is_full || partition.chunk_bytes >= partition_bytes_max {
                plan.is_held_back = true;
                continue;
            }
            let key = SessionKey {
                topic_id: if by_id { topic.id } else { TopicId::ZERO },
                topic: if by_id { String::new() } else { at.topic.to_string() },
                partition: at.partition,
            };
            let wanted = Wanted {
                fetch_offset: partition.fetch_offset,
                current_leader_epoch: known.leader_epoch,
                // Consumers confirm positions by OffsetForLeaderEpoch; this field is for followers.
                last_fetched_epoch: -1,
                partition_max_bytes: self.limits.partition_bytes_max,
            };
            let offset = partition.fetch_offset;
            plan.asked
                .insert(key.clone(), Asked { at: at.clone(), token: partition.token, offset });
            plan.wanted.insert(key, wanted);
        }
        plan
    }

    /// A broker does not answer: metadata may know better, and what a closer replica was to serve is
    /// asked of its leader again (KIP-392).
    pub(in crate::consumer) fn on_broker_trouble(&mut self, broker: i32) {
        self.must_refresh = true;
        for partition in self.partitions.values_mut() {
            partition.preferred_replica.take_if(|(replica, _)| *replica == broker);
        }
    }

    /// Takes in what was fetched. Answers false if it is not wanted any more.
    pub(in crate::consumer) fn on_fetched(
        &mut self,
        asked: &Asked,
        chunk: Chunk,
        end: ChunkEnd,
        now: Instant,
    ) -> bool {
        let Some(partition) = self.current(&asked.at, asked.token) else { return false };
        if partition.phase != Phase::Fetching || partition.fetch_offset != asked.offset {
            return false;
        }
        let bytes = chunk.bytes.len();
        partition.fetch_offset = end.next_offset;
        partition.fetch_epoch = end.leader_epoch;
        partition.progress_at = now;
        partition.is_stall_told = false;
        partition.chunk_bytes += bytes;
        let was_empty = !partition.has_fetched();
        partition.chunks.push_back(chunk);
        self.buffered_bytes += bytes;
        if was_empty {
            self.ready.push_back(asked.at.clone());
        }
        true
    }

    /// Brokers that lead, or serve, a partition of ours.
    pub(in crate::consumer) fn brokers(&self, metadata: &MetadataCache) -> BTreeSet<i32> {
        self.partitions
            .iter()
            .flat_map(|(at, partition)| {
                let leader = metadata.leader(&at.topic, at.partition);
                leader.into_iter().chain(partition.preferred_replica.map(|(replica, _)| replica))
            })
            .collect()
    }

    /// Whether some assigned partition's leader is not known.
    pub(in crate::consumer) fn has_leaderless(&self, metadata: &MetadataCache) -> bool {
        self.partitions.keys().any(|at| metadata.leader(&at.topic, at.partition).is_none())
    }
}
