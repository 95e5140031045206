//! Heartbeat (API key 12). Keeps a group member alive.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Keeps a group member alive.
    pub struct HeartbeatRequest, versions 0..=4, flexible 4 {
        group_id: String = String::new(), 0..;
        generation_id: i32 = 0, 0..;
        member_id: String = String::new(), 0..;
        group_instance_id: Option<String> = None, 3..;
    }
}

message! {
    /// Answers [`HeartbeatRequest`].
    pub struct HeartbeatResponse, versions 0..=4, flexible 4 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 0..;
    }
}

impl Request for HeartbeatRequest {
    const API: ApiKey = ApiKey::Heartbeat;
    type Response = HeartbeatResponse;
}
