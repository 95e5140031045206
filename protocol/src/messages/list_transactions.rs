//! ListTransactions (API key 66). Lists transactions (KIP-664).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Lists transactions (KIP-664).
    pub struct ListTransactionsRequest, versions 0..=2, flexible 0 {
        state_filters: Vec<String> = Vec::new(), 0..;
        producer_id_filters: Vec<i64> = Vec::new(), 0..;
        duration_filter: i64 = -1, 1..;
        transactional_id_pattern: Option<String> = None, 2..;
    }
}

message! {
    /// Answers [`ListTransactionsRequest`].
    pub struct ListTransactionsResponse, versions 0..=2, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        unknown_state_filters: Vec<String> = Vec::new(), 0..;
        transaction_states: Vec<TransactionState> = Vec::new(), 0..;
    }

    /// Part of [`ListTransactionsResponse`].
    pub struct TransactionState, versions 0..=2, flexible 0 {
        transactional_id: String = String::new(), 0..;
        producer_id: i64 = 0, 0..;
        transaction_state: String = String::new(), 0..;
    }
}

impl Request for ListTransactionsRequest {
    const API: ApiKey = ApiKey::ListTransactions;
    type Response = ListTransactionsResponse;
}
