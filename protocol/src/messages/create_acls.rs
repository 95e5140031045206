//! CreateAcls (API key 30). Adds to access control lists.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Adds to access control lists.
    pub struct CreateAclsRequest, versions 1..=3, flexible 2 {
        creations: Vec<AclCreation> = Vec::new(), 1..;
    }

    /// Part of [`CreateAclsRequest`].
    pub struct AclCreation, versions 1..=3, flexible 2 {
        resource_type: i8 = 0, 1..;
        resource_name: String = String::new(), 1..;
        resource_pattern_type: i8 = 3, 1..;
        principal: String = String::new(), 1..;
        host: String = String::new(), 1..;
        operation: i8 = 0, 1..;
        permission_type: i8 = 0, 1..;
    }
}

message! {
    /// Answers [`CreateAclsRequest`].
    pub struct CreateAclsResponse, versions 1..=3, flexible 2 {
        throttle_time_ms: i32 = 0, 1..;
        results: Vec<AclCreationResult> = Vec::new(), 1..;
    }

    /// Part of [`CreateAclsResponse`].
    pub struct AclCreationResult, versions 1..=3, flexible 2 {
        error_code: i16 = 0, 1..;
        error_message: Option<String> = None, 1..;
    }
}

impl Request for CreateAclsRequest {
    const API: ApiKey = ApiKey::CreateAcls;
    type Response = CreateAclsResponse;
}
