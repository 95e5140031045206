//! AllocateProducerIds (API key 67). A broker asks the controller for a block of producer ids
//! (KIP-730).
//!
//! Between brokers only.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Asks for a block of producer ids.
    pub struct AllocateProducerIdsRequest, versions 0..=0, flexible 0 {
        broker_id: i32 = 0, 0..;
        broker_epoch: i64 = -1, 0..;
    }
}

message! {
    /// Answers [`AllocateProducerIdsRequest`].
    pub struct AllocateProducerIdsResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        producer_id_start: i64 = 0, 0..;
        producer_id_len: i32 = 0, 0..;
    }
}

impl Request for AllocateProducerIdsRequest {
    const API: ApiKey = ApiKey::AllocateProducerIds;
    type Response = AllocateProducerIdsResponse;
}
