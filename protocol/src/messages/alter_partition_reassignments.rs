//! AlterPartitionReassignments (API key 45). Moves replicas, or stops moving them (KIP-455).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Moves replicas, or stops moving them (KIP-455).
    pub struct AlterPartitionReassignmentsRequest, versions 0..=1, flexible 0 {
        timeout_ms: i32 = 60000, 0..;
        allow_replication_factor_change: bool = true, 1..;
        topics: Vec<ReassignableTopic> = Vec::new(), 0..;
    }

    /// Part of [`AlterPartitionReassignmentsRequest`].
    pub struct ReassignableTopic, versions 0..=1, flexible 0 {
        name: String = String::new(), 0..;
        partitions: Vec<ReassignablePartition> = Vec::new(), 0..;
    }

    /// Part of [`AlterPartitionReassignmentsRequest`].
    pub struct ReassignablePartition, versions 0..=1, flexible 0 {
        partition_index: i32 = 0, 0..;
        replicas: Option<Vec<i32>> = None, 0..;
    }
}

message! {
    /// Answers [`AlterPartitionReassignmentsRequest`].
    pub struct AlterPartitionReassignmentsResponse, versions 0..=1, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        allow_replication_factor_change: bool = true, 1..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        responses: Vec<ReassignableTopicResponse> = Vec::new(), 0..;
    }

    /// Part of [`AlterPartitionReassignmentsResponse`].
    pub struct ReassignableTopicResponse, versions 0..=1, flexible 0 {
        name: String = String::new(), 0..;
        partitions: Vec<ReassignablePartitionResponse> = Vec::new(), 0..;
    }

    /// Part of [`AlterPartitionReassignmentsResponse`].
    pub struct ReassignablePartitionResponse, versions 0..=1, flexible 0 {
        partition_index: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
    }
}

impl Request for AlterPartitionReassignmentsRequest {
    const API: ApiKey = ApiKey::AlterPartitionReassignments;
    type Response = AlterPartitionReassignmentsResponse;
}
