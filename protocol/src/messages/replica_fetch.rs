//! ReplicaFetch (API key 30002, varve's own). A follower reads the partitions that it follows.
//!
//! The session is the connection. A partition is told with its position; the leader answers it
//! once, with records or with an error, and waits for its next position before it answers it again.
//! News of the high watermark alone need no new position.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, RecordSet, Request, message};

message! {
    /// Tells new positions of followed partitions, and waits for records.
    pub struct ReplicaFetchRequest, versions 0..=0, flexible 0 {
        broker_epoch: i64 = -1, 0..;
        /// How long the leader may wait for records.
        max_wait_ms: i32 = 0, 0..;
        /// Of records in the answer; one batch is always let through.
        max_bytes: i32 = 0, 0..;
        partitions: Vec<ReplicaFetchPartition> = Vec::new(), 0..;
        forgotten: Vec<ForgottenPartition> = Vec::new(), 0..;
    }

    /// Part of [`ReplicaFetchRequest`].
    pub struct ReplicaFetchPartition, versions 0..=0, flexible 0 {
        topic_id: TopicId = TopicId::ZERO, 0..;
        partition: i32 = 0, 0..;
        /// The epoch in which the follower follows.
        leader_epoch: i32 = -1, 0..;
        fetch_offset: i64 = 0, 0..;
        /// The epoch of the follower's last batch; -1 where its log is empty.
        last_fetched_epoch: i32 = -1, 0..;
    }

    /// Part of [`ReplicaFetchRequest`].
    pub struct ForgottenPartition, versions 0..=0, flexible 0 {
        topic_id: TopicId = TopicId::ZERO, 0..;
        partition: i32 = 0, 0..;
    }
}

message! {
    /// Answers [`ReplicaFetchRequest`] with the partitions that have news.
    pub struct ReplicaFetchResponse, versions 0..=0, flexible 0 {
        error_code: i16 = 0, 0..;
        partitions: Vec<ReplicaFetchedPartition> = Vec::new(), 0..;
    }

    /// Part of [`ReplicaFetchResponse`].
    pub struct ReplicaFetchedPartition, versions 0..=0, flexible 0 {
        topic_id: TopicId = TopicId::ZERO, 0..;
        partition: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        /// The leader's; -1 where the sender does not lead the partition.
        leader_epoch: i32 = -1, 0..;
        high_watermark: i64 = -1, 0..;
        log_start: i64 = -1, 0..;
        records: RecordSet = RecordSet::default(), 0..;
    } tagged {
        0 => diverging: Divergence = Divergence::default(), 0..;
    }

    /// The largest epoch that both logs may share, and where it ends in the leader's log; an epoch
    /// of -1 is no divergence.
    pub struct Divergence, versions 0..=0, flexible 0 {
        epoch: i32 = -1, 0..;
        end_offset: i64 = -1, 0..;
    }
}

impl Request for ReplicaFetchRequest {
    const API: ApiKey = ApiKey::ReplicaFetch;
    type Response = ReplicaFetchResponse;
}
