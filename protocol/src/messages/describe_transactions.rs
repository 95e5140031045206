//! DescribeTransactions (API key 65). Tells the state of transactions by their ids (KIP-664).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells the state of transactions by their ids (KIP-664).
    pub struct DescribeTransactionsRequest, versions 0..=0, flexible 0 {
        transactional_ids: Vec<String> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`DescribeTransactionsRequest`].
    pub struct DescribeTransactionsResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        transaction_states: Vec<TransactionState> = Vec::new(), 0..;
    }

    /// Part of [`DescribeTransactionsResponse`].
    pub struct TransactionState, versions 0..=0, flexible 0 {
        error_code: i16 = 0, 0..;
        transactional_id: String = String::new(), 0..;
        transaction_state: String = String::new(), 0..;
        transaction_timeout_ms: i32 = 0, 0..;
        transaction_start_time_ms: i64 = 0, 0..;
        producer_id: i64 = 0, 0..;
        producer_epoch: i16 = 0, 0..;
        topics: Vec<TopicData> = Vec::new(), 0..;
    }

    /// Part of [`DescribeTransactionsResponse`].
    pub struct TopicData, versions 0..=0, flexible 0 {
        topic: String = String::new(), 0..;
        partitions: Vec<i32> = Vec::new(), 0..;
    }
}

impl Request for DescribeTransactionsRequest {
    const API: ApiKey = ApiKey::DescribeTransactions;
    type Response = DescribeTransactionsResponse;
}
