//! ApiVersions (API key 18). Tells which APIs and versions a broker serves (KIP-35, KIP-511).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells which APIs and versions a broker serves (KIP-35, KIP-511).
    pub struct ApiVersionsRequest, versions 0..=4, flexible 3 {
        client_software_name: String = String::new(), 3..;
        client_software_version: String = String::new(), 3..;
    }
}

message! {
    /// Answers [`ApiVersionsRequest`].
    pub struct ApiVersionsResponse, versions 0..=4, flexible 3 {
        error_code: i16 = 0, 0..;
        api_keys: Vec<ApiVersion> = Vec::new(), 0..;
        throttle_time_ms: i32 = 0, 1..;
    } tagged {
        0 => supported_features: Vec<SupportedFeatureKey> = Vec::new(), 3..;
        1 => finalized_features_epoch: i64 = -1, 3..;
        2 => finalized_features: Vec<FinalizedFeatureKey> = Vec::new(), 3..;
        3 => zk_migration_ready: bool = false, 3..;
    }

    /// Part of [`ApiVersionsResponse`].
    pub struct ApiVersion, versions 0..=4, flexible 3 {
        api_key: i16 = 0, 0..;
        min_version: i16 = 0, 0..;
        max_version: i16 = 0, 0..;
    }

    /// Part of [`ApiVersionsResponse`].
    pub struct SupportedFeatureKey, versions 0..=4, flexible 3 {
        name: String = String::new(), 3..;
        min_version: i16 = 0, 3..;
        max_version: i16 = 0, 3..;
    }

    /// Part of [`ApiVersionsResponse`].
    pub struct FinalizedFeatureKey, versions 0..=4, flexible 3 {
        name: String = String::new(), 3..;
        max_version_level: i16 = 0, 3..;
        min_version_level: i16 = 0, 3..;
    }
}

impl Request for ApiVersionsRequest {
    const API: ApiKey = ApiKey::ApiVersions;
    type Response = ApiVersionsResponse;
}
