//! OffsetForLeaderEpoch (API key 23). Tells where a leader epoch ends (KIP-101, KIP-320).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells where a leader epoch ends (KIP-101, KIP-320).
    pub struct OffsetForLeaderEpochRequest, versions 2..=4, flexible 4 {
        replica_id: i32 = -2, 3..;
        topics: Vec<OffsetForLeaderTopic> = Vec::new(), 2..;
    }

    /// Part of [`OffsetForLeaderEpochRequest`].
    pub struct OffsetForLeaderTopic, versions 2..=4, flexible 4 {
        topic: String = String::new(), 2..;
        partitions: Vec<OffsetForLeaderPartition> = Vec::new(), 2..;
    }

    /// Part of [`OffsetForLeaderEpochRequest`].
    pub struct OffsetForLeaderPartition, versions 2..=4, flexible 4 {
        partition: i32 = 0, 2..;
        current_leader_epoch: i32 = -1, 2..;
        leader_epoch: i32 = 0, 2..;
    }
}

message! {
    /// Answers [`OffsetForLeaderEpochRequest`].
    pub struct OffsetForLeaderEpochResponse, versions 2..=4, flexible 4 {
        throttle_time_ms: i32 = 0, 2..;
        topics: Vec<OffsetForLeaderTopicResult> = Vec::new(), 2..;
    }

    /// Part of [`OffsetForLeaderEpochResponse`].
    pub struct OffsetForLeaderTopicResult, versions 2..=4, flexible 4 {
        topic: String = String::new(), 2..;
        partitions: Vec<EpochEndOffset> = Vec::new(), 2..;
    }

    /// Part of [`OffsetForLeaderEpochResponse`].
    pub struct EpochEndOffset, versions 2..=4, flexible 4 {
        error_code: i16 = 0, 2..;
        partition: i32 = 0, 2..;
        leader_epoch: i32 = -1, 2..;
        end_offset: i64 = -1, 2..;
    }
}

impl Request for OffsetForLeaderEpochRequest {
    const API: ApiKey = ApiKey::OffsetForLeaderEpoch;
    type Response = OffsetForLeaderEpochResponse;
}
