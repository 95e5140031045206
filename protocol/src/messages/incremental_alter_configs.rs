//! IncrementalAlterConfigs (API key 44). Changes single configurations (KIP-339).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Changes single configurations (KIP-339).
    pub struct IncrementalAlterConfigsRequest, versions 0..=1, flexible 1 {
        resources: Vec<AlterConfigsResource> = Vec::new(), 0..;
        validate_only: bool = false, 0..;
    }

    /// Part of [`IncrementalAlterConfigsRequest`].
    pub struct AlterConfigsResource, versions 0..=1, flexible 1 {
        resource_type: i8 = 0, 0..;
        resource_name: String = String::new(), 0..;
        configs: Vec<AlterableConfig> = Vec::new(), 0..;
    }

    /// Part of [`IncrementalAlterConfigsRequest`].
    pub struct AlterableConfig, versions 0..=1, flexible 1 {
        name: String = String::new(), 0..;
        config_operation: i8 = 0, 0..;
        value: Option<String> = Some(Default::default()), 0..;
    }
}

message! {
    /// Answers [`IncrementalAlterConfigsRequest`].
    pub struct IncrementalAlterConfigsResponse, versions 0..=1, flexible 1 {
        throttle_time_ms: i32 = 0, 0..;
        responses: Vec<AlterConfigsResourceResponse> = Vec::new(), 0..;
    }

    /// Part of [`IncrementalAlterConfigsResponse`].
    pub struct AlterConfigsResourceResponse, versions 0..=1, flexible 1 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = Some(Default::default()), 0..;
        resource_type: i8 = 0, 0..;
        resource_name: String = String::new(), 0..;
    }
}

impl Request for IncrementalAlterConfigsRequest {
    const API: ApiKey = ApiKey::IncrementalAlterConfigs;
    type Response = IncrementalAlterConfigsResponse;
}
