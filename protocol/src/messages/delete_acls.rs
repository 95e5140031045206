//! DeleteAcls (API key 31). Removes from access control lists.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Removes from access control lists.
    pub struct DeleteAclsRequest, versions 1..=3, flexible 2 {
        filters: Vec<DeleteAclsFilter> = Vec::new(), 1..;
    }

    /// Part of [`DeleteAclsRequest`].
    pub struct DeleteAclsFilter, versions 1..=3, flexible 2 {
        resource_type_filter: i8 = 0, 1..;
        resource_name_filter: Option<String> = None, 1..;
        pattern_type_filter: i8 = 3, 1..;
        principal_filter: Option<String> = None, 1..;
        host_filter: Option<String> = None, 1..;
        operation: i8 = 0, 1..;
        permission_type: i8 = 0, 1..;
    }
}

message! {
    /// Answers [`DeleteAclsRequest`].
    pub struct DeleteAclsResponse, versions 1..=3, flexible 2 {
        throttle_time_ms: i32 = 0, 1..;
        filter_results: Vec<DeleteAclsFilterResult> = Vec::new(), 1..;
    }

    /// Part of [`DeleteAclsResponse`].
    pub struct DeleteAclsFilterResult, versions 1..=3, flexible 2 {
        error_code: i16 = 0, 1..;
        error_message: Option<String> = None, 1..;
        matching_acls: Vec<DeleteAclsMatchingAcl> = Vec::new(), 1..;
    }

    /// Part of [`DeleteAclsResponse`].
    pub struct DeleteAclsMatchingAcl, versions 1..=3, flexible 2 {
        error_code: i16 = 0, 1..;
        error_message: Option<String> = None, 1..;
        resource_type: i8 = 0, 1..;
        resource_name: String = String::new(), 1..;
        pattern_type: i8 = 3, 1..;
        principal: String = String::new(), 1..;
        host: String = String::new(), 1..;
        operation: i8 = 0, 1..;
        permission_type: i8 = 0, 1..;
    }
}

impl Request for DeleteAclsRequest {
    const API: ApiKey = ApiKey::DeleteAcls;
    type Response = DeleteAclsResponse;
}
