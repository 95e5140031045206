//! DescribeClientQuotas (API key 48). Reads clients' quotas (KIP-546).

use crate::wire::{ApiKey, Float64, Request, message};

message! {
    /// Reads clients' quotas (KIP-546).
    pub struct DescribeClientQuotasRequest, versions 0..=1, flexible 1 {
        components: Vec<ComponentData> = Vec::new(), 0..;
        strict: bool = false, 0..;
    }

    /// Part of [`DescribeClientQuotasRequest`].
    pub struct ComponentData, versions 0..=1, flexible 1 {
        entity_type: String = String::new(), 0..;
        match_type: i8 = 0, 0..;
        match_name: Option<String> = None, 0..;
    }
}

message! {
    /// Answers [`DescribeClientQuotasRequest`].
    pub struct DescribeClientQuotasResponse, versions 0..=1, flexible 1 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        entries: Option<Vec<EntryData>> = Some(Vec::new()), 0..;
    }

    /// Part of [`DescribeClientQuotasResponse`].
    pub struct EntryData, versions 0..=1, flexible 1 {
        entity: Vec<EntityData> = Vec::new(), 0..;
        values: Vec<ValueData> = Vec::new(), 0..;
    }

    /// Part of [`DescribeClientQuotasResponse`].
    pub struct EntityData, versions 0..=1, flexible 1 {
        entity_type: String = String::new(), 0..;
        entity_name: Option<String> = None, 0..;
    }

    /// Part of [`DescribeClientQuotasResponse`].
    pub struct ValueData, versions 0..=1, flexible 1 {
        key: String = String::new(), 0..;
        value: Float64 = Float64::default(), 0..;
    }
}

impl Request for DescribeClientQuotasRequest {
    const API: ApiKey = ApiKey::DescribeClientQuotas;
    type Response = DescribeClientQuotasResponse;
}
