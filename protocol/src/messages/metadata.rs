//! Metadata (API key 3). Tells topics, partitions, leaders and brokers.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells topics, partitions, leaders and brokers.
    pub struct MetadataRequest, versions 0..=13, flexible 9 {
        topics: Option<Vec<MetadataRequestTopic>> = Some(Default::default()), 0..;
        allow_auto_topic_creation: bool = true, 4..;
        include_cluster_authorized_operations: bool = false, 8..=10;
        include_topic_authorized_operations: bool = false, 8..;
    }

    /// Part of [`MetadataRequest`].
    pub struct MetadataRequestTopic, versions 0..=13, flexible 9 {
        topic_id: TopicId = TopicId::ZERO, 10..;
        name: Option<String> = Some(Default::default()), 0..;
    }
}

message! {
    /// Answers [`MetadataRequest`].
    pub struct MetadataResponse, versions 0..=13, flexible 9 {
        throttle_time_ms: i32 = 0, 3..;
        brokers: Vec<MetadataResponseBroker> = Vec::new(), 0..;
        cluster_id: Option<String> = None, 2..;
        controller_id: i32 = -1, 1..;
        topics: Vec<MetadataResponseTopic> = Vec::new(), 0..;
        cluster_authorized_operations: i32 = i32::MIN, 8..=10;
        error_code: i16 = 0, 13..;
    }

    /// Part of [`MetadataResponse`].
    pub struct MetadataResponseBroker, versions 0..=13, flexible 9 {
        node_id: i32 = 0, 0..;
        host: String = String::new(), 0..;
        port: i32 = 0, 0..;
        rack: Option<String> = None, 1..;
    }

    /// Part of [`MetadataResponse`].
    pub struct MetadataResponseTopic, versions 0..=13, flexible 9 {
        error_code: i16 = 0, 0..;
        name: Option<String> = Some(Default::default()), 0..;
        topic_id: TopicId = TopicId::ZERO, 10..;
        is_internal: bool = false, 1..;
        partitions: Vec<MetadataResponsePartition> = Vec::new(), 0..;
        topic_authorized_operations: i32 = i32::MIN, 8..;
    }

    /// Part of [`MetadataResponse`].
    pub struct MetadataResponsePartition, versions 0..=13, flexible 9 {
        error_code: i16 = 0, 0..;
        partition_index: i32 = 0, 0..;
        leader_id: i32 = 0, 0..;
        leader_epoch: i32 = -1, 7..;
        replica_nodes: Vec<i32> = Vec::new(), 0..;
        isr_nodes: Vec<i32> = Vec::new(), 0..;
        offline_replicas: Vec<i32> = Vec::new(), 5..;
    }
}

impl Request for MetadataRequest {
    const API: ApiKey = ApiKey::Metadata;
    type Response = MetadataResponse;
}
