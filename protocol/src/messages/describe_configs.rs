//! DescribeConfigs (API key 32). Tells configurations and where their values come from.

use crate::wire::{ApiKey, Request, message};

message! {
    /// Tells configurations and where their values come from.
    pub struct DescribeConfigsRequest, versions 1..=4, flexible 4 {
        resources: Vec<DescribeConfigsResource> = Vec::new(), 1..;
        include_synonyms: bool = false, 1..;
        include_documentation: bool = false, 3..;
    }

    /// Part of [`DescribeConfigsRequest`].
    pub struct DescribeConfigsResource, versions 1..=4, flexible 4 {
        resource_type: i8 = 0, 1..;
        resource_name: String = String::new(), 1..;
        configuration_keys: Option<Vec<String>> = Some(Default::default()), 1..;
    }
}

message! {
    /// Answers [`DescribeConfigsRequest`].
    pub struct DescribeConfigsResponse, versions 1..=4, flexible 4 {
        throttle_time_ms: i32 = 0, 1..;
        results: Vec<DescribeConfigsResult> = Vec::new(), 1..;
    }

    /// Part of [`DescribeConfigsResponse`].
    pub struct DescribeConfigsResult, versions 1..=4, flexible 4 {
        error_code: i16 = 0, 1..;
        error_message: Option<String> = Some(Default::default()), 1..;
        resource_type: i8 = 0, 1..;
        resource_name: String = String::new(), 1..;
        configs: Vec<DescribeConfigsResourceResult> = Vec::new(), 1..;
    }

    /// Part of [`DescribeConfigsResponse`].
    pub struct DescribeConfigsResourceResult, versions 1..=4, flexible 4 {
        name: String = String::new(), 1..;
        value: Option<String> = Some(Default::default()), 1..;
        read_only: bool = false, 1..;
        config_source: i8 = -1, 1..;
        is_sensitive: bool = false, 1..;
        synonyms: Vec<DescribeConfigsSynonym> = Vec::new(), 1..;
        config_type: i8 = 0, 3..;
        documentation: Option<String> = Some(Default::default()), 3..;
    }

    /// Part of [`DescribeConfigsResponse`].
    pub struct DescribeConfigsSynonym, versions 1..=4, flexible 4 {
        name: String = String::new(), 1..;
        value: Option<String> = Some(Default::default()), 1..;
        source: i8 = 0, 1..;
    }
}

impl Request for DescribeConfigsRequest {
    const API: ApiKey = ApiKey::DescribeConfigs;
    type Response = DescribeConfigsResponse;
}
