//! UnregisterBroker (API key 64). Takes out a broker that never comes back (KIP-500).

use crate::wire::{ApiKey, Request, message};

message! {
    /// Takes out a broker that never comes back.
    pub struct UnregisterBrokerRequest, versions 0..=0, flexible 0 {
        broker_id: i32 = 0, 0..;
    }
}

message! {
    /// Answers [`UnregisterBrokerRequest`].
    pub struct UnregisterBrokerResponse, versions 0..=0, flexible 0 {
        throttle_time_ms: i32 = 0, 0..;
        error_code: i16 = 0, 0..;
        error_message: Option<String> = None, 0..;
    }
}

impl Request for UnregisterBrokerRequest {
    const API: ApiKey = ApiKey::UnregisterBroker;
    type Response = UnregisterBrokerResponse;
}
