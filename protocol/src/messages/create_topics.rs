//! CreateTopics (API key 19). Creates topics.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Creates topics.
    pub struct CreateTopicsRequest, versions 2..=7, flexible 5 {
        topics: Vec<CreatableTopic> = Vec::new(), 2..;
        timeout_ms: i32 = 60000, 2..;
        validate_only: bool = false, 2..;
    }

    /// Part of [`CreateTopicsRequest`].
    pub struct CreatableTopic, versions 2..=7, flexible 5 {
        name: String = String::new(), 2..;
        num_partitions: i32 = 0, 2..;
        replication_factor: i16 = 0, 2..;
        assignments: Vec<CreatableReplicaAssignment> = Vec::new(), 2..;
        configs: Vec<CreatableTopicConfig> = Vec::new(), 2..;
    }

    /// Part of [`CreateTopicsRequest`].
    pub struct CreatableReplicaAssignment, versions 2..=7, flexible 5 {
        partition_index: i32 = 0, 2..;
        broker_ids: Vec<i32> = Vec::new(), 2..;
    }

    /// Part of [`CreateTopicsRequest`].
    pub struct CreatableTopicConfig, versions 2..=7, flexible 5 {
        name: String = String::new(), 2..;
        value: Option<String> = Some(Default::default()), 2..;
    }
}

message! {
    /// Answers [`CreateTopicsRequest`].
    pub struct CreateTopicsResponse, versions 2..=7, flexible 5 {
        throttle_time_ms: i32 = 0, 2..;
        topics: Vec<CreatableTopicResult> = Vec::new(), 2..;
    }

    /// Part of [`CreateTopicsResponse`].
    pub struct CreatableTopicResult, versions 2..=7, flexible 5 {
        name: String = String::new(), 2..;
        topic_id: TopicId = TopicId::ZERO, 7..;
        error_code: i16 = 0, 2..;
        error_message: Option<String> = Some(Default::default()), 2..;
        num_partitions: i32 = -1, 5..;
        replication_factor: i16 = -1, 5..;
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Default::default()), 5..;
    } tagged {
        0 => topic_config_error_code: i16 = 0, 5..;
    }

    /// Part of [`CreateTopicsResponse`].
    pub struct CreatableTopicConfigs, versions 2..=7, flexible 5 {
        name: String = String::new(), 5..;
        value: Option<String> = Some(Default::default()), 5..;
        read_only: bool = false, 5..;
        config_source: i8 = -1, 5..;
        is_sensitive: bool = false, 5..;
    }
}

impl Request for CreateTopicsRequest {
    const API: ApiKey = ApiKey::CreateTopics;
    type Response = CreateTopicsResponse;
}
