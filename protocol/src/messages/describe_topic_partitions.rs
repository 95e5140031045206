//! DescribeTopicPartitions (API key 75). Describes topics, some partitions at a time (KIP-966).

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Describes topics, some partitions at a time (KIP-966).
    pub struct DescribeTopicPartitionsRequest, versions 0..=0, flexible 0 {
        topics: Vec<TopicRequest> = Vec::new(), 0..;
        response_partition_limit: i32 = 2000, 0..;
        cursor: Option<Cursor> = None, 0..;
    }

    /// Part of [`DescribeTopicPartitionsRequest`].
    pub struct TopicRequest, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
    }

    /// Part of [`DescribeTopicPartitionsRequest`].
    pub struct Cursor, versions 0..=0, flexible 0 {
        topic_name: String = String::new(), 0..;
        partition_index: i32 = 0, 0..;
    }
}

message! {
    /// Answers [`DescribeTopicPartitionsRequest`].
    pub struct DescribeTopicPartitionsResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        topics: Vec<DescribeTopicPartitionsResponseTopic> = Vec::new(), 0..;
        next_cursor: Option<Cursor> = None, 0..;
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    pub struct DescribeTopicPartitionsResponseTopic, versions 0..=0, flexible 0 {
        error_code: i16 = 0, 0..;
        name: Option<String> = None, 0..;
        topic_id: TopicId = TopicId::ZERO, 0..;
        is_internal: bool = false, 0..;
        partitions: Vec<DescribeTopicPartitionsResponsePartition> = Vec::new(), 0..;
        topic_authorized_operations: i32 = i32::MIN, 0..;
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    pub struct DescribeTopicPartitionsResponsePartition, versions 0..=0, flexible 0 {
        error_code: i16 = 0, 0..;
        partition_index: i32 = 0, 0..;
        leader_id: i32 = 0, 0..;
        leader_epoch: i32 = -1, 0..;
        replica_nodes: Vec<i32> = Vec::new(), 0..;
        isr_nodes: Vec<i32> = Vec::new(), 0..;
        eligible_leader_replicas: Option<Vec<i32>> = None, 0..;
        last_known_elr: Option<Vec<i32>> = None, 0..;
        offline_replicas: Vec<i32> = Vec::new(), 0..;
    }
}

impl Request for DescribeTopicPartitionsRequest {
    const API: ApiKey = ApiKey::DescribeTopicPartitions;
    type Response = DescribeTopicPartitionsResponse;
}
