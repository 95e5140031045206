//! OffsetCommit (API key 8). Stores a group's positions.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Stores a group's positions.
    pub struct OffsetCommitRequest, versions 2..=10, flexible 8 {
        group_id: String = String::new(), 2..;
        generation_id_or_member_epoch: i32 = -1, 2..;
        member_id: String = String::new(), 2..;
        group_instance_id: Option<String> = None, 7..;
        retention_time_ms: i64 = -1, 2..=4;
        topics: Vec<OffsetCommitRequestTopic> = Vec::new(), 2..;
    }

    /// Part of [`OffsetCommitRequest`].
    pub struct OffsetCommitRequestTopic, versions 2..=10, flexible 8 {
        name: String = String::new(), 2..=9;
        topic_id: TopicId = TopicId::ZERO, 10..;
        partitions: Vec<OffsetCommitRequestPartition> = Vec::new(), 2..;
    }

    /// Part of [`OffsetCommitRequest`].
    pub struct OffsetCommitRequestPartition, versions 2..=10, flexible 8 {
        partition_index: i32 = 0, 2..;
        committed_offset: i64 = 0, 2..;
        committed_leader_epoch: i32 = -1, 6..;
        committed_metadata: Option<String> = Some(Default::default()), 2..;
    }
}

message! {
    /// Answers [`OffsetCommitRequest`].
    pub struct OffsetCommitResponse, versions 2..=10, flexible 8 {
        throttle_time_ms: i32 = 0, 3..;
        topics: Vec<OffsetCommitResponseTopic> = Vec::new(), 2..;
    }

    /// Part of [`OffsetCommitResponse`].
    pub struct OffsetCommitResponseTopic, versions 2..=10, flexible 8 {
        name: String = String::new(), 2..=9;
        topic_id: TopicId = TopicId::ZERO, 10..;
        partitions: Vec<OffsetCommitResponsePartition> = Vec::new(), 2..;
    }

    /// Part of [`OffsetCommitResponse`].
    pub struct OffsetCommitResponsePartition, versions 2..=10, flexible 8 {
        partition_index: i32 = 0, 2..;
        error_code: i16 = 0, 2..;
    }
}

impl Request for OffsetCommitRequest {
    const API: ApiKey = ApiKey::OffsetCommit;
    type Response = OffsetCommitResponse;
}
