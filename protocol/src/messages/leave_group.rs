//! LeaveGroup (API key 13). Leaves a group.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Leaves a group.
    pub struct LeaveGroupRequest, versions 0..=5, flexible 4 {
        group_id: String = String::new(), 0..;
        member_id: String = String::new(), 0..=2;
        members: Vec<MemberIdentity> = Vec::new(), 3..;
    }

    /// Part of [`LeaveGroupRequest`].
    pub struct MemberIdentity, versions 0..=5, flexible 4 {
        member_id: String = String::new(), 3..;
        group_instance_id: Option<String> = None, 3..;
        reason: Option<String> = None, 5..;
    }
}

message! {
    /// Answers [`LeaveGroupRequest`].
    pub struct LeaveGroupResponse, versions 0..=5, flexible 4 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 0..;
        members: Vec<MemberResponse> = Vec::new(), 3..;
    }

    /// Part of [`LeaveGroupResponse`].
    pub struct MemberResponse, versions 0..=5, flexible 4 {
        member_id: String = String::new(), 3..;
        group_instance_id: Option<String> = Some(Default::default()), 3..;
        error_code: i16 = 0, 3..;
    }
}

impl Request for LeaveGroupRequest {
    const API: ApiKey = ApiKey::LeaveGroup;
    type Response = LeaveGroupResponse;
}
