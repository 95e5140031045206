//! AlterConfigs (API key 33). Replaces configurations whole.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Replaces configurations whole.
    pub struct AlterConfigsRequest, versions 0..=2, flexible 2 {
        resources: Vec<AlterConfigsResource> = Vec::new(), 0..;
        validate_only: bool = false, 0..;
    }

    /// Part of [`AlterConfigsRequest`].
    pub struct AlterConfigsResource, versions 0..=2, flexible 2 {
        resource_type: i8 = 0, 0..;
        resource_name: String = String::new(), 0..;
        configs: Vec<AlterableConfig> = Vec::new(), 0..;
    }

    /// Part of [`AlterConfigsRequest`].
    pub struct AlterableConfig, versions 0..=2, flexible 2 {
        name: String = String::new(), 0..;
        value: Option<String> = Some(Default::default()), 0..;
    }
}

message! {
    /// Answers [`AlterConfigsRequest`].
    pub struct AlterConfigsResponse, versions 0..=2, flexible 2 {
        throttle_time_ms: i32 = 0, 0..;
        responses: Vec<AlterConfigsResourceResponse> = Vec::new(), 0..;
    }

    /// Part of [`AlterConfigsResponse`].
    pub struct AlterConfigsResourceResponse, versions 0..=2, flexible 2 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = Some(Default::default()), 0..;
        resource_type: i8 = 0, 0..;
        resource_name: String = String::new(), 0..;
    }
}

impl Request for AlterConfigsRequest {
    const API: ApiKey = ApiKey::AlterConfigs;
    type Response = AlterConfigsResponse;
}
