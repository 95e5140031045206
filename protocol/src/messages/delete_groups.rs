//! DeleteGroups (API key 42). Deletes groups.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Deletes groups.
    pub struct DeleteGroupsRequest, versions 0..=2, flexible 2 {
        groups_names: Vec<String> = Vec::new(), 0..;
    }
}

message! {
    /// Answers [`DeleteGroupsRequest`].
    pub struct DeleteGroupsResponse, versions 0..=2, flexible 2 {
        throttle_time_ms: i32 = 0, 0..;
        results: Vec<DeletableGroupResult> = Vec::new(), 0..;
    }

    /// Part of [`DeleteGroupsResponse`].
    pub struct DeletableGroupResult, versions 0..=2, flexible 2 {
        group_id: String = String::new(), 0..;
        error_code: i16 = 0, 0..;
    }
}

impl Request for DeleteGroupsRequest {
    const API: ApiKey = ApiKey::DeleteGroups;
    type Response = DeleteGroupsResponse;
}
