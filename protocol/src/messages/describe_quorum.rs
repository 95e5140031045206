//! DescribeQuorum (API key 55). Tells the state of the metadata quorum (KIP-595).

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells the state of the metadata quorum (KIP-595).
    pub struct DescribeQuorumRequest, versions 0..=2, flexible 0 {
        topics: Vec<TopicData> = Vec::new(), 0..;
    }

    /// Part of [`DescribeQuorumRequest`].
    pub struct TopicData, versions 0..=2, flexible 0 {
        topic_name: String = String::new(), 0..;
        partitions: Vec<PartitionData> = Vec::new(), 0..;
    }

    /// Part of [`DescribeQuorumRequest`].
    pub struct PartitionData, versions 0..=2, flexible 0 {
        partition_index: i32 = 0, 0..;
    }
}

message! {
    /// Answers [`DescribeQuorumRequest`].
    pub struct DescribeQuorumResponse, versions 0..=2, flexible 0 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 2..;
        topics: Vec<DescribedTopic> = Vec::new(), 0..;
        nodes: Vec<Node> = Vec::new(), 2..;
    }

    /// Part of [`DescribeQuorumResponse`].
    pub struct DescribedTopic, versions 0..=2, flexible 0 {
        topic_name: String = String::new(), 0..;
        partitions: Vec<DescribedPartition> = Vec::new(), 0..;
    }

    /// Part of [`DescribeQuorumResponse`].
    pub struct Node, versions 0..=2, flexible 0 {
        node_id: i32 = 0, 2..;
        listeners: Vec<Listener> = Vec::new(), 2..;
    }

    /// Part of [`DescribeQuorumResponse`].
    pub struct DescribedPartition, versions 0..=2, flexible 0 {
        partition_index: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 2..;
        leader_id: i32 = 0, 0..;
        leader_epoch: i32 = 0, 0..;
        high_watermark: i64 = 0, 0..;
        current_voters: Vec<ReplicaState> = Vec::new(), 0..;
        observers: Vec<ReplicaState> = Vec::new(), 0..;
    }

    /// Part of [`DescribeQuorumResponse`].
    pub struct Listener, versions 0..=2, flexible 0 {
        name: String = String::new(), 2..;
        host: String = String::new(), 2..;
        port: u16 = 0, 2..;
    }

    /// Part of [`DescribeQuorumResponse`].
    pub struct ReplicaState, versions 0..=2, flexible 0 {
        replica_id: i32 = 0, 0..;
        replica_directory_id: TopicId = TopicId::ZERO, 2..;
        log_end_offset: i64 = 0, 0..;
        last_fetch_timestamp: i64 = -1, 1..;
        last_caught_up_timestamp: i64 = -1, 1..;
    }
}

impl Request for DescribeQuorumRequest {
    const API: ApiKey = ApiKey::DescribeQuorum;
    type Response = DescribeQuorumResponse;
}
