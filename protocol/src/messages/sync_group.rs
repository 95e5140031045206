//! SyncGroup (API key 14). Hands out the assignment of a generation.

use bytes::Bytes;

use crate::wire::{ApiKey, Request, message};

message! {
    /// Hands out the assignment of a generation.
    pub struct SyncGroupRequest, versions 0..=5, flexible 4 {
        group_id: String = String::new(), 0..;
        generation_id: i32 = 0, 0..;
        member_id: String = String::new(), 0..;
        group_instance_id: Option<String> = None, 3..;
        protocol_type: Option<String> = None, 5..;
        protocol_name: Option<String> = None, 5..;
        assignments: Vec<SyncGroupRequestAssignment> = Vec::new(), 0..;
    }

    /// Part of [`SyncGroupRequest`].
    pub struct SyncGroupRequestAssignment, versions 0..=5, flexible 4 {
        member_id: String = String::new(), 0..;
        assignment: Bytes = Bytes::new(), 0..;
    }
}

message! {
    /// Answers [`SyncGroupRequest`].
    pub struct SyncGroupResponse, versions 0..=5, flexible 4 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 0..;
        protocol_type: Option<String> = None, 5..;
        protocol_name: Option<String> = None, 5..;
        assignment: Bytes = Bytes::new(), 0..;
    }
}

impl Request for SyncGroupRequest {
    const API: ApiKey = ApiKey::SyncGroup;
    type Response = SyncGroupResponse;
}
