//! Produce (API key 0). Appends record batches to partitions.

use bytes::Bytes;

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Appends record batches to partitions.
    pub struct ProduceRequest, versions 3..=13, flexible 9 {
        transactional_id: Option<String> = None, 3..;
        acks: i16 = 0, 3..;
        timeout_ms: i32 = 0, 3..;
        topic_data: Vec<TopicProduceData> = Vec::new(), 3..;
    }

    /// Part of [`ProduceRequest`].
    pub struct TopicProduceData, versions 3..=13, flexible 9 {
        name: String = String::new(), 3..=12;
        topic_id: TopicId = TopicId::ZERO, 13..;
        partition_data: Vec<PartitionProduceData> = Vec::new(), 3..;
    }

    /// Part of [`ProduceRequest`].
    pub struct PartitionProduceData, versions 3..=13, flexible 9 {
        index: i32 = 0, 3..;
        records: Option<Bytes> = Some(Default::default()), 3..;
    }
}

message! {
    /// Answers [`ProduceRequest`].
    pub struct ProduceResponse, versions 3..=13, flexible 9 {
        responses: Vec<TopicProduceResponse> = Vec::new(), 3..;
        throttle_time_ms: i32 = 0, 3..;
    } tagged {
        0 => node_endpoints: Vec<NodeEndpoint> = Vec::new(), 10..;
    }

    /// Part of [`ProduceResponse`].
    pub struct TopicProduceResponse, versions 3..=13, flexible 9 {
        name: String = String::new(), 3..=12;
        topic_id: TopicId = TopicId::ZERO, 13..;
        partition_responses: Vec<PartitionProduceResponse> = Vec::new(), 3..;
    }

    /// Part of [`ProduceResponse`].
    pub struct NodeEndpoint, versions 3..=13, flexible 9 {
        node_id: i32 = 0, 10..;
        host: String = String::new(), 10..;
        port: i32 = 0, 10..;
        rack: Option<String> = None, 10..;
    }

    /// Part of [`ProduceResponse`].
    pub struct PartitionProduceResponse, versions 3..=13, flexible 9 {
        index: i32 = 0, 3..;
        error_code: i16 = 0, 3..;
        base_offset: i64 = 0, 3..;
        log_append_time_ms: i64 = -1, 3..;
        log_start_offset: i64 = -1, 5..;
        record_errors: Vec<BatchIndexAndErrorMessage> = Vec::new(), 8..;
        error_message: Option<String> = None, 8..;
    } tagged {
        0 => current_leader: LeaderIdAndEpoch = Default::default(), 10..;
    }

    /// Part of [`ProduceResponse`].
    pub struct BatchIndexAndErrorMessage, versions 3..=13, flexible 9 {
        batch_index: i32 = 0, 8..;
        batch_index_error_message: Option<String> = None, 8..;
    }

    /// Part of [`ProduceResponse`].
    pub struct LeaderIdAndEpoch, versions 3..=13, flexible 9 {
        leader_id: i32 = -1, 10..;
        leader_epoch: i32 = -1, 10..;
    }
}

impl Request for ProduceRequest {
    const API: ApiKey = ApiKey::Produce;
    type Response = ProduceResponse;
}
