//! ListConfigResources (API key 74). Lists what has configurations (KIP-1142).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Lists what has configurations (KIP-1142).
    pub struct ListConfigResourcesRequest, versions 0..=1, flexible 0 {
        resource_types: Vec<i8> = Vec::new(), 1..;
    }
}

message! {
    /// Answers [`ListConfigResourcesRequest`].
    pub struct ListConfigResourcesResponse, versions 0..=1, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        config_resources: Vec<ConfigResource> = Vec::new(), 0..;
    }

    /// Part of [`ListConfigResourcesResponse`].
    pub struct ConfigResource, versions 0..=1, flexible 0 {
        resource_name: String = String::new(), 0..;
        resource_type: i8 = 16, 1..;
    }
}

impl Request for ListConfigResourcesRequest {
    const API: ApiKey = ApiKey::ListConfigResources;
    type Response = ListConfigResourcesResponse;
}
