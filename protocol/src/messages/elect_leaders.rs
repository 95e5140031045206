//! ElectLeaders (API key 43). Elects leaders of partitions (KIP-460).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Elects leaders of partitions (KIP-460).
    pub struct ElectLeadersRequest, versions 0..=2, flexible 2 {
        election_type: i8 = 0, 1..;
        topic_partitions: Option<Vec<TopicPartitions>> = Some(Default::default()), 0..;
        timeout_ms: i32 = 60000, 0..;
    }

    /// Part of [`ElectLeadersRequest`].
    pub struct TopicPartitions, versions 0..=2, flexible 2 {
        topic: String = String::new(), 0..;
        partitions: Vec<i32> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`ElectLeadersRequest`].
    pub struct ElectLeadersResponse, versions 0..=2, flexible 2 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 1..;
        replica_election_results: Vec<ReplicaElectionResult> = Vec::new(), 0..;
    }

    /// Part of [`ElectLeadersResponse`].
    pub struct ReplicaElectionResult, versions 0..=2, flexible 2 {
        topic: String = String::new(), 0..;
        partition_result: Vec<PartitionResult> = Vec::new(), 0..;
    }

    /// Part of [`ElectLeadersResponse`].
    pub struct PartitionResult, versions 0..=2, flexible 2 {
        partition_id: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
    }
}

impl Request for ElectLeadersRequest {
    const API: ApiKey = ApiKey::ElectLeaders;
    type Response = ElectLeadersResponse;
}
