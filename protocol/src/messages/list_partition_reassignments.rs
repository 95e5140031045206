//! ListPartitionReassignments (API key 46). Tells which replicas are being moved (KIP-455).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells which replicas are being moved (KIP-455).
    pub struct ListPartitionReassignmentsRequest, versions 0..=0, flexible 0 {
        timeout_ms: i32 = 60000, 0..;
        topics: Option<Vec<ListPartitionReassignmentsTopics>> = None, 0..;
    }

    /// Part of [`ListPartitionReassignmentsRequest`].
    pub struct ListPartitionReassignmentsTopics, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
        partition_indexes: Vec<i32> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`ListPartitionReassignmentsRequest`].
    pub struct ListPartitionReassignmentsResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        topics: Vec<OngoingTopicReassignment> = Vec::new(), 0..;
    }

    /// Part of [`ListPartitionReassignmentsResponse`].
    pub struct OngoingTopicReassignment, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
        partitions: Vec<OngoingPartitionReassignment> = Vec::new(), 0..;
    }

    /// Part of [`ListPartitionReassignmentsResponse`].
    pub struct OngoingPartitionReassignment, versions 0..=0, flexible 0 {
        partition_index: i32 = 0, 0..;
        replicas: Vec<i32> = Vec::new(), 0..;
        adding_replicas: Vec<i32> = Vec::new(), 0..;
        removing_replicas: Vec<i32> = Vec::new(), 0..;
    }
}

impl Request for ListPartitionReassignmentsRequest {
    const API: ApiKey = ApiKey::ListPartitionReassignments;
    type Response = ListPartitionReassignmentsResponse;
}
