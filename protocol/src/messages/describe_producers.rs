//! DescribeProducers (API key 61). Tells who writes to partitions idempotently (KIP-664).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells who writes to partitions idempotently (KIP-664).
    pub struct DescribeProducersRequest, versions 0..=0, flexible 0 {
        topics: Vec<TopicRequest> = Vec::new(), 0..;
    }

    /// Part of [`DescribeProducersRequest`].
    pub struct TopicRequest, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
        partition_indexes: Vec<i32> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`DescribeProducersRequest`].
    pub struct DescribeProducersResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        topics: Vec<TopicResponse> = Vec::new(), 0..;
    }

    /// Part of [`DescribeProducersResponse`].
    pub struct TopicResponse, versions 0..=0, flexible 0 {
        name: String = String::new(), 0..;
        partitions: Vec<PartitionResponse> = Vec::new(), 0..;
    }

    /// Part of [`DescribeProducersResponse`].
    pub struct PartitionResponse, versions 0..=0, flexible 0 {
        partition_index: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        active_producers: Vec<ProducerState> = Vec::new(), 0..;
    }

    /// Part of [`DescribeProducersResponse`].
    pub struct ProducerState, versions 0..=0, flexible 0 {
        producer_id: i64 = 0, 0..;
        producer_epoch: i32 = 0, 0..;
        last_sequence: i32 = -1, 0..;
        last_timestamp: i64 = -1, 0..;
        coordinator_epoch: i32 = 0, 0..;
        current_txn_start_offset: i64 = -1, 0..;
    }
}

impl Request for DescribeProducersRequest {
    const API: ApiKey = ApiKey::DescribeProducers;
    type Response = DescribeProducersResponse;
}
