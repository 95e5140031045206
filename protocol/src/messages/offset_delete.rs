//! OffsetDelete (API key 47). Deletes a group's positions (KIP-496).

use crate::wire::{ApiKey, NEVER, Request, message};

message! {
    /// Deletes a group's positions (KIP-496).
    pub struct OffsetDeleteRequest, versions 0..=0, flexible NEVER {
        group_id: String = String::new(), 0..;
        topics: Vec<OffsetDeleteRequestTopic> = Vec::new(), 0..;
    }

    /// Part of [`OffsetDeleteRequest`].
    pub struct OffsetDeleteRequestTopic, versions 0..=0, flexible NEVER {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetDeleteRequestPartition> = Vec::new(), 0..;
    }

    /// Part of [`OffsetDeleteRequest`].
    pub struct OffsetDeleteRequestPartition, versions 0..=0, flexible NEVER {
        partition_index: i32 = 0, 0..;
    }
}

message! {
    /// Answers [`OffsetDeleteRequest`].
    pub struct OffsetDeleteResponse, versions 0..=0, flexible NEVER {
        error_code: i16 = 0, 0..;
        throttle_time_ms: i32 = 0, 0..;
        topics: Vec<OffsetDeleteResponseTopic> = Vec::new(), 0..;
    }

    /// Part of [`OffsetDeleteResponse`].
    pub struct OffsetDeleteResponseTopic, versions 0..=0, flexible NEVER {
        name: String = String::new(), 0..;
        partitions: Vec<OffsetDeleteResponsePartition> = Vec::new(), 0..;
    }

    /// Part of [`OffsetDeleteResponse`].
    pub struct OffsetDeleteResponsePartition, versions 0..=0, flexible NEVER {
        partition_index: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
    }
}

impl Request for OffsetDeleteRequest {
    const API: ApiKey = ApiKey::OffsetDelete;
    type Response = OffsetDeleteResponse;
}
