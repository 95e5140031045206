//! Fetch (API key 1). Reads record batches from partitions.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, RecordSet, Request, message};

message! {
    /// Reads record batches from partitions.
    pub struct FetchRequest, versions 4..=18, flexible 12 {
        replica_id: i32 = -1, 4..=14;
        max_wait_ms: i32 = 0, 4..;
        min_bytes: i32 = 0, 4..;
        max_bytes: i32 = i32::MAX, 4..;
        isolation_level: i8 = 0, 4..;
        session_id: i32 = 0, 7..;
        session_epoch: i32 = -1, 7..;
        topics: Vec<FetchTopic> = Vec::new(), 4..;
        forgotten_topics_data: Vec<ForgottenTopic> = Vec::new(), 7..;
        rack_id: String = String::new(), 11..;
    } tagged {
        0 => cluster_id: Option<String> = None, 12..;
        1 => replica_state: ReplicaState = Default::default(), 15..;
    }

    /// Part of [`FetchRequest`].
    pub struct ReplicaState, versions 4..=18, flexible 12 {
        replica_id: i32 = -1, 15..;
        replica_epoch: i64 = -1, 15..;
    }

    /// Part of [`FetchRequest`].
    pub struct FetchTopic, versions 4..=18, flexible 12 {
        topic: String = String::new(), 4..=12;
        topic_id: TopicId = TopicId::ZERO, 13..;
        partitions: Vec<FetchPartition> = Vec::new(), 4..;
    }

    /// Part of [`FetchRequest`].
    pub struct ForgottenTopic, versions 4..=18, flexible 12 {
        topic: String = String::new(), 7..=12;
        topic_id: TopicId = TopicId::ZERO, 13..;
        partitions: Vec<i32> = Vec::new(), 7..;
    }

    /// Part of [`FetchRequest`].
    pub struct FetchPartition, versions 4..=18, flexible 12 {
        partition: i32 = 0, 4..;
        current_leader_epoch: i32 = -1, 9..;
        fetch_offset: i64 = 0, 4..;
        last_fetched_epoch: i32 = -1, 12..;
        log_start_offset: i64 = -1, 5..;
        partition_max_bytes: i32 = 0, 4..;
    } tagged {
        0 => replica_directory_id: TopicId = TopicId::ZERO, 17..;
        1 => high_watermark: i64 = i64::MAX, 18..;
    }
}

message! {
    /// Answers [`FetchRequest`].
    pub struct FetchResponse, versions 4..=18, flexible 12 {
        throttle_time_ms: i32 = 0, 4..;
        error_code: i16 = 0, 7..;
        session_id: i32 = 0, 7..;
        responses: Vec<FetchableTopicResponse> = Vec::new(), 4..;
    } tagged {
        0 => node_endpoints: Vec<NodeEndpoint> = Vec::new(), 16..;
    }

    /// Part of [`FetchResponse`].
    pub struct FetchableTopicResponse, versions 4..=18, flexible 12 {
        topic: String = String::new(), 4..=12;
        topic_id: TopicId = TopicId::ZERO, 13..;
        partitions: Vec<PartitionData> = Vec::new(), 4..;
    }

    /// Part of [`FetchResponse`].
    pub struct NodeEndpoint, versions 4..=18, flexible 12 {
        node_id: i32 = 0, 16..;
        host: String = String::new(), 16..;
        port: i32 = 0, 16..;
        rack: Option<String> = None, 16..;
    }

    /// Part of [`FetchResponse`].
    pub struct PartitionData, versions 4..=18, flexible 12 {
        partition_index: i32 = 0, 4..;
        error_code: i16 = 0, 4..;
        high_watermark: i64 = 0, 4..;
        last_stable_offset: i64 = -1, 4..;
        log_start_offset: i64 = -1, 5..;
        aborted_transactions: Option<Vec<AbortedTransaction>> = Some(Default::default()), 4..;
        preferred_read_replica: i32 = -1, 11..;
        records: RecordSet = RecordSet::default(), 4..;
    } tagged {
        0 => diverging_epoch: EpochEndOffset = Default::default(), 12..;
        1 => current_leader: LeaderIdAndEpoch = Default::default(), 12..;
        2 => snapshot_id: SnapshotId = Default::default(), 12..;
    }

    /// Part of [`FetchResponse`].
    pub struct EpochEndOffset, versions 4..=18, flexible 12 {
        epoch: i32 = -1, 12..;
        end_offset: i64 = -1, 12..;
    }

    /// Part of [`FetchResponse`].
    pub struct LeaderIdAndEpoch, versions 4..=18, flexible 12 {
        leader_id: i32 = -1, 12..;
        leader_epoch: i32 = -1, 12..;
    }

    /// Part of [`FetchResponse`].
    pub struct SnapshotId, versions 4..=18, flexible 12 {
        end_offset: i64 = -1, 4..;
        epoch: i32 = -1, 4..;
    }

    /// Part of [`FetchResponse`].
    pub struct AbortedTransaction, versions 4..=18, flexible 12 {
        producer_id: i64 = 0, 4..;
        first_offset: i64 = 0, 4..;
    }
}

impl Request for FetchRequest {
    const API: ApiKey = ApiKey::Fetch;
    type Response = FetchResponse;
}
