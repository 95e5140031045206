//! BrokerHeartbeat (API key 63). A broker tells the controller that it lives (KIP-631).
//!
//! Between brokers only.

use crate::vocabulary::TopicId;
use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells that a broker lives, and what it wants.
    pub struct BrokerHeartbeatRequest, versions 0..=1, flexible 0 {
        broker_id: i32 = 0, 0..;
        broker_epoch: i64 = -1, 0..;
        current_metadata_offset: i64 = 0, 0..;
        want_fence: bool = false, 0..;
        want_shut_down: bool = false, 0..;
    } tagged {
        0 => offline_log_dirs: Vec<TopicId> = Vec::new(), 1..;
    }
}

message! {
    /// Answers [`BrokerHeartbeatRequest`].
    pub struct BrokerHeartbeatResponse, versions 0..=1, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        is_caught_up: bool = false, 0..;
        is_fenced: bool = true, 0..;
        should_shut_down: bool = false, 0..;
    }
}

impl Request for BrokerHeartbeatRequest {
    const API: ApiKey = ApiKey::BrokerHeartbeat;
    type Response = BrokerHeartbeatResponse;
}
