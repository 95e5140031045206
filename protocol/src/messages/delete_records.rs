//! DeleteRecords (API key 21). Moves the start of partitions forward.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Moves the start of partitions forward.
    pub struct DeleteRecordsRequest, versions 0..=2, flexible 2 {
        topics: Vec<DeleteRecordsTopic> = Vec::new(), 0..;
        timeout_ms: i32 = 0, 0..;
    }

    /// Part of [`DeleteRecordsRequest`].
    pub struct DeleteRecordsTopic, versions 0..=2, flexible 2 {
        name: String = String::new(), 0..;
        partitions: Vec<DeleteRecordsPartition> = Vec::new(), 0..;
    }

    /// Part of [`DeleteRecordsRequest`].
    pub struct DeleteRecordsPartition, versions 0..=2, flexible 2 {
        partition_index: i32 = 0, 0..;
        offset: i64 = 0, 0..;
    }
}

message! {
    /// Answers [`DeleteRecordsRequest`].
    pub struct DeleteRecordsResponse, versions 0..=2, flexible 2 {
        throttle_time_ms: i32 = 0, 0..;
        topics: Vec<DeleteRecordsTopicResult> = Vec::new(), 0..;
    }

    /// Part of [`DeleteRecordsResponse`].
    pub struct DeleteRecordsTopicResult, versions 0..=2, flexible 2 {
        name: String = String::new(), 0..;
        partitions: Vec<DeleteRecordsPartitionResult> = Vec::new(), 0..;
    }

    /// Part of [`DeleteRecordsResponse`].
    pub struct DeleteRecordsPartitionResult, versions 0..=2, flexible 2 {
        partition_index: i32 = 0, 0..;
        low_watermark: i64 = 0, 0..;
        error_code: i16 = 0, 0..;
    }
}

impl Request for DeleteRecordsRequest {
    const API: ApiKey = ApiKey::DeleteRecords;
    type Response = DeleteRecordsResponse;
}
