//! ListGroups (API key 16). Lists groups.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Lists groups.
    pub struct ListGroupsRequest, versions 0..=5, flexible 3 {
        states_filter: Vec<String> = Vec::new(), 4..;
        types_filter: Vec<String> = Vec::new(), 5..;
    }
}

message! {
    /// Answers [`ListGroupsRequest`].
    pub struct ListGroupsResponse, versions 0..=5, flexible 3 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 0..;
        groups: Vec<ListedGroup> = Vec::new(), 0..;
    }

    /// Part of [`ListGroupsResponse`].
    pub struct ListedGroup, versions 0..=5, flexible 3 {
        group_id: String = String::new(), 0..;
        protocol_type: String = String::new(), 0..;
        group_state: String = String::new(), 4..;
        group_type: String = String::new(), 5..;
    }
}

impl Request for ListGroupsRequest {
    const API: ApiKey = ApiKey::ListGroups;
    type Response = ListGroupsResponse;
}
