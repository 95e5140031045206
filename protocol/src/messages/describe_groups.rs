//! DescribeGroups (API key 15). Tells the state and the members of groups.

use bytes::Bytes;

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells the state and the members of groups.
    pub struct DescribeGroupsRequest, versions 0..=6, flexible 5 {
        groups: Vec<String> = Vec::new(), 0..;
        include_authorized_operations: bool = false, 3..;
    }
}

message! {
    /// Answers [`DescribeGroupsRequest`].
    pub struct DescribeGroupsResponse, versions 0..=6, flexible 5 {
        throttle_time_ms: i32 = 0, 1..;
        groups: Vec<DescribedGroup> = Vec::new(), 0..;
    }

    /// Part of [`DescribeGroupsResponse`].
    pub struct DescribedGroup, versions 0..=6, flexible 5 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 6..;
        group_id: String = String::new(), 0..;
        group_state: String = String::new(), 0..;
        protocol_type: String = String::new(), 0..;
        protocol_data: String = String::new(), 0..;
        members: Vec<DescribedGroupMember> = Vec::new(), 0..;
        authorized_operations: i32 = i32::MIN, 3..;
    }

    /// Part of [`DescribeGroupsResponse`].
    pub struct DescribedGroupMember, versions 0..=6, flexible 5 {
        member_id: String = String::new(), 0..;
        group_instance_id: Option<String> = None, 4..;
        client_id: String = String::new(), 0..;
        client_host: String = String::new(), 0..;
        member_metadata: Bytes = Bytes::new(), 0..;
        member_assignment: Bytes = Bytes::new(), 0..;
    }
}

impl Request for DescribeGroupsRequest {
    const API: ApiKey = ApiKey::DescribeGroups;
    type Response = DescribeGroupsResponse;
}
