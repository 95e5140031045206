//! AlterClientQuotas (API key 49). Changes clients' quotas (KIP-546).

use crate::wire::{ApiKey, Float64, Request, message};

message! {
    /// Changes clients' quotas (KIP-546).
    pub struct AlterClientQuotasRequest, versions 0..=1, flexible 1 {
        entries: Vec<EntryData> = Vec::new(), 0..;
        validate_only: bool = false, 0..;
    }

    /// Part of [`AlterClientQuotasRequest`].
    pub struct EntryData, versions 0..=1, flexible 1 {
        entity: Vec<EntityData> = Vec::new(), 0..;
        ops: Vec<OpData> = Vec::new(), 0..;
    }

    /// Part of [`AlterClientQuotasRequest`].
    pub struct EntityData, versions 0..=1, flexible 1 {
        entity_type: String = String::new(), 0..;
        entity_name: Option<String> = None, 0..;
    }

    /// Part of [`AlterClientQuotasRequest`].
    pub struct OpData, versions 0..=1, flexible 1 {
        key: String = String::new(), 0..;
        value: Float64 = Float64::default(), 0..;
        remove: bool = false, 0..;
    }
}

message! {
    /// Answers [`AlterClientQuotasRequest`].
    pub struct AlterClientQuotasResponse, versions 0..=1, flexible 1 {
        throttle_time_ms: i32 = 0, 0..;
        entries: Vec<EntryResult> = Vec::new(), 0..;
    }

    /// Part of [`AlterClientQuotasResponse`].
    pub struct EntryResult, versions 0..=1, flexible 1 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
        entity: Vec<EntityData> = Vec::new(), 0..;
    }
}

impl Request for AlterClientQuotasRequest {
    const API: ApiKey = ApiKey::AlterClientQuotas;
    type Response = AlterClientQuotasResponse;
}
