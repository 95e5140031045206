//! InitProducerId (API key 22). Hands out a producer id and epoch (KIP-98).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Hands out a producer id and epoch (KIP-98).
    pub struct InitProducerIdRequest, versions 0..=5, flexible 2 {
        transactional_id: Option<String> = Some(Default::default()), 0..;
        transaction_timeout_ms: i32 = 0, 0..;
        producer_id: i64 = -1, 3..;
        producer_epoch: i16 = -1, 3..;
    }
}

message! {
    /// Answers [`InitProducerIdRequest`].
    pub struct InitProducerIdResponse, versions 0..=5, flexible 2 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        producer_id: i64 = -1, 0..;
        producer_epoch: i16 = 0, 0..;
    }
}

impl Request for InitProducerIdRequest {
    const API: ApiKey = ApiKey::InitProducerId;
    type Response = InitProducerIdResponse;
}
