//! ReplicaProgress (API key 30003, varve's own). A follower tells what it holds durably.

use super::NoResponse;
use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells the positions of partitions after a group commit. Never answered.
    pub struct ReplicaProgressRequest, versions 0..=0, flexible 0 {
        broker_epoch: i64 = -1, 0..;
        partitions: Vec<PartitionProgress> = Vec::new(), 0..;
    }

    /// Part of [`ReplicaProgressRequest`].
    pub struct PartitionProgress, versions 0..=0, flexible 0 {
        topic_id: TopicId = TopicId::ZERO, 0..;
        partition: i32 = 0, 0..;
        leader_epoch: i32 = -1, 0..;
        log_end: i64 = 0, 0..;
        durable_end: i64 = 0, 0..;
        log_start: i64 = 0, 0..;
    }
}

impl Request for ReplicaProgressRequest {
    const API: ApiKey = ApiKey::ReplicaProgress;
    type Response = NoResponse;
}
