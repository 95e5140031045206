//! DescribeAcls (API key 29). Reads access control lists.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Reads access control lists.
    pub struct DescribeAclsRequest, versions 1..=3, flexible 2 {
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
    /// Answers [`DescribeAclsRequest`].
    pub struct DescribeAclsResponse, versions 1..=3, flexible 2 {
        throttle_time_ms: i32 = 0, 1..;
        error_code: i16 = 0, 1..;
        error_message: Option<String> = None, 1..;
        resources: Vec<DescribeAclsResource> = Vec::new(), 1..;
    }

    /// Part of [`DescribeAclsResponse`].
    pub struct DescribeAclsResource, versions 1..=3, flexible 2 {
        resource_type: i8 = 0, 1..;
        resource_name: String = String::new(), 1..;
        pattern_type: i8 = 3, 1..;
        acls: Vec<AclDescription> = Vec::new(), 1..;
    }

    /// Part of [`DescribeAclsResponse`].
    pub struct AclDescription, versions 1..=3, flexible 2 {
        principal: String = String::new(), 1..;
        host: String = String::new(), 1..;
        operation: i8 = 0, 1..;
        permission_type: i8 = 0, 1..;
    }
}

impl Request for DescribeAclsRequest {
    const API: ApiKey = ApiKey::DescribeAcls;
    type Response = DescribeAclsResponse;
}
