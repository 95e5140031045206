//! FindCoordinator (API key 10). Tells which broker coordinates a group or transaction.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells which broker coordinates a group or transaction.
    pub struct FindCoordinatorRequest, versions 0..=6, flexible 3 {
        key: String = String::new(), 0..=3;
        key_type: i8 = 0, 1..;
        coordinator_keys: Vec<String> = Vec::new(), 4..;
    }
}

message! {
    /// Answers [`FindCoordinatorRequest`].
    pub struct FindCoordinatorResponse, versions 0..=6, flexible 3 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 0..=3;
        error_message: Option<String> = Some(Default::default()), 1..=3;
        node_id: i32 = 0, 0..=3;
        host: String = String::new(), 0..=3;
        port: i32 = 0, 0..=3;
        coordinators: Vec<Coordinator> = Vec::new(), 4..;
    }

    /// Part of [`FindCoordinatorResponse`].
    pub struct Coordinator, versions 0..=6, flexible 3 {
        key: String = String::new(), 4..;
        node_id: i32 = 0, 4..;
        host: String = String::new(), 4..;
        port: i32 = 0, 4..;
        error_code: i16 = 0, 4..;
        error_message: Option<String> = Some(Default::default()), 4..;
    }
}

impl Request for FindCoordinatorRequest {
    const API: ApiKey = ApiKey::FindCoordinator;
    type Response = FindCoordinatorResponse;
}
