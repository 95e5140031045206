//! SaslAuthenticate (API key 36). Carries SASL tokens.

use bytes::Bytes;

use crate::wire::{ApiKey, Request, message};

message! {
    /// Carries SASL tokens.
    pub struct SaslAuthenticateRequest, versions 0..=2, flexible 2 {
        auth_bytes: Bytes = Bytes::new(), 0..;
    }
}

message! {
    /// Answers [`SaslAuthenticateRequest`].
    pub struct SaslAuthenticateResponse, versions 0..=2, flexible 2 {
        error_code: i16 = 0, 0..;
        error_message: Option<String> = Some(Default::default()), 0..;
        auth_bytes: Bytes = Bytes::new(), 0..;
        session_lifetime_ms: i64 = 0, 1..;
    }
}

impl Request for SaslAuthenticateRequest {
    const API: ApiKey = ApiKey::SaslAuthenticate;
    type Response = SaslAuthenticateResponse;
}
