//! AlterPartition (API key 56). A leader asks the controller for another in-sync set (KIP-497).
//!
//! Between brokers only.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Asks for other in-sync sets of partitions that the sender leads.
    pub struct AlterPartitionRequest, versions 2..=3, flexible 0 {
        broker_id: i32 = 0, 2..;
        broker_epoch: i64 = -1, 2..;
        topics: Vec<AlterPartitionTopic> = Vec::new(), 2..;
    }

    /// Part of [`AlterPartitionRequest`].
    pub struct AlterPartitionTopic, versions 2..=3, flexible 0 {
        topic_id: TopicId = TopicId::ZERO, 2..;
        partitions: Vec<AlterPartitionData> = Vec::new(), 2..;
    }

    /// Part of [`AlterPartitionRequest`].
    pub struct AlterPartitionData, versions 2..=3, flexible 0 {
        partition_index: i32 = 0, 2..;
        leader_epoch: i32 = 0, 2..;
        new_isr: Vec<i32> = Vec::new(), 2..=2;
        new_isr_with_epochs: Vec<BrokerState> = Vec::new(), 3..;
        leader_recovery_state: i8 = 0, 2..;
        partition_epoch: i32 = 0, 2..;
    }

    /// Part of [`AlterPartitionRequest`].
    pub struct BrokerState, versions 2..=3, flexible 0 {
        broker_id: i32 = 0, 3..;
        broker_epoch: i64 = -1, 3..;
    }
}

message! {
    /// Answers [`AlterPartitionRequest`].
    pub struct AlterPartitionResponse, versions 2..=3, flexible 0 {
        throttle_time_ms: i32 = 0, 2..;
        error_code: i16 = 0, 2..;
        topics: Vec<AlterPartitionTopicResponse> = Vec::new(), 2..;
    }

    /// Part of [`AlterPartitionResponse`].
    pub struct AlterPartitionTopicResponse, versions 2..=3, flexible 0 {
        topic_id: TopicId = TopicId::ZERO, 2..;
        partitions: Vec<AlterPartitionResult> = Vec::new(), 2..;
    }

    /// Part of [`AlterPartitionResponse`].
    pub struct AlterPartitionResult, versions 2..=3, flexible 0 {
        partition_index: i32 = 0, 2..;
        error_code: i16 = 0, 2..;
        leader_id: i32 = 0, 2..;
        leader_epoch: i32 = 0, 2..;
        isr: Vec<i32> = Vec::new(), 2..;
        leader_recovery_state: i8 = 0, 2..;
        partition_epoch: i32 = 0, 2..;
    }
}

impl Request for AlterPartitionRequest {
    const API: ApiKey = ApiKey::AlterPartition;
    type Response = AlterPartitionResponse;
}
