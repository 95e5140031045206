//! OffsetFetch (API key 9). Reads a group's positions.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Reads a group's positions.
    pub struct OffsetFetchRequest, versions 1..=10, flexible 6 {
        group_id: String = String::new(), 1..=7;
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Default::default()), 1..=7;
        groups: Vec<OffsetFetchRequestGroup> = Vec::new(), 8..;
        require_stable: bool = false, 7..;
    }

    /// Part of [`OffsetFetchRequest`].
    pub struct OffsetFetchRequestTopic, versions 1..=10, flexible 6 {
        name: String = String::new(), 1..=7;
        partition_indexes: Vec<i32> = Vec::new(), 1..=7;
    }

    /// Part of [`OffsetFetchRequest`].
    pub struct OffsetFetchRequestGroup, versions 1..=10, flexible 6 {
        group_id: String = String::new(), 8..;
        member_id: Option<String> = None, 9..;
        member_epoch: i32 = -1, 9..;
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Default::default()), 8..;
    }

    /// Part of [`OffsetFetchRequest`].
    pub struct OffsetFetchRequestTopics, versions 1..=10, flexible 6 {
        name: String = String::new(), 8..=9;
        topic_id: TopicId = TopicId::ZERO, 10..;
        partition_indexes: Vec<i32> = Vec::new(), 8..;
    }
}

message! {
    /// Answers [`OffsetFetchRequest`].
    pub struct OffsetFetchResponse, versions 1..=10, flexible 6 {
        throttle_time_ms: i32 = 0, 3..;
        topics: Vec<OffsetFetchResponseTopic> = Vec::new(), 1..=7;
        error_code: i16 = 0, 2..=7;
        groups: Vec<OffsetFetchResponseGroup> = Vec::new(), 8..;
    }

    /// Part of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponseTopic, versions 1..=10, flexible 6 {
        name: String = String::new(), 1..=7;
        partitions: Vec<OffsetFetchResponsePartition> = Vec::new(), 1..=7;
    }

    /// Part of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponseGroup, versions 1..=10, flexible 6 {
        group_id: String = String::new(), 8..;
        topics: Vec<OffsetFetchResponseTopics> = Vec::new(), 8..;
        error_code: i16 = 0, 8..;
    }

    /// Part of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponsePartition, versions 1..=10, flexible 6 {
        partition_index: i32 = 0, 1..=7;
        committed_offset: i64 = 0, 1..=7;
        committed_leader_epoch: i32 = -1, 5..=7;
        metadata: Option<String> = Some(Default::default()), 1..=7;
        error_code: i16 = 0, 1..=7;
    }

    /// Part of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponseTopics, versions 1..=10, flexible 6 {
        name: String = String::new(), 8..=9;
        topic_id: TopicId = TopicId::ZERO, 10..;
        partitions: Vec<OffsetFetchResponsePartitions> = Vec::new(), 8..;
    }

    /// Part of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponsePartitions, versions 1..=10, flexible 6 {
        partition_index: i32 = 0, 8..;
        committed_offset: i64 = 0, 8..;
        committed_leader_epoch: i32 = -1, 8..;
        metadata: Option<String> = Some(Default::default()), 8..;
        error_code: i16 = 0, 8..;
    }
}

impl Request for OffsetFetchRequest {
    const API: ApiKey = ApiKey::OffsetFetch;
    type Response = OffsetFetchResponse;
}
