//! CreatePartitions (API key 37). Adds partitions to topics.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Adds partitions to topics.
    pub struct CreatePartitionsRequest, versions 0..=3, flexible 2 {
        topics: Vec<CreatePartitionsTopic> = Vec::new(), 0..;
        timeout_ms: i32 = 0, 0..;
        validate_only: bool = false, 0..;
    }

    /// Part of [`CreatePartitionsRequest`].
    pub struct CreatePartitionsTopic, versions 0..=3, flexible 2 {
        name: String = String::new(), 0..;
        count: i32 = 0, 0..;
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Default::default()), 0..;
    }

    /// Part of [`CreatePartitionsRequest`].
    pub struct CreatePartitionsAssignment, versions 0..=3, flexible 2 {
        broker_ids: Vec<i32> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`CreatePartitionsRequest`].
    pub struct CreatePartitionsResponse, versions 0..=3, flexible 2 {
        throttle_time_ms: i32 = 0, 0..;
        results: Vec<CreatePartitionsTopicResult> = Vec::new(), 0..;
    }

    /// Part of [`CreatePartitionsResponse`].
    pub struct CreatePartitionsTopicResult, versions 0..=3, flexible 2 {
        name: String = String::new(), 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
    }
}

impl Request for CreatePartitionsRequest {
    const API: ApiKey = ApiKey::CreatePartitions;
    type Response = CreatePartitionsResponse;
}
