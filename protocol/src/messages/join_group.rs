//! JoinGroup (API key 11). Joins a group, and takes part in its rebalance.

use bytes::Bytes;

use crate::wire::{ApiKey, Request, message};

message! {
    /// Joins a group, and takes part in its rebalance.
    pub struct JoinGroupRequest, versions 0..=9, flexible 6 {
        group_id: String = String::new(), 0..;
        session_timeout_ms: i32 = 0, 0..;
        rebalance_timeout_ms: i32 = -1, 1..;
        member_id: String = String::new(), 0..;
        group_instance_id: Option<String> = None, 5..;
        protocol_type: String = String::new(), 0..;
        protocols: Vec<JoinGroupRequestProtocol> = Vec::new(), 0..;
        reason: Option<String> = None, 8..;
    }

    /// Part of [`JoinGroupRequest`].
    pub struct JoinGroupRequestProtocol, versions 0..=9, flexible 6 {
        name: String = String::new(), 0..;
        metadata: Bytes = Bytes::new(), 0..;
    }
}

message! {
    /// Answers [`JoinGroupRequest`].
    pub struct JoinGroupResponse, versions 0..=9, flexible 6 {
        throttle_time_ms: i32 = 0, 2..;
        error_code: i16 = 0, 0..;
        generation_id: i32 = -1, 0..;
        protocol_type: Option<String> = None, 7..;
        protocol_name: Option<String> = Some(Default::default()), 0..;
        leader: String = String::new(), 0..;
        skip_assignment: bool = false, 9..;
        member_id: String = String::new(), 0..;
        members: Vec<JoinGroupResponseMember> = Vec::new(), 0..;
    }

    /// Part of [`JoinGroupResponse`].
    pub struct JoinGroupResponseMember, versions 0..=9, flexible 6 {
        member_id: String = String::new(), 0..;
        group_instance_id: Option<String> = None, 5..;
        metadata: Bytes = Bytes::new(), 0..;
    }
}

impl Request for JoinGroupRequest {
    const API: ApiKey = ApiKey::JoinGroup;
    type Response = JoinGroupResponse;
}
