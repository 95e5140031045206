//! ListOffsets (API key 2). Looks offsets up by time or place.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Looks offsets up by time or place.
    pub struct ListOffsetsRequest, versions 1..=11, flexible 6 {
        replica_id: i32 = 0, 1..;
        isolation_level: i8 = 0, 2..;
        topics: Vec<ListOffsetsTopic> = Vec::new(), 1..;
        timeout_ms: i32 = 0, 10..;
    }

    /// Part of [`ListOffsetsRequest`].
    pub struct ListOffsetsTopic, versions 1..=11, flexible 6 {
        name: String = String::new(), 1..;
        partitions: Vec<ListOffsetsPartition> = Vec::new(), 1..;
    }

    /// Part of [`ListOffsetsRequest`].
    pub struct ListOffsetsPartition, versions 1..=11, flexible 6 {
        partition_index: i32 = 0, 1..;
        current_leader_epoch: i32 = -1, 4..;
        timestamp: i64 = 0, 1..;
    }
}

message! {
    /// Answers [`ListOffsetsRequest`].
    pub struct ListOffsetsResponse, versions 1..=11, flexible 6 {
        throttle_time_ms: i32 = 0, 2..;
        topics: Vec<ListOffsetsTopicResponse> = Vec::new(), 1..;
    }

    /// Part of [`ListOffsetsResponse`].
    pub struct ListOffsetsTopicResponse, versions 1..=11, flexible 6 {
        name: String = String::new(), 1..;
        partitions: Vec<ListOffsetsPartitionResponse> = Vec::new(), 1..;
    }

    /// Part of [`ListOffsetsResponse`].
    pub struct ListOffsetsPartitionResponse, versions 1..=11, flexible 6 {
        partition_index: i32 = 0, 1..;
        error_code: i16 = 0, 1..;
        timestamp: i64 = -1, 1..;
        offset: i64 = -1, 1..;
        leader_epoch: i32 = -1, 4..;
    }
}

impl Request for ListOffsetsRequest {
    const API: ApiKey = ApiKey::ListOffsets;
    type Response = ListOffsetsResponse;
}
